"""A measure over a corpus: its value, every sample's, and the interval that resampling the samples gives.

Corpus values such as BLEU's are no means of the samples' values but functions of sums over samples, so sums are what is
kept. N samples, K sums, R rows of sums.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quincunx.errors import DataError
from quincunx.metrics.intervals import Interval
from quincunx.metrics.record import Table

Numbers = NDArray[np.float64]
Formula = Callable[[Numbers], Numbers]
"""From rows of sums [R, K] to values [R]."""

AT_ONCE = 1_000_000
SHOWN = 3


@dataclass(frozen=True)
class Measured:
    """One measure over a corpus of N samples; made by `mean` or `from_sums`."""

    names: Sequence[str]
    """Ids of the samples, N of them."""
    samples: Numbers
    """[N]: the measure of each sample alone."""
    sums: Numbers
    """[N, K]: what each sample adds to the sums that the corpus value is computed from."""
    formula: Formula

    @property
    def value(self) -> float:
        """The measure of the whole corpus."""
        return float(self.formula(self.sums.sum(axis=0, keepdims=True))[0])

    @property
    def by_name(self) -> dict[str, float]:
        """Sample -> its value."""
        return dict(zip(self.names, self.samples.tolist(), strict=True))

    def interval(self, level: float = 0.95, seed: int = 0, resamples: int = 2000) -> Interval:
        """Return the corpus value with its percentile bootstrap interval over the samples (Efron 1979).

        Where samples are few the bounds lie too near. The same seed gives the same interval within one numpy version.

        Args:
            level: Of confidence, between 0 and 1.
            seed: Of the drawing.
            resamples: How many corpora are drawn, each of N samples with replacement.

        Raises:
            ValueError: An impossible level, no resamples.
        """
        if not 0 < level < 1 or resamples < 1:
            raise ValueError(f"no interval of level {level} from {resamples} resamples")
        generator = np.random.Generator(np.random.Philox(seed))
        count = len(self.names)
        values = np.empty(resamples)
        for start in range(0, resamples, max(1, AT_ONCE // count)):
            block = values[start : start + max(1, AT_ONCE // count)]
            drawn = generator.integers(0, count, (len(block), count)) + count * np.arange(len(block))[:, None]
            times = np.bincount(drawn.ravel(), minlength=count * len(block)).reshape(len(block), count)
            block[:] = self.formula(times.astype(np.float64) @ self.sums)
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return Interval(self.value, float(low), float(high))


def mean(names: Sequence[str], samples: ArrayLike) -> Measured:
    """Return a measure whose corpus value is the mean of the samples' values [N]; ValueError for none."""
    values = np.asarray(samples, np.float64)
    return from_sums(names, values, np.stack([values, np.ones_like(values)], axis=1), _ratio)


def from_sums(names: Sequence[str], samples: ArrayLike, sums: ArrayLike, formula: Formula) -> Measured:
    """Return a measure whose corpus value is a function of sums over the samples.

    Args:
        names: Ids of the samples, N of them.
        samples: The measure of each alone [N].
        sums: What each adds [N, K].
        formula: The corpus value of sums, for several rows at a time: [R, K] to [R].

    Raises:
        ValueError: There are no samples, their numbers differ, or some are not finite.
    """
    values, parts = np.asarray(samples, np.float64), np.asarray(sums, np.float64)
    if not len(names) or values.shape != (len(names),) or parts.ndim != 2 or len(parts) != len(names):
        raise ValueError(f"{len(names)} names, values {values.shape}, sums {parts.shape}; expected [N], [N], [N, K]")
    if not (np.isfinite(values).all() and np.isfinite(parts).all()):
        raise ValueError("some values are not finite")
    return Measured(tuple(names), values, parts, formula)


def interval_table(title: str, column: str, found: Mapping[str, Measured], level: float = 0.95) -> Table:
    """Return measures as a table: name (under the heading `column`), samples, value, and the interval's two bounds."""
    rows = [
        (name, len(measured.names), bounds.value, bounds.low, bounds.high)
        for name, measured in found.items()
        for bounds in [measured.interval(level)]
    ]
    return Table(title, (column, "samples", "value", "low", "high"), rows)


def same_ids(truth: Collection[str], given: Collection[str], what: str, whose: str) -> list[str]:
    """Return the ids of what is true, in their order, after a check that the same ids were answered.

    Args:
        truth: Ids that have a true answer.
        given: Ids that were answered.
        what: What an id names, such as `question`.
        whose: What the answers are called, such as `predictions`.

    Raises:
        DataError: There are none, some lack an answer, or some answers belong to none; the text names the first.
    """
    if not truth:
        raise DataError(f"there is no {what} to measure {whose} against")
    known, answered = set(truth), set(given)
    if missing := [name for name in truth if name not in answered]:
        raise DataError(
            f"{whose}: {len(missing)} of {len(known)} {what}s have none: {_some(missing)}; expected one each"
        )
    if unknown := [name for name in given if name not in known]:
        raise DataError(
            f"{whose}: {len(unknown)} belong to no {what}: {_some(unknown)}; do the two files fit together?"
        )
    return list(truth)


def _ratio(sums: Numbers) -> Numbers:
    return sums[:, 0] / sums[:, 1]


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:SHOWN])) + (" ..." if len(names) > SHOWN else "")
