"""Attention of one pass, taken apart: each part of the sequence meets only the keys that it sees any of.

Under one mask over everything, a branch's scores with the context are computed and thrown away, and the trunk's with
the branches. Here the trunk attends to the trunk, and a branch to the slots and itself; where a part is plainly causal,
the kernel is told so and skips half. The values are those of the mask. B batch, H heads, Q queries, S keys, E width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from quincunx.nn.pretrained import packed
from quincunx.nn.rows import PLAIN, Columns, RowAware
from quincunx.recipes.compression.model.layout import (
    CONTEXT,
    MEMORY,
    SEEN_COMPRESSED,
    SEEN_CONTEXT,
    SLOT,
    TRUNK,
    Span,
    Tokens,
    picked,
    readable,
)
from quincunx.recipes.compression.model.masks import Sight, additive, opened

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "quincunx-parts"
"""Under which the library knows this attention."""
Runs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Part:
    """Queries that share their keys."""

    queries: tuple[int, int]
    """From, to: among what the pass computes."""
    keys: Runs
    """From, to: among all keys, those kept from before first; queries are the last of them."""
    mask: Tensor | None
    """`[1 or B, 1 or H, q, s]`; None: each query sees the keys up to itself."""
    columns: Columns = PLAIN
    """Numbers of the queries and of the keys."""


@dataclass
class Parts:
    """All parts of a pass, in the order of their queries."""

    every: list[Part]
    row: RowAware | None = None
    """Knows the rows at hand, which are told how queries and keys are numbered."""
    calls: int = field(default=0, compare=False)
    """How often attention was computed by parts: tells whether a model hands them on."""


def split(
    tokens: Tokens,
    first: int,
    sight: Sight,
    dtype: torch.dtype,
    bias: Callable[[Tokens, int], Tensor] | None,
    row: RowAware | None = None,
) -> Parts:
    """Return the parts of a pass.

    Args:
        tokens: All keys; those from `first` on are computed.
        first: Keys kept from before.
        sight: As in `masks.opened`.
        dtype: Of masks.
        bias: Returns what is added to scores `[B, H, q, s]`, of tokens and the number of those that are no queries.
        row: See `Parts`.
    """
    computed = [span for span in tokens.spans if span.start >= first]
    every: list[Part] = []
    for stream in dict.fromkeys(span.stream for span in computed):
        own = [span for span in computed if span.stream == stream]
        keys = [span for span in tokens.spans if span not in own and _needs(own[0], span)]
        chosen = picked(tokens, [*keys, *own])
        before = sum(len(span) for span in keys)
        found = opened(chosen, sight, before)
        mask = None if bias is None and _causal(found) else additive(found, dtype, bias and bias(chosen, before))
        runs = _merged([*keys, *own])
        columns = Columns(chosen.numbers[before:], chosen.numbers)
        every.append(Part((own[0].start - first, own[-1].stop - first), runs, mask, columns))
    return Parts(every, row)


def use(model: PreTrainedModel) -> bool:
    """Let a model attend by parts where it would by `sdpa`; return whether it does, seen on two tokens.

    It goes on to take a mask where it is given no parts.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    chosen = model.config._attn_implementation
    if chosen not in ("sdpa", packed.NAME, NAME) or model.device.type == "meta":  # where nothing can be seen
        return False
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    table: Any = model.get_input_embeddings()
    embedded = table(torch.ones(1, 2, dtype=torch.int64, device=table.weight.device))
    parts = Parts([Part((0, 2), ((0, 2),), None)])
    base: Any = model.base_model
    with torch.no_grad():
        base(
            inputs_embeds=embedded,
            attention_mask=placeholder(embedded),
            position_ids=torch.arange(2, device=embedded.device)[None],
            use_cache=False,
            parts=parts,
        )
    if parts.calls == model.config.num_hidden_layers:
        return True
    model.set_attn_implementation(chosen)
    return False


def placeholder(embedded: Tensor) -> Tensor:
    """Return what stands in for the mask where there are parts: of four dimensions, so that none is made."""
    return embedded.new_zeros(1, 1, 1, 1)


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Return what attention gives for `[B, H, Q, E]`, as `[B, Q, H, E]`: by parts where there are any."""
    parts: Parts | None = options.pop("parts", None)
    if parts is None:
        return packed.attention(module, query, key, value, attention_mask, **options)
    parts.calls += 1
    wanted = [part.keys for part in parts.every]
    queries = taken(query, [(part.queries,) for part in parts.every])
    inputs = zip(parts.every, queries, taken(key, wanted), taken(value, wanted), strict=True)
    found: list[Tensor] = []
    for part, q, k, v in inputs:
        mask = part.mask if part.mask is None else part.mask.to(q)
        with nullcontext() if parts.row is None else parts.row.numbering(part.columns):
            found.append(packed.attention(module, q, k, v, mask, **options)[0])
    return torch.cat(found, 1) if len(found) > 1 else found[0], None


def taken(tensor: Tensor, wanted: Sequence[Runs]) -> Sequence[Tensor]:
    """Return runs of a tensor `[B, H, S, E]` put together, one tensor for each list of them; runs may overlap."""
    whole = ((0, tensor.shape[2]),)
    if all(runs == whole for runs in wanted):
        return [tensor] * len(wanted)
    return _Taken.apply(tensor, wanted)  # pyright: ignore[reportReturnType] - torch leaves it untyped


class _Taken(torch.autograd.Function):
    """Slices whose gradients are added up in one tensor, where autograd would fill one with zeros for each slice."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, wanted: Sequence[Runs]) -> tuple[Tensor, ...]:
        ctx.wanted, ctx.shape = wanted, tensor.shape
        found = ([tensor[:, :, start:stop] for start, stop in runs] for runs in wanted)
        return tuple(each[0] if len(each) == 1 else torch.cat(each, 2) for each in found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        whole = gradients[0].new_zeros(ctx.shape)
        for runs, gradient in zip(ctx.wanted, gradients, strict=True):
            at = 0
            for start, stop in runs:
                whole[:, :, start:stop] += gradient[:, :, at : at + stop - start]
                at += stop - start
        return whole, None


def _needs(query: Span, key: Span) -> bool:
    """Tell whether tokens of one stream may see tokens of another, or kept ones of their own."""
    if key.stream == query.stream:
        return True
    if query.stream == TRUNK:
        return key.role in (SLOT, MEMORY)
    visible = {SEEN_COMPRESSED: (SLOT, MEMORY), SEEN_CONTEXT: (CONTEXT, MEMORY)}
    return key.role in visible.get(query.sees, ())


def _causal(found: Tensor) -> bool:
    """Tell whether each query sees exactly the keys up to itself; looked at where it costs nothing."""
    if found.shape[0] > 1 or not readable(found):
        return False
    queries, keys = found.shape[1:]
    return queries == keys and torch.equal(found[0], torch.ones_like(found[0]).tril())


def _merged(spans: list[Span]) -> Runs:
    """Return runs of neighbouring tokens."""
    runs: list[tuple[int, int]] = []
    for span in spans:
        if runs and runs[-1][1] == span.start:
            runs[-1] = (runs[-1][0], span.stop)
        else:
            runs.append((span.start, span.stop))
    return tuple(runs)
