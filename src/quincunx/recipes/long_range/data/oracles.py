"""What a classifier reaches that reads next to nothing: the least that a model must beat to have read the sequence.

N examples, V token ids, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from quincunx.metrics.classification import Accuracy, accuracy
from quincunx.recipes.long_range.data.examples import Examples
from quincunx.recipes.long_range.data.listops.language import ROOTS, root_operators


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
    roots = root_operators(train.flat, train.offsets)
    counts = np.bincount(roots * classes + train.labels, minlength=len(ROOTS) * classes).reshape(-1, classes)
    counts[counts.sum(axis=1) == 0] = counts.sum(axis=0)
    answers = np.argmax(counts, axis=1)
    return accuracy(int((test.labels == answers[root_operators(test.flat, test.offsets)]).sum()), len(test))


LEARNT_FROM = 20_000
"""Examples of the training split that the oracles below look at: more change their answer by little."""


def bag_of_tokens_oracle(train: Examples, test: Examples) -> Accuracy:
    """Return the accuracy on `test` of a naive Bayes classifier that knows how often each token occurs, not where.

    Multinomial, with one added to every count (Manning, Raghavan and Schütze 2008, section 13.2). For pairs, whose
    tokens tell nothing of how they relate, it is the best threshold on the cosine of the two documents' token counts.
    """
    train = train.take(LEARNT_FROM)
    if train.parts == 2:
        return _similarity_oracle(train, test)
    classes = int(train.labels.max()) + 1
    totals = np.ones((classes, 256))
    for start, counts in _histograms(train):
        np.add.at(totals, train.labels[start : start + len(counts)], counts)
    seen = np.bincount(train.labels, minlength=classes)
    with np.errstate(divide="ignore"):  # a class that never occurs is never the answer
        prior = np.log(seen / seen.sum())
    chances = np.log(totals / totals.sum(axis=1, keepdims=True))
    right = 0
    for start, counts in _histograms(test):
        answers = np.argmax(counts @ chances.T + prior, axis=1)
        right += int((answers == test.labels[start : start + len(counts)]).sum())
    return accuracy(right, len(test))


def _similarity_oracle(train: Examples, test: Examples) -> Accuracy:
    known, asked = _similarities(train), _similarities(test)
    order = np.argsort(known, kind="stable")
    positive = (train.labels[order] == 1).astype(np.int64)
    # right answers if everything from place i on is called related
    right = np.concatenate([[0], np.cumsum(1 - positive)]) + positive.sum() - np.concatenate([[0], np.cumsum(positive)])
    best = int(np.argmax(right))
    threshold = known[order][best] if best < len(known) else np.inf
    return accuracy(int(((asked >= threshold) == (test.labels == 1)).sum()), len(test))


def _similarities(examples: Examples) -> NDArray[np.float64]:
    found: list[NDArray[np.float64]] = []
    for _, counts in _histograms(examples):
        first, second = counts[0::2].astype(np.float64), counts[1::2].astype(np.float64)
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        found.append((first * second).sum(axis=1) / np.maximum(norms, 1e-30))
    return np.concatenate(found)


def _histograms(examples: Examples, at_once: int = 512) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield the number of the first example and how often each symbol occurs in each sequence [n * P, 256]."""
    for start in range(0, len(examples), at_once):
        places = range(start * examples.parts, min(start + at_once, len(examples)) * examples.parts)
        rows = [examples.flat[examples.offsets[place] : examples.offsets[place + 1]] for place in places]
        yield start, np.stack([np.bincount(row, minlength=256) for row in rows])
