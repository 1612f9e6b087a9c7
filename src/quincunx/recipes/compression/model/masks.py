"""Who sees whom: one rule for every pass, as an additive mask of four dimensions.

A context of four tokens, a separator, two slots, a branch that sees what was compressed, and one that sees the context
(rows see columns):

            c c c c S k k > x x > y
    c       #
    c       # #                          the context reads itself, as ever
    c       # # #
    c       # # # #
    S       # # # # #
    k       # # # # # #                  slots see the context, and the slots before them unless `mutual` is false
    k       # # # # # # #
    >                 # # #              the forward branch sees slots alone, and itself
    x                 # # # #
    x                 # # # # #
    >       # # # #             #        the full branch sees the context, no slot
    y       # # # #             # #

The mask is never boolean: the library's eager attention adds a boolean mask to its scores, without an error. Every
token sees itself, padding too, so that no row is empty and none gives NaN. B batch, Q queries, S keys, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from quincunx.nn.positions import alibi
from quincunx.recipes.compression.model.layout import (
    CONTEXT,
    MEMORY,
    SEEN_COMPRESSED,
    SEEN_CONTEXT,
    SEEN_NOTHING,
    SEPARATOR,
    SLOT,
    TRUNK,
    Tokens,
    readable,
)

Join = Literal["accumulate", "concatenate", "recurrent"]
LETTERS = {CONTEXT: "c", SEPARATOR: "S", SLOT: "k", MEMORY: "m"}


@dataclass(frozen=True)
class Sight:
    """What of the rule is a matter of choice."""

    mutual: bool = True
    """Slots see the slots of their segment (those before them, where the trunk is causal)."""
    join: Join = "accumulate"
    """How segments hang together."""
    segments: int = 1


def visible(tokens: Tokens, sight: Sight, first: int = 0) -> Tensor:
    """Return who sees whom by place alone, bool `[1 or B, Q, S]`: queries are the tokens from `first` on.

    The first dimension is B where segments differ from row to row.
    """
    stream, role, order = tokens.stream, tokens.role, tokens.order
    of = slice(first, None)
    segment_q, segment_k = tokens.segment[:, of, None], tokens.segment[:, None]
    trunk_q = stream[of, None] == TRUNK
    slot_q, slot_k = role[of, None] == SLOT, role == SLOT
    own = (stream[of, None] == stream) & (order[of, None] >= order)
    if not sight.mutual:
        own = own & ~(slot_q & slot_k & ~_itself(tokens, first))
    found = own & (segment_q == segment_k)
    memory_k = (role == MEMORY) & ~(role[of, None] == MEMORY)
    # a memory may hold a whole context that was read, so a branch that sees the context sees it too
    found = found | (memory_k & (trunk_q | (tokens.sees[of, None] != SEEN_NOTHING)))
    text_sees = slot_k & (tokens.sees[of, None] == SEEN_COMPRESSED)
    if sight.segments > 1:
        earlier = trunk_q & slot_k
        if sight.join == "accumulate":
            found = found | (earlier & (segment_k < segment_q))
        elif sight.join == "recurrent":
            found = found | (earlier & (segment_k == segment_q - 1))
            text_sees = text_sees & (segment_k == sight.segments - 1)
    found = found | text_sees
    return found | ((role == CONTEXT) & (tokens.sees[of, None] == SEEN_CONTEXT))


def opened(tokens: Tokens, sight: Sight, first: int = 0, window: int | None = None) -> Tensor:
    """Return who sees whom in the end, bool `[1 or B, Q, S]`: padding is seen by nobody else.

    Args:
        tokens: All keys; queries are those from `first` on.
        sight: The choices.
        first: Number of keys that are no queries: they are kept from an earlier pass.
        window: Keys so many positions before their query, or more, are out of sight (sliding attention).
    """
    found = visible(tokens, sight, first)
    # a mask shared by all rows is a B-th of the memory
    if not readable(tokens.seen) or not bool(tokens.seen.all()):
        found = found & tokens.seen[:, None]
    if window is not None:
        found = found & (tokens.positions[:, first:, None] - tokens.positions[:, None] < window)
    return found | _itself(tokens, first)


def additive(found: Tensor, dtype: torch.dtype, bias: Tensor | None = None) -> Tensor:
    """Return the mask `[1 or B, 1 or H, Q, S]`: 0, or the bias of this shape, where a key is seen."""
    hidden = ~found[:, None]
    if bias is not None:
        return bias.masked_fill(hidden, torch.finfo(dtype).min)
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, torch.finfo(dtype).min)


def linear_bias(tokens: Tokens, heads: int, first: int, dtype: torch.dtype, *, causal: bool = True) -> Tensor:
    """Return ALiBi's bias `[B, H, Q, S]` of the tokens' positions (Press et al. 2022)."""
    return alibi.bias(tokens.positions[:, first:], tokens.positions, heads, causal=causal, dtype=dtype)


def picture(tokens: Tokens, sight: Sight, *, row: int = 0, first: int = 0, words: Sequence[str] | None = None) -> str:
    """Return one example's mask as text: `#` where the row's token sees the column's, `-` where padding is.

    Args:
        tokens: As in `opened`.
        sight: As in `opened`.
        row: The example.
        first: As in `opened`.
        words: A word for each token, shown at its row.
    """
    found = opened(tokens, sight, first)
    one = found[min(row, len(found) - 1)].tolist()
    letters = _letters(tokens)
    seen = tokens.seen[min(row, len(tokens.seen) - 1)].tolist()
    width = max([len(letter) for letter in letters] + [len(word) for word in words or ()])
    lines = [" " * width + "  " + " ".join(letters)]
    for number, line in enumerate(one, first):
        name = words[number] if words is not None else letters[number]
        marks = "".join("# " if sees else ("- " if not seen[key] else ". ") for key, sees in enumerate(line))
        lines.append(f"{name:<{width}}  {marks}".rstrip())
    return "\n".join(lines)


def _letters(tokens: Tokens) -> list[str]:
    """Return a letter for each token: a branch's are >, when it begins, and then x, y, z ... by branch."""
    found: list[str] = []
    before = None
    for stream, role in zip(tokens.stream.tolist(), tokens.role.tolist(), strict=True):
        letter = "c" if stream <= 1 else "xyzuvw"[(stream - 2) % 6]
        found.append(LETTERS.get(role, ">" if stream > 1 and stream != before else letter))
        before = stream
    return found


def _itself(tokens: Tokens, first: int) -> Tensor:
    """Return `[1, Q, S]`: where query and key are the same token."""
    keys = torch.arange(len(tokens), device=tokens.stream.device)
    return (keys[first:, None] == keys)[None]
