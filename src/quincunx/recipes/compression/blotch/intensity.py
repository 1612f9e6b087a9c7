"""How much is left out: fixed, in levels that a model is told by a token, or rising over training.

B batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quincunx.nn.positions.hashed import uniforms

LEVEL = 0x4C45564C
"""Salt of the choice of a level."""


def levels(p_min: float, p_max: float, count: int | None = None) -> tuple[float, ...]:
    """Return the shares of `count` levels, evenly from p_min to p_max, both included.

    Args:
        p_min: Share of the lowest level.
        p_max: Share of the highest.
        count: Number of levels. None: steps of 0.1, as nearly as they fit.

    Raises:
        ValueError: The bounds are no shares in order, or one level is to hold two different ones.
    """
    if not 0 <= p_min <= p_max <= 1:
        raise ValueError(f"intensities must satisfy 0 <= p_min <= p_max <= 1, found {p_min} and {p_max}")
    if count is None:
        # at least two, so that both ends are there; one where they are the same
        count = 1 if p_min == p_max else max(2, 1 + int(10 * (p_max - p_min) + 0.5))
    if count < 1 or (count == 1 and p_min != p_max):
        raise ValueError(f"{count} levels cannot hold both p_min ({p_min}) and p_max ({p_max}): ask for more")
    if count == 1:
        return (p_min,)
    return tuple(p_min + (p_max - p_min) * (level / (count - 1)) for level in range(count))


def draw_levels(keys: Tensor, count: int) -> Tensor:
    """Return a level for each row, `[B]` int64, from 0 to count - 1, all equally likely, by the row's key alone."""
    return (uniforms(keys, 1, LEVEL)[:, 0] * count).long()


def shares(drawn: Tensor, of_levels: Sequence[float]) -> Tensor:
    """Return the share of each row, `[B]` float64, from its level `[B]`."""
    return torch.tensor(of_levels, dtype=torch.float64, device=drawn.device)[drawn]


def curriculum(
    update: int, *, p: float, updates: int, initial: float = 0.0, begin: int = 0, stages: int | None = None
) -> float:
    """Return the share to leave out at an update, on its way from `initial` to `p`.

          p                          ________        stages None: a straight line
                                   /
          initial  ______________/
                            begin    begin + updates

    With stages: as many equal steps, the first of them at `begin`, the last before `begin + updates`, as when one step
    of reasoning more is left out at each (Deng et al. 2024, arXiv 2405.14838).

    Args:
        update: Number of the update, from 0.
        p: Share at the end, and ever after.
        updates: Updates that the way takes; 0: none.
        initial: Share before.
        begin: Update at which the way begins.
        stages: Number of steps.
    """
    if update < begin:
        return initial
    if update >= begin + updates:
        return p
    done = (update - begin) / updates
    if stages is not None:
        done = ((update - begin) * stages // updates + 1) / stages
    return initial + (p - initial) * done
