"""How the tokens of an example lie behind one another: a trunk, and branches that see some of it.

    [c_1 .. c_C] [SEP] [CMP_1 .. CMP_K]   [START x_1 .. x_L]   [START y_1 .. y_M]
      context  separator    slots              a branch           another one

Several segments lie as [context of all][separators of all][slots of all]: what sees what is the mask's affair, so their
order is free. B batch, C context, K slots of a segment, N segments, L branch, S all tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from quincunx.errors import UsageError

Start = Literal["forward", "reconstruction"]
Sees = Literal["nothing", "compressed", "context"]


@dataclass(frozen=True)
class Branch:
    """A kind of text that is predicted."""

    sees: Sees
    """What it sees of the trunk."""
    start: Start | None
    """The trained token it begins with; None: none, its first token is not predicted."""


BRANCHES: dict[str, Branch] = {
    "forward": Branch("compressed", "forward"),
    "reconstruction": Branch("compressed", "reconstruction"),
    # both controls begin as `forward` does: they predict the same text, and no weights are theirs alone
    "without": Branch("nothing", "forward"),
    "full": Branch("context", "forward"),
    "plain": Branch("nothing", None),
}
"""By the name that a batch's tensors begin with."""

TRUNK, WHOLE = 0, 1
"""Streams: tokens see others of their own stream; branches are numbered from 2. WHOLE is the context uncut, where the
trunk has it in segments."""
SEEN_NOTHING, SEEN_COMPRESSED, SEEN_CONTEXT = 0, 1, 2
SEES = {"nothing": SEEN_NOTHING, "compressed": SEEN_COMPRESSED, "context": SEEN_CONTEXT}
SEGMENTS = 1 << 30
"""Numbers of tokens from here on are those of later segments that have passes of their own."""
TEXT, CONTEXT, SEPARATOR, SLOT, MEMORY = 0, 1, 2, 3, 4
"""Roles of tokens; MEMORY is what a read-out made of slots. Branches that see the context see the role CONTEXT."""


@dataclass(frozen=True)
class Span:
    """Neighbouring tokens of one kind, as plain numbers."""

    start: int
    stop: int
    stream: int
    role: int
    sees: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Tokens:
    """What decides who sees whom, for S tokens."""

    stream: Tensor
    """`[S]`: TRUNK, WHOLE, or a branch's number."""
    role: Tensor
    """`[S]`."""
    sees: Tensor
    """`[S]`: what a token sees of the trunk, besides its own stream."""
    order: Tensor
    """`[S]`: within a stream (a segment of it), tokens see those that are not above them."""
    segment: Tensor
    """`[1, S]` or `[B, S]`."""
    seen: Tensor
    """`[B, S]` bool: false for padding, which nobody sees."""
    positions: Tensor
    """`[B, S]`: numbers from outside."""
    numbers: Tensor
    """`[S]`: of its own, whatever stands before it in the pass; by these its dropout is known."""
    spans: tuple[Span, ...]
    """The same streams and roles, without a look at tensors."""

    def __len__(self) -> int:
        return len(self.stream)


def joined(parts: Sequence[Tokens]) -> Tokens:
    """Return tokens behind one another."""
    if len(parts) == 1:
        return parts[0]
    rows = max(part.segment.shape[0] for part in parts)
    spans: list[Span] = []
    for part in parts:
        at = spans[-1].stop if spans else 0
        spans += [replace(span, start=span.start + at, stop=span.stop + at) for span in part.spans]
    return Tokens(
        torch.cat([part.stream for part in parts]),
        torch.cat([part.role for part in parts]),
        torch.cat([part.sees for part in parts]),
        torch.cat([part.order for part in parts]),
        torch.cat([part.segment.expand(rows, -1) for part in parts], 1),
        torch.cat([part.seen for part in parts], 1),
        torch.cat([part.positions for part in parts], 1),
        torch.cat([part.numbers for part in parts]),
        tuple(spans),
    )


