"""What a language model's predictions are worth, and how much of what a context gives is left when it is compressed.

N examples, P positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quincunx.metrics.intervals import Interval

MOST = 700.0
"""Losses above it have perplexities that no float holds."""


def perplexity(loss: float) -> float:
    """Return exp(loss) of a mean loss in nats; infinite where no float holds it."""
    return math.exp(loss) if loss < MOST else math.inf


@dataclass(frozen=True)
class Losses:
    """Losses of the same tokens, predicted in three ways."""

    low: NDArray[np.float64]
    """`[N, P]`: without any context; nan where an example has no such position."""
    compressed: NDArray[np.float64]
    """`[N, P]`: with the compressed context."""
    high: NDArray[np.float64]
    """`[N, P]`: with the whole context."""
    documents: NDArray[np.int64]
    """`[N]`: which document each example is from; examples of one document are not independent."""

    def first(self, positions: int) -> Losses:
        """Return the first so many positions."""
        return Losses(self.low[:, :positions], self.compressed[:, :positions], self.high[:, :positions], self.documents)

    def at(self, start: int, stop: int) -> Losses:
        """Return the positions from `start` to before `stop`."""
        part = slice(start, stop)
        return Losses(self.low[:, part], self.compressed[:, part], self.high[:, part], self.documents)


def gap_recovered(losses: Losses, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Return (low - compressed) / (low - high) of total losses: 1 where nothing is lost, 0 where all is.

    The interval is the bootstrap's over documents, percentiles (Efron 1979). Both bounds are infinite, or the value is
    nan, where the whole context helps so little that the gap may be none.

    Args:
        losses: What was found.
        level: Of confidence.
        resamples: Of the bootstrap.
        seed: Likewise.

    Raises:
        ValueError: There are no examples or no positions.
    """
    if not losses.low.size:
        raise ValueError("there are no losses to compare")
    sums = _sums(losses)
    value = _share(sums.sum(0, keepdims=True))[0]
    generator = np.random.Generator(np.random.Philox(seed))
    shares = np.empty(resamples)
    for number in range(resamples):
        drawn = generator.integers(0, len(sums), len(sums))
        shares[number] = _share(sums[drawn].sum(0, keepdims=True))[0]
    if np.isnan(shares).any():
        return Interval(float(value), -math.inf, math.inf)
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def _sums(losses: Losses) -> NDArray[np.float64]:
    """Return the three sums of each document, `[documents, 3]`."""
    each = np.stack([np.nansum(table, axis=1) for table in (losses.low, losses.compressed, losses.high)], axis=1)
    _, group = np.unique(losses.documents, return_inverse=True)
    found = np.zeros((int(group.max()) + 1, 3))
    np.add.at(found, group, each)
    return found


def _share(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    low, compressed, high = sums.T
    gap = low - high
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gap > 0, (low - compressed) / gap, np.nan)


def mean_of(table: ArrayLike) -> float:
    """Return the mean of what is no nan."""
    return float(np.nanmean(np.asarray(table, np.float64)))
