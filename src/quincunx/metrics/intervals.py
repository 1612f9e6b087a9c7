"""Confidence intervals: for a share of correct answers, for a mean over seeds, for any mean by resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def wilson(correct: int, total: int, level: float = 0.95) -> Interval:
    """Return Wilson's score interval of a share: within [0, 1], and sound for few answers or shares near 0 and 1.

    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927). ValueError for impossible counts.
    """
    _check_level(level)
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"{correct} correct answers among {total}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    low = 0.0 if correct == 0 else centre - half
    high = 1.0 if correct == total else centre + half
    return Interval(share, low, high)


def student_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Return mean and t-interval of independent values such as one result per seed [N].

    ValueError for fewer than two values, which say nothing about their spread, and for values that are not finite.
    """
    _check_level(level)
    numbers = _finite(values)
    if len(numbers) < 2:
        raise ValueError(f"an interval needs at least 2 values, found {len(numbers)}")
    mean = float(numbers.mean())
    half = student_quantile((1 + level) / 2, len(numbers) - 1) * float(numbers.std(ddof=1)) / math.sqrt(len(numbers))
    return Interval(mean, mean - half, mean + half)


def bootstrap_mean(values: ArrayLike, level: float = 0.95, seed: int = 0, resamples: int = 2000) -> Interval:
    """Return the mean of values [N] with its percentile bootstrap interval (Efron 1979).

    The same seed gives the same interval within one numpy version. ValueError for no values, or some not finite.
    """
    _check_level(level)
    numbers = _finite(values)
    if not len(numbers):
        raise ValueError("the mean of no values")
    generator = np.random.Generator(np.random.Philox(seed))
    means = np.empty(resamples)
    at_once = max(1, 1_000_000 // len(numbers))
    for start in range(0, resamples, at_once):
        block = means[start : start + at_once]
        block[:] = numbers[generator.integers(0, len(numbers), (len(block), len(numbers)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(numbers.mean()), float(low), float(high))


def student_quantile(probability: float, freedom: int) -> float:
    """Return Student's t with the given degrees of freedom (1 or more) at a probability in (0, 1)."""
    if not 0 < probability < 1 or freedom < 1:
        raise ValueError(f"no quantile {probability} with {freedom} degrees of freedom")
    if probability < 0.5:
        return -student_quantile(1 - probability, freedom)
    low, high = 0.0, math.pi / 2  # angle whose tangent is t / sqrt(freedom)
    for _ in range(80):
        middle = (low + high) / 2
        if (1 + _within(middle, freedom)) / 2 < probability:
            low = middle
        else:
            high = middle
    return math.tan((low + high) / 2) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """Return the probability that |T| <= t, where t = tan(angle) sqrt(freedom).

    The finite series for a whole number of degrees of freedom: Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    orders = np.arange(2 + odd, freedom - 1, 2, dtype=np.float64)
    factors = (orders - 1) / orders * cosine**2
    series = sine * (1.0 + float(np.cumprod(factors).sum()))
    if not odd:
        return series
    return 2 / math.pi * (angle + (cosine * series if freedom > 1 else 0.0))


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    numbers = np.asarray(values, np.float64).ravel()
    if not np.isfinite(numbers).all():
        raise ValueError("some values are not finite")
    return numbers


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"the confidence level is {level}, expected a share between 0 and 1")
