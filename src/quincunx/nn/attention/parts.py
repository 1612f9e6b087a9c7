"""Computing in parts small enough for the processor's cache, keeping nothing for the backward pass but the inputs.

Transforms of whole batches write temporaries that are as large as the batch and are read once: on a CPU they cost
several times what they cost in parts of a megabyte, and blocks of 32 MiB or more are never used again by the allocator.

B batch, H heads, S sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PART = 1 << 20
"""Bytes of the largest temporary of a part, where cutting allows."""

Cut = tuple[slice, slice, slice]
"""The rows, heads and tokens of a part."""

WHOLE = slice(None)


def in_parts(
    function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor, token_bytes: int, tokens: bool = True
) -> tuple[Tensor, ...]:
    """Return `function(*tensors)`, computed part by part, and once more part by part in the backward pass.

    Only the tensors themselves are kept for it. One head of one row is the smallest part where tokens may not be cut:
    its temporaries then grow with the sequence. A compiled graph, and a device other than a CPU, gets one part.

    Args:
        function: Of tensors alone, without randomness, the rows, heads and (with `tokens`) tokens of its results
            depending on the same of its arguments alone. It gets cuts of them.
        tensors: Each `[B, H, S, ...]`, or 1 in place of any of the three, which is then never cut: every part gets it.
        token_bytes: Size of the largest temporary that one token of one head needs.
        tokens: The sequence may be cut too.

    Returns:
        The function's results `[B, H, ...]`, their third dimension the sequence's if tokens may be cut.
    """
    if torch.compiler.is_compiling():
        return function(*tensors)
    sizes = [max(tensor.shape[place] for tensor in tensors) for place in range(3)]
    cuts = _cuts(sizes, token_bytes, tokens) if tensors[0].device.type == "cpu" else [(WHOLE, WHOLE, WHOLE)]
    return _InParts.apply(function, cuts, sizes, *tensors)  # pyright: ignore[reportReturnType]


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context in which operations on the tensor's device keep the dtypes they are given."""
    device = tensor.device.type
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def _cuts(sizes: Sequence[int], token_bytes: int, tokens: bool) -> list[Cut]:
    batch, heads, length = (max(size, 1) for size in sizes)
    head = length * token_bytes
    rows = max(1, PART // (head * heads))
    group = heads if head * heads <= PART else max(1, PART // head)
    run = max(1, PART // token_bytes) if tokens and head > PART else length
    return [
        (slice(b, b + rows), slice(h, h + group), slice(s, s + run) if run < length else WHOLE)
        for b in range(0, batch, rows)
        for h in range(0, heads, group)
        for s in range(0, length, run)
    ]


def _cut(tensor: Tensor, cut: Cut) -> Tensor:
    """Return a part of a tensor, whole where its size is 1."""
    return tensor[tuple(WHOLE if size == 1 else piece for size, piece in zip(tensor.shape, cut, strict=False))]


class _InParts(torch.autograd.Function):
    """See `in_parts`."""

    @staticmethod
    def forward(
        ctx: Any, function: Callable[..., tuple[Tensor, ...]], cuts: list[Cut], sizes: list[int], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.function, ctx.cuts, ctx.sizes = function, cuts, sizes
        ctx.save_for_backward(*tensors)
        if len(cuts) == 1:
            return function(*tensors)
        results: list[Tensor] = []
        for number, cut in enumerate(cuts):
            pieces = function(*(_cut(tensor, cut) for tensor in tensors))
            if number == 0:
                for piece in pieces:
                    shape = [*sizes[:2], *piece.shape[2:]]
                    if cut[2] != WHOLE:
                        shape[2] = sizes[2]
                    results.append(piece.new_empty(shape))
            for result, piece in zip(results, pieces, strict=True):
                _cut(result, cut).copy_(piece)
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        tensors: tuple[Tensor, ...] = ctx.saved_tensors
        wanted = [place for place, needed in enumerate(ctx.needs_input_grad[3:]) if needed]
        totals: list[Tensor | None] = [None] * len(tensors)
        for cut in ctx.cuts:
            with torch.enable_grad(), without_autocast(tensors[0]):
                pieces = [_cut(tensor, cut).detach() for tensor in tensors]
                for place in wanted:
                    pieces[place].requires_grad_()
                results = ctx.function(*pieces)
                found = torch.autograd.grad(
                    results,
                    [pieces[place] for place in wanted],
                    [_cut(gradient, cut) for gradient in gradients],
                    allow_unused=True,
                    materialize_grads=True,
                )
            if len(ctx.cuts) == 1:
                for place, gradient in zip(wanted, found, strict=True):
                    totals[place] = gradient
                break
            for place, gradient in zip(wanted, found, strict=True):
                shared = any(size < full for size, full in zip(tensors[place].shape, ctx.sizes, strict=False))
                total = totals[place]
                if total is None:
                    total = totals[place] = (torch.zeros_like if shared else torch.empty_like)(tensors[place])
                if shared:  # several parts were given the same elements
                    _cut(total, cut).add_(gradient)
                else:
                    _cut(total, cut).copy_(gradient)
        return None, None, None, *totals
