"""Where a text is cut into the units that blotching leaves out whole: at a separator, or into spans.

      tokens   1 2 + 3 * 2 =  3 * 2 + 1 2 =  6 + 1 2 =  1 8 E . .        E: end, .: padding
      units    0 0 0 0 0 0 0  1 1 1 1 1 1 1  2 2 2 2 2  3 3 3 - -        last: 3

Unit 0, up to and including the first separator, and the last one, all after the last separator, are never left out: the
problem and the answer. B batch, S sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quincunx.nn.positions.hashed import uniforms

PADDING = -1
"""Unit number of padding."""
STARTS = 0x53504E53
"""Salt of the starts of geometric spans."""


@dataclass(frozen=True)
class Units:
    """The units of each row."""

    numbers: Tensor
    """`[B, S]` int64: the unit of each token, from 0, rising by at most 1; PADDING after the row's end."""
    last: Tensor
    """`[B]` int64: the number of the last unit. It has no tokens where a text ends with a separator."""

    @property
    def droppable(self) -> Tensor:
        """`[B, S]` bool: tokens of units that may be left out: neither the first nor the last."""
        return (self.numbers > 0) & (self.numbers < self.last[:, None])


def units(tokens: Tensor, lengths: Tensor, separator: int | Sequence[int]) -> Units:
    """Return the units between separators: each token belongs to the unit that the next separator ends.

    A row without a separator is one unit. A row that ends with one has a last unit without tokens.

    Args:
        tokens: `[B, S]`, int64.
        lengths: `[B]`, int64: tokens of each row.
        separator: Id of the separator, or the ids of several that mean the same.
    """
    inside = _inside(tokens.shape[1], lengths)
    wanted = [separator] if isinstance(separator, int) else list(separator)
    ends = torch.isin(tokens, torch.tensor(wanted, dtype=tokens.dtype, device=tokens.device)) & inside
    before = ends.cumsum(1) - ends.long()
    return Units(before.masked_fill(~inside, PADDING), ends.sum(1))


def spans(lengths: Tensor, longest: int, size: float, *, keys: Tensor | None = None) -> Units:
    """Return units without a separator: spans of `size` tokens, the last one what is left.

              size 3                     0 0 0 1 1 1 2 2 - -         8 tokens
              size 3, with keys          0 0 1 1 1 1 1 2 - -         lengths are geometric, 3 on average

    Args:
        lengths: `[B]`, int64: tokens of each row.
        longest: Columns of the result, S.
        size: Tokens of a span, at least 1; a whole number without keys.
        keys: `[B]`, int64: hashes, one a row. Given: a span ends after each token with probability 1 / size. Padding a
            row further, or cutting it, changes no span before.

    Raises:
        ValueError: The size is below 1.
    """
    if size < 1:
        raise ValueError(f"a span has at least 1 token, found {size}")
    inside = _inside(longest, lengths)
    if keys is None:
        numbers = torch.arange(longest, device=lengths.device).expand_as(inside) // int(size)
    else:
        begins = uniforms(keys, longest, STARTS) < 1 / size
        begins[:, :1] = False  # the first token begins unit 0
        numbers = begins.cumsum(1)
    numbers = numbers.masked_fill(~inside, PADDING)
    return Units(numbers, numbers.amax(1).clamp(min=0) if longest else torch.zeros_like(lengths))


def either(first: Units, second: Units) -> Units:
    """Return each row's first units, or the second ones where nothing of the first may be left out.

    `either(units(...), spans(...))` cuts a text at its separators, and into spans where it has too few of them.
    """
    usable = first.droppable.any(1)
    numbers = torch.where(usable[:, None], first.numbers, second.numbers)
    return Units(numbers, torch.where(usable, first.last, second.last))


def _inside(longest: int, lengths: Tensor) -> Tensor:
    return torch.arange(longest, device=lengths.device) < lengths[:, None]
