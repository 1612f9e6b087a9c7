"""Accuracy with its standard error, over everything and by group, and confusion counts: from counts, never from means
of batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quincunx.metrics.record import Table


@dataclass(frozen=True)
class Accuracy:
    """The share of correct answers among `total`."""

    correct: int
    total: int

    @property
    def value(self) -> float:
        """The share, 0 to 1."""
        return self.correct / self.total

    @property
    def standard_error(self) -> float:
        """Standard error of the share, sqrt(p (1 - p) / n)."""
        return math.sqrt(self.value * (1 - self.value) / self.total)

    def __str__(self) -> str:
        return f"{100 * self.value:.2f} % ± {100 * self.standard_error:.2f}"


def accuracy(correct: int, total: int) -> Accuracy:
    """Return the accuracy of `correct` answers among `total`; ValueError unless 0 <= correct <= total and total > 0."""
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"{correct} correct answers among {total}")
    return Accuracy(int(correct), int(total))


def group_accuracy(correct: ArrayLike, groups: ArrayLike) -> dict[int, Accuracy]:
    """Return the accuracy of each group that occurs, in order of the groups.

    Arguments: `correct`, whether each answer is right [N]; `groups`, the number of each answer's group [N], 0 or more.
    ValueError when the two differ in length.
    """
    right, group = np.asarray(correct, np.bool_), np.asarray(groups, np.int64)
    if right.shape != group.shape or right.ndim != 1:
        raise ValueError(f"{right.shape} answers, {group.shape} groups; expected two rows of one length")
    totals, rights = np.bincount(group), np.bincount(group[right], minlength=int(group.max(initial=-1)) + 1)
    return {int(number): accuracy(int(rights[number]), int(totals[number])) for number in np.flatnonzero(totals)}


def accuracy_table(
    title: str, column: str, correct: ArrayLike, groups: ArrayLike, names: Sequence[str] | None = None
) -> Table:
    """Return `group_accuracy` as a table: group (its entry of `names`, else its number), examples, accuracy, error."""
    rows = [
        (names[group] if names is not None else group, found.total, found.value, found.standard_error)
        for group, found in group_accuracy(correct, groups).items()
    ]
    return Table(title, (column, "examples", "accuracy", "standard error"), rows)


def ranges(values: ArrayLike, count: int) -> tuple[NDArray[np.int64], list[str]]:
    """Cut whole numbers [N] into at most `count` ranges of equal width from the least to the greatest.

    Returns each value's range as an index [N], and the names of the ranges (`501-874`).
    """
    numbers = np.asarray(values, np.int64)
    low, high = int(numbers.min()), int(numbers.max())
    width = -(-(high - low + 1) // count)
    index = (numbers - low) // width
    starts = range(low, high + 1, width)
    return index, [
        f"{start}-{end}" if (end := min(start + width - 1, high)) > start else f"{start}" for start in starts
    ]


def confusion_counts(labels: ArrayLike, predictions: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Return how often each label [N] got each prediction [N]: one row a label, one column a prediction [C, C].

    ValueError when the two differ in length or hold a number outside 0 to `classes` - 1.
    """
    true, predicted = np.asarray(labels, np.int64), np.asarray(predictions, np.int64)
    if true.shape != predicted.shape or true.ndim != 1:
        raise ValueError(f"{true.shape} labels, {predicted.shape} predictions; expected two rows of one length")
    for row, what in ((true, "label"), (predicted, "prediction")):
        outside = row[(row < 0) | (row >= classes)]
        if len(outside):
            raise ValueError(f"{what} {outside[0]} is outside 0 to {classes - 1}")
    return np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)
