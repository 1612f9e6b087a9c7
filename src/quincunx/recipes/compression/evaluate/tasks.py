"""Answers of the tasks on formal languages, by the length of their inputs: each place of an answer says one symbol.

The measure is that of Delétang et al. (2022, arXiv 2207.02098): the share of right symbols at each input length, then
its mean over the lengths. Nothing is generated, so causal models and those that read both ways are judged alike. N
examples, P answer symbols.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from quincunx.config.plan import Plan
from quincunx.data.loader import Source
from quincunx.engine.runtime import Runtime
from quincunx.metrics.classification import ranges
from quincunx.metrics.intervals import wilson
from quincunx.metrics.language import mean_of
from quincunx.metrics.record import Evaluation, Table
from quincunx.recipes.compression.evaluate.batches import Found, predictions
from quincunx.recipes.compression.shaping import Shaping

SEED = 0
"""Of positions that are drawn at evaluation: the same at every one."""
GROUPS = 10
"""Ranges of lengths in the table, at most."""


@dataclass(frozen=True)
class ByLength:
    """Shares of right symbols."""

    lengths: NDArray[np.int64]
    """`[L]`: those that there are, ascending."""
    accuracy: NDArray[np.float64]
    """`[L]`: over all symbols of all answers at this length."""
    error: float
    """Standard error of the mean over the lengths; what they differ by counts as chance, so it is no less than that."""

    @property
    def mean(self) -> float:
        """Over the lengths, each counting alike."""
        return float(self.accuracy.mean())


def by_length(right: NDArray[np.float64], lengths: NDArray[np.int64]) -> ByLength:
    """Return the accuracy at each length.

    Args:
        right: `[N, P]`: 1 for a right symbol, 0 for a wrong one, nan where an answer has none.
        lengths: `[N]`: of the inputs.
    """
    kinds, place = np.unique(lengths, return_inverse=True)
    symbols = (~np.isnan(right)).sum(1)
    correct = np.nansum(right, axis=1)
    totals = np.bincount(place, weights=symbols)
    accuracy = np.bincount(place, weights=correct) / totals
    apart = (correct - symbols * accuracy.mean()) / (totals[place] * len(kinds))
    return ByLength(kinds, accuracy, math.sqrt(float((apart**2).sum())))


@dataclass(frozen=True)
class TaskEvaluator:
    """Evaluates a model on one split of a task."""

    split: str
    source: Source
    shaping: Shaping
    """Of the branch `plain`."""
    lengths: NDArray[np.int64]
    """`[N]`: symbols of each input."""
    chance: float
    """Accuracy of guessing, as published."""

    def __call__(self, model: nn.Module, runtime: Runtime, plan: Plan) -> Evaluation:
        """Return the accuracy of symbols as a mean over lengths, of whole answers, and both by ranges of lengths."""
        limit = plan.evaluation_limit if self.split == "dev" else None
        found = predictions(model, self.source, self.shaping, runtime, plan.evaluation_batch, SEED, limit)["plain"]
        lengths = self.lengths[: len(found.loss)]
        accuracy = by_length(found.right, lengths)
        whole = float(found.whole.mean())
        scalars = {
            "accuracy": accuracy.mean,
            "accuracy_se": accuracy.error,
            "exact": whole,
            "exact_se": math.sqrt(whole * (1 - whole) / len(lengths)),
            "loss": mean_of(found.loss),
            "chance": self.chance,
        }
        note = (
            f"{self.split}: {100 * accuracy.mean:.1f} % of answer symbols right (chance {100 * self.chance:.0f} %), a "
            f"mean over inputs of {accuracy.lengths[0]} to {accuracy.lengths[-1]} symbols; {100 * whole:.1f} % of "
            f"{len(lengths):,} answers right as a whole"
        )
        return Evaluation(scalars, [self._table(found, lengths)], notes=[note])

    def _table(self, found: Found, lengths: NDArray[np.int64]) -> Table:
        group, names = ranges(lengths, GROUPS)
        whole = found.whole
        rows: list[list[Any]] = []
        for number, name in enumerate(names):
            own = group == number
            if not own.any():
                continue
            exact = wilson(int(whole[own].sum()), int(own.sum()))
            shares = (by_length(found.right[own], lengths[own]).mean, self.chance, exact.value, exact.low, exact.high)
            rows.append([name, int(own.sum()), *(round(100 * share, 1) for share in shares)])
        columns = ["input symbols", "examples", "accuracy, %", "chance, %", "whole answers, %", "low", "high"]
        return Table("Accuracy by length of the input", columns, rows)
