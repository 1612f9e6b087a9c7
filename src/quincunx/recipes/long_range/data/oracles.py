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
"""Examples of the training split that the oracles below look at, evenly spread over it, because files are often sorted
by class: more change their answer by little."""


def bag_of_tokens_oracle(train: Examples, test: Examples) -> Accuracy:
    """Return the accuracy on `test` of a naive Bayes classifier that knows how often each token occurs, not where.

    Multinomial, with one added to every count (Manning, Raghavan and Schütze 2008, section 13.2). For pairs, whose
    tokens tell nothing of how they relate, it is the best threshold on the cosine of the two documents' token counts.
    """
    count = min(len(train), LEARNT_FROM)
    learnt = np.arange(count) * len(train) // count
    labels = train.labels[learnt]
    if train.parts == 2:
        return _similarity_oracle(_similarities(train, learnt), labels, test)
    classes = int(labels.max()) + 1
    totals = np.ones((classes, 256))
    for part, counts in _histograms(train, learnt):
        np.add.at(totals, labels[part], counts)
    seen = np.bincount(labels, minlength=classes)
    with np.errstate(divide="ignore"):  # a class that never occurs is never the answer
        prior = np.log(seen / seen.sum())
    chances = np.log(totals / totals.sum(axis=1, keepdims=True))
    right = 0
    for part, counts in _histograms(test, np.arange(len(test))):
        answers = np.argmax(counts @ chances.T + prior, axis=1)
        right += int((answers == test.labels[part]).sum())
    return accuracy(right, len(test))


def _similarity_oracle(known: NDArray[np.float64], labels: NDArray[np.uint8], test: Examples) -> Accuracy:
    order = np.argsort(known, kind="stable")
    known = known[order]
    positive = (labels[order] == 1).astype(np.int64)
    # right answers if everything from place i on is called related
    right = np.concatenate([[0], np.cumsum(1 - positive)]) + positive.sum() - np.concatenate([[0], np.cumsum(positive)])
    # no threshold lies between pairs that are equally similar
    right[1:-1][known[1:] == known[:-1]] = -1
    best = int(np.argmax(right))
    threshold = known[best] if best < len(known) else np.inf
    asked = _similarities(test, np.arange(len(test)))
    return accuracy(int(((asked >= threshold) == (test.labels == 1)).sum()), len(test))


def _similarities(examples: Examples, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the square of each pair's cosine [n]: of whole numbers, so that equal ones come out equal."""
    found: list[NDArray[np.float64]] = []
    for _, counts in _histograms(examples, chosen):
        first, second = counts[0::2].astype(np.float64), counts[1::2].astype(np.float64)
        norms = (first * first).sum(axis=1) * (second * second).sum(axis=1)
        found.append((first * second).sum(axis=1) ** 2 / np.maximum(norms, 1))
    return np.concatenate(found)


def _histograms(
    examples: Examples, chosen: NDArray[np.int64], at_once: int = 512
) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Yield which of the chosen examples, and how often each symbol occurs in each sequence of them [n * P, 256]."""
    for start in range(0, len(chosen), at_once):
        part = slice(start, start + at_once)
        rows = [examples.symbols(int(index), side) for index in chosen[part] for side in range(examples.parts)]
        yield part, np.stack([np.bincount(row, minlength=256) for row in rows])
