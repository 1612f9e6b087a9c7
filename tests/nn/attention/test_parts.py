"""Computing in parts: the same values and gradients as at once, and nothing kept but the inputs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.nn.attention import parts
from quincunx.nn.attention.parts import in_parts, without_autocast


def token_wise(x, weight, place):
    """Two results of each token; `weight` belongs to heads, `place` to tokens."""
    return (x * weight).tanh() * place, (x * x).sum(-1) * weight[..., 0]


def head_wise(x, weight, place):
    """Results that need a head's whole sequence, one of them without a sequence."""
    return (x * weight * place).cumsum(2), (x * x * x).sum(2, keepdim=True)


def arguments(batch: int, heads: int, length: int):
    generator = torch.Generator().manual_seed(3)
    shapes = ((batch, heads, length, 3), (1, heads, 1, 1))
    tensors = [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]
    return [*tensors, torch.arange(length)[None, None, :, None] % 5]


def results_and_gradients(call, tensors):
    results = call(*tensors)
    generator = torch.Generator().manual_seed(4)
    factors = [torch.randn(result.shape, dtype=torch.float64, generator=generator) for result in results]
    return [*results, *torch.autograd.grad(results, tensors[:2], factors)]


@pytest.mark.parametrize("function", [token_wise, head_wise])
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 9), st.integers(1, 400))
def test_any_cut_gives_the_same_values_and_gradients(function, batch, heads, length, part):
    tensors = arguments(batch, heads, length)
    before = parts.PART
    parts.PART = part
    try:
        found = results_and_gradients(
            lambda *given: in_parts(function, *given, token_bytes=24, tokens=function is token_wise), tensors
        )
    finally:
        parts.PART = before
    for mine, expected in zip(found, results_and_gradients(function, tensors), strict=True):
        assert mine.shape == expected.shape
        assert torch.allclose(mine, expected, atol=1e-12)


def test_parts_are_as_large_as_allowed_and_no_larger(monkeypatch):
    monkeypatch.setattr(parts, "PART", 240)
    sizes: list[torch.Size] = []

    def watch(x):
        sizes.append(x.shape[:3])
        return (x * 1,)

    def seen(batch: int, heads: int, length: int, tokens: bool = True) -> set[tuple[int, ...]]:
        sizes.clear()
        in_parts(watch, torch.zeros(batch, heads, length, 1), token_bytes=24, tokens=tokens)
        return {tuple(size) for size in sizes}

    assert seen(6, 2, 2) == {(2, 2, 2)}  # 4 tokens a row: two rows make a part
    assert seen(2, 4, 5) == {(1, 2, 5)}
    assert seen(2, 3, 25) == {(1, 1, 10), (1, 1, 5)}
    assert seen(2, 3, 25, tokens=False) == {(1, 1, 25)}


def test_nothing_is_kept_for_the_backward_pass_but_the_inputs():
    tensors = arguments(2, 2, 5)
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        in_parts(token_wise, *tensors, token_bytes=24)
    assert {tensor.data_ptr() for tensor in kept} == {tensor.data_ptr() for tensor in tensors}
    assert len(kept) == len(tensors)


def test_a_batch_or_a_sequence_of_nothing_gives_nothing():
    for shape in ((0, 2, 3, 4), (2, 2, 0, 4)):
        x = torch.zeros(shape, requires_grad=True)
        (y,) = in_parts(lambda x: (x * 2,), x, token_bytes=8)
        y.sum().backward()
        assert y.shape == shape and x.grad is not None


def test_without_autocast_products_keep_their_dtype_also_where_there_is_no_autocast():
    x = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with without_autocast(x):
            assert (x @ x).dtype == torch.float32
    with without_autocast(torch.ones(2, device="meta")):
        pass
