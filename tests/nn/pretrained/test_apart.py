"""Attention of texts that lie behind one another, beside attention written out text by text."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from quincunx.nn.dropout import CounterDropout
from quincunx.nn.pretrained.apart import attend_apart
from quincunx.nn.rows import RowContext, attach_rows

GROUPS = [(3, 1), (2, 4), (1, 7)]
TOKENS, HEADS, WIDTH = 18, 2, 4


def written_out(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """`[T, H, E]`: softmax(scale * q k') v, one text after the other."""
    found, start = [], 0
    for count, size in GROUPS:
        for _ in range(count):
            q, k, v = (each[start : start + size] for each in (query, key, value))
            weights = torch.einsum("qhe,khe->hqk", q, k).mul(scale).softmax(dim=-1)
            found.append(torch.einsum("hqk,khe->qhe", weights, v))
            start += size
    return torch.cat(found)


def made(*dtypes: torch.dtype) -> list[Tensor]:
    """Query, key and value as an encoder hands them over: views of `[T, H * E]`."""
    generator = torch.Generator().manual_seed(1)
    flat = [torch.randn(TOKENS, HEADS * WIDTH, generator=generator).to(dtype) for dtype in dtypes]
    return [each.requires_grad_().view(TOKENS, HEADS, WIDTH) for each in flat]


def learnt(found: Tensor, parts: list[Tensor]) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 2, found.numel(), dtype=found.dtype).view(WIDTH, TOKENS, HEADS).permute(1, 2, 0)
    return torch.autograd.grad((found * weights).sum(), parts)


@pytest.mark.parametrize("scale", [None, 0.3])
def test_values_and_gradients_are_those_of_attention_written_out(scale: float | None) -> None:
    parts = made(*[torch.float64] * 3)
    found, expected = attend_apart(*parts, GROUPS, scale), written_out(*parts, scale or WIDTH**-0.5)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    for ours, theirs in zip(learnt(found, parts), learnt(expected, parts), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_no_text_sees_another() -> None:
    query, key, value = made(*[torch.float64] * 3)
    before = attend_apart(query, key, value, GROUPS)
    with torch.no_grad():
        key[4], value[4] = 100.0, 100.0  # a token of the first text of four
    after = attend_apart(query, key, value, GROUPS)
    changed = (before != after).flatten(1).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [3, 4, 5, 6]


def test_each_gradient_has_the_precision_of_what_it_belongs_to() -> None:
    """Adapters may give one of the three in float32; values differ from float64's by the rounding of bf16 alone."""
    parts = made(torch.bfloat16, torch.float32, torch.bfloat16)
    exact = [part.detach().double().requires_grad_() for part in parts]
    found, expected = attend_apart(*parts, GROUPS), attend_apart(*exact, GROUPS)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=1e-6)
    for part, ours, theirs in zip(parts, learnt(found, parts), learnt(expected, exact), strict=True):
        assert ours.dtype == part.dtype
        torch.testing.assert_close(ours.double(), theirs, rtol=0.02, atol=0.02)


def test_what_is_kept_is_not_widened() -> None:
    parts = made(*[torch.bfloat16] * 3)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        attend_apart(*parts, GROUPS)
    wide = [tensor for tensor in kept if tensor.dtype != torch.bfloat16]
    assert len(kept) - len(wide) == 4  # query, key, value and what came out
    assert sum(tensor.numel() for tensor in wide) == TOKENS * HEADS  # the logarithm of each token's sum of weights


def dropping(p: float) -> tuple[CounterDropout, RowContext]:
    dropout = CounterDropout(p, leading=3)
    context = attach_rows(dropout)
    assert context is not None
    context.set(5, torch.arange(6))
    return dropout, context


def test_dropped_weights_are_those_of_a_padded_batch() -> None:
    """Text by text: softmax, times the mask that the text's row has in a batch of its own, times the values."""
    dropout, context = dropping(0.4)
    parts = made(*[torch.float64] * 3)
    order = torch.tensor([4, 0, 1, 5, 2, 3])  # which row each text is
    found = attend_apart(*parts, GROUPS, 0.5, (dropout, context.known()[order]))
    expected, start = [], 0
    for row, size in zip(order.tolist(), [size for count, size in GROUPS for _ in range(count)], strict=True):
        q, k, v = (each[start : start + size].transpose(0, 1)[None] for each in parts)
        weights = (0.5 * q @ k.mT).softmax(dim=-1)
        context.set(5, torch.tensor([row]))
        expected.append((dropout(weights) @ v)[0].transpose(0, 1))
        start += size
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-12, atol=1e-13)
    context.set(99, torch.arange(6))  # the backward pass comes when other rows are set
    for ours, theirs in zip(learnt(found, parts), learnt(torch.cat(expected), parts), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


def test_neither_weights_nor_masks_are_kept() -> None:
    dropout, context = dropping(0.4)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        attend_apart(*made(*[torch.float32] * 3), GROUPS, None, (dropout, context.known()))
    assert sum(tensor.numel() for tensor in kept) == 4 * TOKENS * HEADS * WIDTH + TOKENS * HEADS + 6
