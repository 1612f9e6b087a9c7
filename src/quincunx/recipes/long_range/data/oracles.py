"""What a classifier reaches that reads next to nothing: the least that a model must beat to have read the sequence."""

from __future__ import annotations

import numpy as np

from quincunx.metrics.classification import Accuracy, accuracy
from quincunx.recipes.long_range.data.examples import Examples
from quincunx.recipes.long_range.data.listops import ROOTS


def majority_oracle(train: Examples, test: Examples) -> Accuracy:
    """Return the accuracy on `test` of always answering the most frequent label of `train` (the lowest of several)."""
    answer = np.argmax(np.bincount(train.labels))
    return accuracy(int((test.labels == answer).sum()), len(test))


def root_operator_oracle(train: Examples, test: Examples) -> Accuracy:
    """Return the accuracy on `test` of answering, for each outermost operator, its most frequent label in `train`.

    An operator that `train` does not hold is answered with the most frequent label of all. On the Long Range Arena's
    ListOps this gives about 36 %, because MIN and MAX of many arguments are mostly 0 and 9.
    """
    classes = int(train.labels.max()) + 1
    counts = np.bincount(train.roots() * classes + train.labels, minlength=len(ROOTS) * classes).reshape(-1, classes)
    counts[counts.sum(axis=1) == 0] = counts.sum(axis=0)
    answers = np.argmax(counts, axis=1)
    return accuracy(int((test.labels == answers[test.roots()]).sum()), len(test))
