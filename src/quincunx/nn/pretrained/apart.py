"""Attention of texts that lie behind one another, each seeing itself alone: forward and backward pass by hand.

Left to autograd, every group of equally long texts would be cut out, widened, put back and summed by operations of its
own over the whole batch. Here each is read, widened and written once, while it is in the processor's cache, and what is
kept for the backward pass stays in the precision that it came in.

T tokens of all texts, H heads, E width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from quincunx.nn.dropout import CounterDropout

FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
"""What `scaled_dot_product_attention` computes by on a CPU; it hands out no sums of weights, which this needs."""

Groups = Sequence[tuple[int, int]]
"""(texts, tokens of each), in the order in which they lie."""


def attend_apart(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    groups: Groups,
    scale: float | None = None,
    dropout: tuple[CounterDropout, Tensor] | None = None,
) -> Tensor:
    """Return what each text's tokens take from its own; on a CPU.

    Half precisions are computed in float32: torch's kernel for them takes several times as long in the backward pass.

    Args:
        query: `[T, H, E]`.
        key: `[T, H, E]`, maybe of another precision.
        value: The same.
        groups: Of T tokens together.
        scale: Factor of the products; None: 1/sqrt(E).
        dropout: On the weights, of three leading dimensions, and the word of each text in the order in which they lie
            `[B]`; None: there is none.

    Returns:
        `[T, H, E]` in the precision of the query. It can be differentiated once.
    """
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    module, words = (None, None) if dropout is None else dropout
    return _Apart.apply(query, key, value, groups, factor, module, words)  # pyright: ignore[reportReturnType]


class _Apart(torch.autograd.Function):
    """See `attend_apart`. Neither weights nor masks are kept: of the first only the logarithms of their sums, and the
    second are computed again."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        groups: Groups,
        scale: float,
        dropout: CounterDropout | None,
        words: Tensor | None,
    ) -> Tensor:
        found = query.new_empty(query.shape)
        sums: list[Tensor] = []
        for (rows, sizes), mask in zip(_spans(groups), _masks(groups, dropout, words), strict=True):
            q, k, v = (_texts(each[rows], sizes) for each in (query, key, value))
            out, logs = _attend(q, k, v, scale, mask)
            _put(found[rows], sizes, out)
            sums.append(logs)
        ctx.save_for_backward(query, key, value, found, words, *sums)
        ctx.options = (groups, scale, dropout)
        return found

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, ...]:
        query, key, value, found, words, *sums = ctx.saved_tensors
        groups, scale, dropout = ctx.options
        gradients = [each.new_empty(each.shape) for each in (query, key, value)]
        for (rows, sizes), mask, logs in zip(_spans(groups), _masks(groups, dropout, words), sums, strict=True):
            q, k, v, out, of_out = (_texts(each[rows], sizes) for each in (query, key, value, found, gradient))
            for whole, part in zip(gradients, _gradients(of_out, q, k, v, out, logs, scale, mask), strict=True):
                _put(whole[rows], sizes, part)
        return (*gradients, None, None, None, None)


Mask = Callable[[Tensor], Tensor]
"""What weights `[texts, H, tokens, tokens]` are multiplied by."""


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Mask | None) -> tuple[Tensor, Tensor]:
    """Return what texts `[texts, H, tokens, E]` take from themselves, and the logarithms of their sums of weights."""
    if mask is None:
        return FLASH(q, k, v, scale=scale)
    weights = (q * scale) @ k.mT
    logs = weights.logsumexp(dim=-1, keepdim=True)
    weights.sub_(logs).exp_()
    return weights.mul_(mask(weights)) @ v, logs


def _gradients(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, logs: Tensor, scale: float, mask: Mask | None
) -> Sequence[Tensor]:
    """Return the gradients of query, key and value from that of what `_attend` returned."""
    if mask is None:
        return FLASH_BACKWARD(gradient, q, k, v, out, logs, 0.0, False, scale=scale)
    weights = ((q * scale) @ k.mT).sub_(logs).exp_()
    kept = mask(weights)
    of_value = (weights * kept).mT @ gradient
    of_scores = (gradient @ v.mT).mul_(kept).sub_((gradient * out).sum(dim=-1, keepdim=True)).mul_(weights)
    return of_scores @ k * scale, of_scores.mT @ q * scale, of_value


def _masks(groups: Groups, dropout: CounterDropout | None, words: Tensor | None) -> Iterator[Mask | None]:
    """Yield the mask of each group's weights; None where none is dropped."""
    if dropout is None or words is None:
        yield from (None for _ in groups)
        return
    for some in words.split([count for count, _ in groups]):
        yield lambda weights, some=some: dropout.mask(some, weights.shape, weights.dtype)


def _spans(groups: Groups) -> Iterator[tuple[slice, tuple[int, int]]]:
    """Yield where each group lies, with its sizes."""
    start = 0
    for count, size in groups:
        yield slice(start, start + count * size), (count, size)
        start += count * size


def _texts(tokens: Tensor, sizes: tuple[int, int]) -> Tensor:
    """Return `[texts, H, tokens, E]` of a group's `[texts * tokens, H, E]`, in float32 at least."""
    wide = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    return wide.unflatten(0, sizes).transpose(1, 2)


def _put(place: Tensor, sizes: tuple[int, int], texts: Tensor) -> None:
    """Write a group's `[texts, H, tokens, E]` to its place `[texts * tokens, H, E]`."""
    place.unflatten(0, sizes).copy_(texts.transpose(1, 2))