def picked(tokens: Tokens, spans: Sequence[Span]) -> Tokens:
    """Return some of the tokens, behind one another."""
    if tuple(spans) == tokens.spans:
        return tokens
    parts: list[Tokens] = []
    for span in spans:
        at = slice(span.start, span.stop)
        alone = Span(0, len(span), span.stream, span.role, span.sees)
        parts.append(
            Tokens(
                tokens.stream[at],
                tokens.role[at],
                tokens.sees[at],
                tokens.order[at],
                tokens.segment[:, at],
                tokens.seen[:, at],
                tokens.positions[:, at],
                tokens.numbers[at],
                (alone,),
            )
        )
    return joined(parts)


def _tokens(
    seen: Tensor,
    positions: Tensor,
    stream: int,
    role: int,
    order: Tensor,
    segment: Tensor | None = None,
    sees: int = 0,
    first: int = 0,
) -> Tokens:
    def all_of(value: int) -> Tensor:
        return torch.full_like(order, value)

    return Tokens(
        all_of(stream),
        all_of(role),
        all_of(sees),
        order,
        all_of(0)[None] if segment is None else segment,
        seen,
        positions,
        torch.arange(first, first + len(order), device=order.device),
        (Span(0, len(order), stream, role, sees),),
    )


def context(
    seen: Tensor,
    positions: Tensor,
    segment: Tensor | None = None,
    *,
    causal: bool = True,
    stream: int = TRUNK,
    number: int | None = None,
) -> Tokens:
    """Return the context's tokens `[B, C]`.

    Args:
        seen: `[B, C]` bool.
        positions: `[B, C]`.
        segment: `[B, C]` int64, where there are several: branches then do not see these tokens.
        causal: False: the tokens of a segment see one another both ways.
        stream: TRUNK, or WHOLE for the uncut copy.
        number: Of its first token; None: by the stream.
    """
    order = torch.arange(seen.shape[1], device=seen.device)
    role = CONTEXT if segment is None else TEXT
    first = _first(stream, CONTEXT) if number is None else number
    return _tokens(seen, positions, stream, role, order if causal else order * 0, segment, first=first)


def separators(positions: Tensor, after: int, earlier: int = 0) -> Tokens:
    """Return one separator for each segment, at positions `[B, N]`, after a context of so many columns.

    `earlier` counts those of the segments before, where those have passes of their own.
    """
    numbers = torch.arange(positions.shape[1], device=positions.device)
    seen = torch.ones_like(positions, dtype=torch.bool)
    first = _first(TRUNK, SEPARATOR) + earlier
    return _tokens(seen, positions, TRUNK, SEPARATOR, numbers * 0 + after, numbers[None], first=first)


