"""Which units are left out: a share of them, independently, evenly spread or in runs; one step; or single tokens.

      units          0 | 1 | 2 | 3 | 4 | 5 | 6        1 to 5 may be left out
      random         0 | . | 2 | . | . | 5 | 6        each with probability p
      not contiguous 0 | . | 2 | . | 4 | 5 | 6        the second of two neighbours stays
      equal          0 | 1 | . | 3 | . | 5 | 6        round(5 p) of them, p = 0.4
      geometric      0 | 1 | . | . | . | 5 | 6        in runs of geometric length, a share p on the whole

Every choice is a function of the row's key, its units and its share: not of the rest of the batch. Unit 0 always
stays, so that no text is left empty. B batch, S sequence, U units.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from quincunx.nn.positions.hashed import uniforms
from quincunx.recipes.compression.blotch.cut import PADDING, Units

Spacing = Literal["random", "equal", "geometric"]

CHANCE = 0x44524F50
TOKENS = 0x544F4B4E
"""Salts of the choice of units, and of single tokens."""


def choose(
    units: Units,
    p: Tensor,
    *,
    keys: Tensor,
    spacing: Spacing = "random",
    contiguous: bool = True,
    mean_run: float = 3.0,
    step: int | None = None,
    token_p: float = 0.0,
) -> Tensor:
    """Return which tokens stay, `[B, S]` bool, False for padding.

    Args:
        units: As they are cut; the first and the last of a row stay.
        p: `[B]`, floating point: share of the others that is left out. 0 none, 1 all.
        keys: `[B]`, int64: hashes, one a row; see `quincunx.seeds.address`.
        spacing: `random`, `equal` or `geometric`; see `dropped`.
        contiguous: Whether neighbours may be left out together.
        mean_run: Units of a run on average, with `geometric`.
        step: Leave out this unit (1: the first that may be) and no other, whatever p; rows without it stay whole.
        token_p: Further, each token of units that may be left out is left out by itself with this probability,
            separators too.

    Raises:
        ValueError: Runs (`geometric`) are asked for, but no contiguous ones.
    """
    numbers, last = units.numbers, units.last
    if step is None:
        out = dropped(last, p, _count(units), keys=keys, spacing=spacing, contiguous=contiguous, mean_run=mean_run)
        out = torch.cat([out, out.new_zeros(len(out), 1)], dim=1)  # PADDING, -1, finds this column
        leaves = out.gather(1, numbers.remainder(out.shape[1]))
    else:
        leaves = (numbers == step) & units.droppable
    if token_p:
        leaves = leaves | ((uniforms(keys, numbers.shape[1], TOKENS) < token_p) & units.droppable)
    return ~leaves & (numbers != PADDING)


def dropped(
    last: Tensor,
    p: Tensor,
    count: int,
    *,
    keys: Tensor,
    spacing: Spacing = "random",
    contiguous: bool = True,
    mean_run: float = 3.0,
) -> Tensor:
    """Return which units are left out, `[B, count]` bool: of a row, some of 1 .. last - 1.

    - `random`: each with probability p. Not contiguous: of a run of neighbours so chosen the first, third, fifth ...
      are left out, which in the long run makes a share p / (1 + p).
    - `equal`: M p of the M units, rounded (halves up), in the middles of as many equal stretches; the same for every
      key. Not contiguous: at most half of them, rounded up.
    - `geometric`: runs of units, of geometric length, `mean_run` on average (longer where p would not be reached
      otherwise), at random distances: a two-state chain with a share p from its first unit on.

    Args:
        last: `[B]`, int64: the number of each row's last unit.
        p: `[B]`, floating point.
        count: Columns U of the result: more than any `last`, for all units.
        keys: `[B]`, int64.
        spacing: As above.
        contiguous: As above.
        mean_run: As above.

    Raises:
        ValueError: Runs are asked for, but no contiguous ones.
    """
    numbers = torch.arange(count, device=last.device)
    allowed = (numbers > 0) & (numbers < last[:, None])
    shares = p.double()[:, None]
    if spacing == "equal":
        return _equal(allowed, shares[:, 0], contiguous)
    chances = uniforms(keys, count, CHANCE)
    if spacing == "random":
        chosen = (chances < shares) & allowed
        return chosen if contiguous else chosen & (_since(~chosen) % 2 == 1)
    if not contiguous:
        raise ValueError("geometric spacing leaves out runs of neighbours: it cannot be combined with contiguous false")
    return _runs(chances, shares, mean_run) & allowed


def _count(units: Units) -> int:
    return int(units.last.max()) + 1 if len(units.last) else 1


def _since(sure: Tensor) -> Tensor:
    """Return for each column of bools `[B, U]` how many columns ago the last True stood: 0 at one; U or more: none."""
    places = torch.arange(sure.shape[1], device=sure.device)
    return places - torch.where(sure, places, -sure.shape[1]).cummax(dim=1).values


def _equal(allowed: Tensor, shares: Tensor, contiguous: bool) -> Tensor:
    """Leave out the middles of equal stretches: of M units and n to leave out, units 1 + floor((2j + 1) M / 2n)."""
    available = allowed.sum(1)
    # a little more than a half, so that 0.7 of 5 is 4 in single precision too
    wanted = (shares * available + (0.5 + 1e-6)).floor().long()
    if not contiguous:
        wanted = wanted.minimum((available + 1) // 2)
    stretch = torch.arange(allowed.shape[1], device=allowed.device)
    middles = 1 + (2 * stretch + 1) * available[:, None] // (2 * wanted[:, None].clamp(min=1))
    # stretches beyond those wanted point at unit 0, which is not allowed
    middles = torch.where(stretch < wanted[:, None], middles, 0)
    return torch.zeros_like(allowed).scatter_(1, middles, True) & allowed


def _runs(chances: Tensor, shares: Tensor, mean_run: float) -> Tensor:
    """Return the states `[B, U]` of a two-state chain with stationary share p whose runs of True have a mean length.

    A unit after one that is left out follows it with probability a = 1 - 1 / run; a unit after one that stays is left
    out with probability b = p / (run (1 - p)). Below both, a unit's chance decides for itself; above both too; between
    them it copies the unit before (a > b) or does the opposite (a < b). So each state is read off the last unit that
    decided for itself, and no unit waits for another.
    """
    run = torch.full_like(shares, mean_run).maximum(shares / (1 - shares))  # so that b is a probability
    follows = 1 - 1 / run
    begins = torch.where(shares < 1, shares / (run * (1 - shares)), torch.ones_like(shares))
    low, high = torch.minimum(follows, begins), torch.maximum(follows, begins)
    own = (chances < low) | (chances >= high)
    state = chances < low
    # unit 1 is the chain's first: it decides by the share itself
    own[:, :2], state[:, :2] = True, chances[:, :2] < shares
    distance = _since(own)
    places = torch.arange(own.shape[1], device=own.device) - distance
    opposite = (follows < begins) & (distance % 2 == 1)
    return state.gather(1, places) ^ opposite
