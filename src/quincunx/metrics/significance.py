"""Is one run better than another over the same queries: difference, bootstrap interval, randomisation test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quincunx.metrics.intervals import Interval, bootstrap_mean

ENUMERATED = 1 << 16
"""Assignments of signs that are all tried; where there are more, some are drawn."""


@dataclass(frozen=True)
class Paired:
    """A paired comparison of two runs."""

    difference: Interval
    """Mean of a - b, with its bootstrap interval over the queries."""
    p: float
    """Two-sided p-value of the randomisation test."""
    exact: bool
    """Whether all assignments were tried."""
    wins: int
    """Queries with a > b."""
    losses: int
    """Queries with a < b."""


def paired(
    a: ArrayLike, b: ArrayLike, *, level: float = 0.95, seed: int = 0, resamples: int = 10_000, samples: int = 100_000
) -> Paired:
    """Return the paired comparison of two runs' values, query by query.

    Arguments: `a`, `b` values of the same queries in the same order [N]; `level` of the interval; `seed` of the
    bootstrap's `resamples` and of the test's `samples` (the latter where exact enumeration would take too long).
    ValueError for lengths that differ, no values, or some not finite.
    """
    one, other = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"values of shapes {list(one.shape)} and {list(other.shape)}: expected one a query, of both")
    difference = one - other
    interval = bootstrap_mean(difference, level, seed, resamples)
    p, exact = randomisation_test(difference, seed=seed, samples=samples)
    return Paired(interval, p, exact, int((difference > 0).sum()), int((difference < 0).sum()))


def randomisation_test(differences: ArrayLike, *, seed: int = 0, samples: int = 100_000) -> tuple[float, bool]:
    """Return the two-sided p-value of a mean difference being 0, and whether it is exact.

    Under the null hypothesis each query's difference could as well have had the other sign: p is the share of
    assignments of signs whose mean is at least as far from 0 as the one observed. Drawn assignments count the observed
    one among them, so p is never 0. Sources: Fisher, The Design of Experiments (1935); Smucker, Allan and Carterette
    (CIKM 2007); Phipson and Smyth (2010) for drawn ones. ValueError for values that are not finite, or too few samples.
    """
    values = np.asarray(differences, np.float64).ravel()
    if not np.isfinite(values).all():
        raise ValueError("some values are not finite")
    if samples < 1:
        raise ValueError(f"a test on {samples} samples")
    values = values[values != 0]  # either sign of 0 is the same
    if not len(values):
        return 1.0, True
    # what rounding may do to a sum of these numbers must not decide whether it is as far from 0
    limit = abs(float(values.sum())) - 1e-12 * float(np.abs(values).sum())
    if len(values) <= math.log2(ENUMERATED):
        bits = np.arange(1 << len(values))[:, None] >> np.arange(len(values)) & 1
        return float((np.abs(_sums(bits, values)) >= limit).mean()), True
    generator = np.random.Generator(np.random.Philox(seed))
    at_once = max(1, 2_000_000 // len(values))
    extreme = 0
    for start in range(0, samples, at_once):
        bits = generator.integers(0, 2, (min(at_once, samples - start), len(values)), np.int8)
        extreme += int((np.abs(_sums(bits, values)) >= limit).sum())
    return (extreme + 1) / (samples + 1), False


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for being several, in their order: rejecting those at or below a level keeps the chance
    of any false rejection at or below it, however they depend on each other.

    Source: Holm, A simple sequentially rejective multiple test procedure (Scandinavian Journal of Statistics 6, 1979).
    ValueError for a value that is no probability.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values lie between 0 and 1, found {list(p_values)}")
    corrected, least = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        least = max(least, min(1.0, p_values[index] * (len(p_values) - place)))
        corrected[index] = least
    return corrected


def _sums(bits: NDArray[np.integer], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of values whose sign is turned where a bit is 1 [assignments]."""
    return values.sum() - 2 * (bits @ values)
