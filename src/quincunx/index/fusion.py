"""Several rankings of the same documents made one: by ranks, or by scores that were brought to one scale.

Q queries, K results of a ranking, k results of the fused one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import UsageError
from quincunx.index.exact import NOTHING, Found

Normalisation = Literal["min-max", "z-score", "none"]
"""How the scores of a ranking are brought to a scale, query by query: see `weighted`."""
RANK_CONSTANT = 60.0
"""Of reciprocal ranks, as in the paper."""


def reciprocal_rank(
    rankings: Sequence[Found], k: int, *, constant: float = RANK_CONSTANT, weights: Sequence[float] | None = None
) -> Found:
    """Return the k best documents by reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009).

    A document's score is the sum, over the rankings that hold it, of weight / (constant + rank), ranks from 1. Scores
    are not looked at, so rankings of any scale go together.

    Args:
        rankings: Of the same Q queries, their documents numbered alike; the numbers of results may differ.
        k: Results a query.
        constant: The larger, the less the first ranks stand out.
        weights: Of the rankings; None: all 1.

    Raises:
        UsageError: A weight or constant that is negative or not finite, no weight above 0, another number of weights.
        ValueError: Rankings of different numbers of queries, or none; k below 1.
    """
    if not (np.isfinite(constant) and constant >= 0):
        raise UsageError(f"the constant of reciprocal ranks is {constant}; expected 0 or more")
    weights = _weights(rankings, weights)
    gains = [1 / (constant + np.arange(1, ranking.documents.shape[1] + 1)) for ranking in rankings]

    def parts(query: int) -> list[tuple[NDArray[np.int64], NDArray[np.float64], float]]:
        rows = [ranking.documents[query] for ranking in rankings]
        return [(row, weight * gain, 0.0) for row, gain, weight in zip(rows, gains, weights, strict=True)]

    return _fused(parts, len(rankings[0].documents), k)


def weighted(
    rankings: Sequence[Found],
    k: int,
    *,
    weights: Sequence[float] | None = None,
    normalisation: Normalisation = "min-max",
) -> Found:
    """Return the k best documents by a weighted sum of scores, those of each ranking brought to a scale before.

    Of a query's results in a ranking, with lowest score a, highest b, mean m and standard deviation s, a score x
    becomes `min-max`: (x - a) / (b - a), 1 where all are equal; `z-score`: (x - m) / s, 0 where all are equal; `none`:
    x. A document that a ranking does not hold gets what its last result has there (with `min-max` 0): it stood no
    higher. A ranking without a result for a query adds nothing to it.

    Args:
        rankings: Of the same Q queries, their documents numbered alike; the numbers of results may differ.
        k: Results a query.
        weights: Of the rankings; None: all 1.
        normalisation: One of these words.

    Raises:
        UsageError: Another word; a weight that is negative or not finite, no weight above 0, another number of them.
        ValueError: Rankings of different numbers of queries, or none; k below 1.
    """
    if normalisation not in get_args(Normalisation):
        raise UsageError(f"unknown normalisation {normalisation!r}; there are: {', '.join(get_args(Normalisation))}")
    weights = _weights(rankings, weights)

    def parts(query: int) -> list[tuple[NDArray[np.int64], NDArray[np.float64], float]]:
        found: list[tuple[NDArray[np.int64], NDArray[np.float64], float]] = []
        for ranking, weight in zip(rankings, weights, strict=True):
            there = ranking.documents[query] != NOTHING
            scores, absent = _scaled(ranking.scores[query][there].astype(np.float64), normalisation)
            found.append((ranking.documents[query][there], weight * scores, weight * absent))
        return found

    return _fused(parts, len(rankings[0].documents), k)


def _scaled(scores: NDArray[np.float64], normalisation: Normalisation) -> tuple[NDArray[np.float64], float]:
    """Return a query's scores on their new scale, and what a document gets that is not among them."""
    if not len(scores):
        return scores, 0.0
    low, high = float(scores.min()), float(scores.max())
    if normalisation == "min-max":
        return (np.ones_like(scores) if high == low else (scores - low) / (high - low)), 0.0
    if normalisation == "z-score":
        deviation = float(scores.std())
        scores = np.zeros_like(scores) if high == low or deviation == 0 else (scores - scores.mean()) / deviation
    return scores, float(scores.min())


def _weights(rankings: Sequence[Found], weights: Sequence[float] | None) -> list[float]:
    if not rankings or len({len(ranking.documents) for ranking in rankings}) > 1:
        raise ValueError(f"rankings of {[len(ranking.documents) for ranking in rankings]} queries cannot be fused")
    chosen = [1.0] * len(rankings) if weights is None else [float(weight) for weight in weights]
    if len(chosen) != len(rankings):
        raise UsageError(f"{len(chosen)} weights for {len(rankings)} rankings; expected one each")
    if not all(np.isfinite(weight) and weight >= 0 for weight in chosen) or not any(chosen):
        raise UsageError(f"the weights are {', '.join(map(str, chosen))}; expected 0 or more, one of them above 0")
    return chosen


def _fused(
    parts: Callable[[int], list[tuple[NDArray[np.int64], NDArray[np.float64], float]]], queries: int, k: int
) -> Found:
    """Return the k highest sums of each query's parts: documents, what each gets, and what the others get."""
    if k < 1:
        raise ValueError(f"k is {k}; a search returns at least one document")
    documents = np.full((queries, k), NOTHING, np.int64)
    scores = np.full((queries, k), -np.inf, np.float32)
    for query in range(queries):
        gains = parts(query)
        union = np.unique(np.concatenate([numbers for numbers, _, _ in gains]))
        union = union[union != NOTHING]
        sums = np.zeros(len(union))
        for numbers, values, absent in gains:
            there = numbers != NOTHING
            row = np.full(len(union), absent)
            row[np.searchsorted(union, numbers[there])] = values[there]
            sums += row
        totals = sums.astype(np.float32)
        best = np.argsort(-totals, kind="stable")[:k]  # equal ones stay in the order of the documents
        documents[query, : len(best)], scores[query, : len(best)] = union[best], totals[best]
    return Found(documents, scores)
