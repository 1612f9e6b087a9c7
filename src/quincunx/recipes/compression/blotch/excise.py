"""What a model sees of a blotched text: the survivors, renumbered, each with the next survivor as its target.

      tokens    1 + 2 + 3 =  2 + 1 + 3 =  3 + 3 =  6
      keep      # # # # # #  . . . . . .  # # # #  #
      ranks     0 1 2 3 4 5  5 5 5 5 5 5  6 7 8 9  10      as if the text in between had never been there
      targets   + 2 + 3 = 3  - - - - - -  + 3 = 6  -       the = before the hole is asked for what follows the hole
      excised   1 + 2 + 3 =  3 + 3 =  6                    the same model, the same losses, fewer tokens

Masked (dropped tokens are keys for nobody, `ranks` are the positions) and excised forms give the same logits at the
survivors. B batch, S sequence, K survivors at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

UNTRAINED = -100
"""Target of a column that is not trained: the number that torch's cross-entropy leaves out."""


def targets(tokens: Tensor, keep: Tensor, lengths: Tensor, *, start: bool = False) -> Tensor:
    """Return what each token is to predict: the next token that stays; UNTRAINED for dropped, last and padding ones.

    Args:
        tokens: `[B, S]`, int64.
        keep: `[B, S]`, bool.
        lengths: `[B]`, int64: tokens of each row; beyond them nothing counts as kept.
        start: Whether a START comes before the tokens, whose target is the first token that stays.

    Returns:
        `[B, S]`, int64; with `start` `[B, 1 + S]`.
    """
    batch, longest = tokens.shape
    places = torch.arange(longest, device=tokens.device)
    stays = keep & (places < lengths[:, None])
    # the first kept place at or after each place, from the right; `longest` is the place after the end
    after = torch.where(stays, places, longest).flip(1).cummin(dim=1).values.flip(1)
    after = torch.cat([after, after.new_full((batch, 1), longest)], dim=1)
    wanted = torch.cat([tokens, tokens.new_full((batch, 1), UNTRAINED)], dim=1).gather(1, after)
    following = wanted[:, 1:].masked_fill(~stays, UNTRAINED)
    return torch.cat([wanted[:, :1], following], dim=1) if start else following


def ranks(keep: Tensor) -> Tensor:
    """Return each token's place among the survivors, `[B, S]` int64, from 0.

    A dropped token has that of the survivor before it (0 where there is none): nobody sees it, but it needs a number.
    """
    return (keep.cumsum(1) - 1).clamp(min=0)


@dataclass(frozen=True)
class Excised:
    """The survivors of each row, moved together."""

    lengths: Tensor
    """`[B]` int64: survivors of each row."""
    columns: Tensor
    """`[B, K]` int64: where each survivor stood; 0 after a row's end."""
    inside: Tensor
    """`[B, K]` bool: False after a row's end."""

    def take(self, values: Tensor, fill: int | float = 0) -> Tensor:
        """Return the survivors' values `[B, K, ...]` out of `values [B, S, ...]`, `fill` after a row's end."""
        taken = values.gather(1, self._index(values))
        return taken.masked_fill(~self._shaped(self.inside, taken), fill)

    def put_back(self, values: Tensor, longest: int, fill: int | float = 0) -> Tensor:
        """Return values `[B, K, ...]` at their old places in `[B, longest, ...]`, `fill` where nothing stayed."""
        whole = values.new_full((values.shape[0], longest + 1, *values.shape[2:]), fill)
        # what lies after a row's end goes to a column of its own, which is cut off
        index = self._shaped(self.columns.masked_fill(~self.inside, longest), values).expand_as(values)
        return whole.scatter(1, index, values)[:, :longest]

    def _index(self, values: Tensor) -> Tensor:
        batch, count = self.columns.shape
        return self._shaped(self.columns, values).expand(batch, count, *values.shape[2:])

    @staticmethod
    def _shaped(index: Tensor, values: Tensor) -> Tensor:
        return index.view(*index.shape, *[1] * (values.ndim - 2))


def excise(keep: Tensor) -> Excised:
    """Return where the survivors of `keep [B, S]` stand; `take` then moves tokens, positions, targets together."""
    lengths = keep.sum(1)
    count = int(lengths.max()) if len(lengths) else 0
    places = torch.arange(keep.shape[1], device=keep.device).expand_as(keep)
    inside = torch.arange(count, device=keep.device) < lengths[:, None]
    columns = torch.zeros(len(keep), count + 1, dtype=torch.int64, device=keep.device)
    columns.scatter_(1, torch.where(keep, keep.cumsum(1) - 1, count), places)
    return Excised(lengths, columns[:, :count].masked_fill(~inside, 0), inside)