def slots(positions: Tensor, segments: int, after: int, *, causal: bool = True, earlier: int = 0) -> Tokens:
    """Return the slots of all segments, at positions `[B, N * K]`, after a context of so many columns.

    `earlier` counts those of the segments before, where those have passes of their own.
    """
    count = positions.shape[1] // segments
    numbers = torch.arange(positions.shape[1], device=positions.device)
    seen = torch.ones_like(positions, dtype=torch.bool)
    order = after + 1 + (numbers % count if causal else numbers * 0)
    segment = (numbers // max(count, 1))[None]
    return _tokens(seen, positions, TRUNK, SLOT, order, segment, first=_first(TRUNK, SLOT) + earlier)


def memory(seen: Tensor, positions: Tensor, *, kept: bool = False) -> Tokens:
    """Return the tokens `[B, M]` of a memory: seen by all that comes after it, each itself seeing those before.

    Where their keys and values were kept they are the slots themselves, and numbered so.
    """
    order = torch.arange(seen.shape[1], device=seen.device)
    first = _first(TRUNK, SLOT if kept else MEMORY)
    return _tokens(seen, positions, TRUNK, MEMORY, order, torch.full_like(order, -1)[None], first=first)


def branch(name: str, number: int, seen: Tensor, positions: Tensor, *, causal: bool = True) -> Tokens:
    """Return a branch's tokens, its start first where it has one.

    Args:
        name: One of BRANCHES.
        number: Tells it from other branches, from 0.
        seen: `[B, L]` bool.
        positions: `[B, start + L]`.
        causal: False: a `plain` text sees itself both ways.
    """
    kind = BRANCHES[name]
    if kind.start is not None:
        seen = torch.cat([seen.new_ones(len(seen), 1), seen], 1)
    order = torch.arange(seen.shape[1], device=seen.device)
    both_ways = not causal and kind.start is None
    order, stream = order * 0 if both_ways else order, 2 + number
    return _tokens(seen, positions, stream, TEXT, order, sees=SEES[kind.sees], first=_first(stream, TEXT))


def _first(stream: int, role: int) -> int:
    """Return the number of the first token of a stream and role: a million are between them."""
    return (stream * 8 + role) << 20


UNCUT = _first(TRUNK, CONTEXT)
"""Number of the first token of a context that no segments cut."""


@dataclass(frozen=True)
class Ranks:
    """Places of an example's tokens in one count over trunk and branch."""

    context: Tensor
    """`[B, C]`."""
    separators: Tensor
    """`[B, N]`; N is 0 without separators."""
    slots: Tensor
    """`[B, N * K]`."""
    memory: Tensor
    """`[B, N * K]`: of what was compressed, in the second pass."""
    branch: Tensor
    """`[B]`: of a branch's first token; its others count on from there. A branch that sees nothing counts from the same
    place, so that it is judged at the same positions."""
    full: Tensor
    """`[B]`: of the first token of a branch that sees the context itself: the same place, but for `restart`, where it
    follows the context."""
    total: Tensor
    """`[B]`: how many ranks the trunk takes."""


def number(
    lengths: Tensor,
    slots: int,
    *,
    longest: int,
    separator: bool = False,
    segment: Tensor | None = None,
    segments: int = 1,
    style: Literal["continue", "uniform", "restart"] = "continue",
) -> Ranks:
    """Return ranks for contexts of these lengths; see `compress.positions` for the styles.

        continue   c c c c c c | S | k k | branch        uniform   c c c c c c | S | branch
                   0 1 2 3 4 5   6   7 8   9 ...                   0 1 2 3 4 5   6   7 ...
        restart    as continue, but the memory            slots         1     4
                   0 1 and the branch 2 ...

    Args:
        lengths: `[B]` int64, tokens of each context.
        slots: K.
        longest: C, columns of the context.
        separator: Whether a separator follows each segment.
        segment: `[B, C]` int64, where there are several; each row's begin at 0 and never fall.
        segments: N.
        style: How slots are numbered.
    """
    columns = torch.arange(longest, device=lengths.device)
    present = columns < lengths[:, None]
    owner = torch.zeros_like(columns).expand(len(lengths), -1) if segment is None else segment
    sizes = torch.stack([((owner == part) & present).sum(1) for part in range(segments)], 1)
    ends = sizes.cumsum(1)
    begins = ends - sizes
    within = torch.arange(slots, device=lengths.device)
    parts = torch.arange(segments, device=lengths.device)
    step = int(separator) + (0 if style == "uniform" else slots)  # ranks that a segment takes besides its context
    places = columns + owner * step
    separators_at = ends + parts * step
    if style == "uniform":
        middle = sizes[..., None] * (2 * within + 1) // (2 * max(slots, 1))
        slots_at = (begins + parts * step)[..., None] + middle
    else:
        slots_at = (separators_at + int(separator))[..., None] + within
    total = lengths + segments * step
    slots_at = slots_at.flatten(1)
    if style == "restart":
        memory_at = torch.arange(segments * slots, device=lengths.device).expand(len(lengths), -1)
        first, full = torch.full_like(total, segments * slots), lengths
    else:
        memory_at, first, full = slots_at, total, total
    separators_at = separators_at if separator else separators_at[:, :0]
    return Ranks(places, separators_at, slots_at, memory_at, first, full, total)


def after(positions: Tensor, seen: Tensor) -> Tensor:
    """Return the whole number `[B, 1]` after the highest of the positions `[B, S]` that are seen; 0 where none is."""
    if positions.shape[1] == 0:
        return positions.new_zeros(len(positions), 1)
    last = torch.where(seen, positions, -1).amax(1, keepdim=True)
    return (last.floor() if last.is_floating_point() else last) + 1


def readable(tensor: Tensor) -> bool:
    """Tell whether a look at a tensor's values costs nothing: on a CPU, and with values there to look at."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling() and not isinstance(tensor, FakeTensor)


def needed(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """Return a tensor of a batch; UsageError naming it where it is missing."""
    found = tensors.get(name)
    if found is None:
        raise UsageError(f"the batch has no {name}; it has {', '.join(sorted(tensors))}")
    return found
