"""How well answers agree with the right ones, where a share of right ones says too little. N examples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def f1(counts: NDArray[np.int64]) -> float:
    """Return the harmonic mean of precision and recall of class 1; 0 where it is neither right nor chosen.

    Args:
        counts: `[2, 2]`: right class by chosen class.
    """
    (_, wrongly), (missed, hits) = counts.tolist()
    return 2 * hits / (2 * hits + wrongly + missed) if hits else 0.0


def matthews(counts: NDArray[np.int64]) -> float:
    """Return the correlation of two classes (Matthews 1975); 0 where either side has but one.

    Args:
        counts: `[2, 2]`: right class by chosen class.
    """
    (rejected, wrongly), (missed, hits) = counts.tolist()
    spread = (hits + wrongly) * (hits + missed) * (rejected + wrongly) * (rejected + missed)
    return (hits * rejected - wrongly * missed) / math.sqrt(spread) if spread else 0.0


def spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the correlation of the ranks of two rows of numbers `[N]`; 0 where either are all the same.

    Equal numbers share the mean of their ranks.
    """
    ranks = [_ranks(row) for row in (one, other)]
    apart = [row - row.mean() for row in ranks]
    spread = math.sqrt(float((apart[0] ** 2).sum() * (apart[1] ** 2).sum()))
    return float((apart[0] * apart[1]).sum()) / spread if spread else 0.0


def _ranks(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[place]
