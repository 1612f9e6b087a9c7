"""From candidates to results: every kind of index gives the exact inner products of what it found.

A document's score is then the same number whatever index found it and whatever stands beside it, and equal vectors have
equal scores. Q queries, C candidates, D width, k results a query.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from quincunx.index.exact import NOTHING, Found

AT_ONCE = 1 << 22
"""Numbers of candidates' vectors that are gathered at a time, 16 MiB."""

Gather = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""`gather(documents [n])` returns their vectors `[n, D]`."""


def inner(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the inner products `[Q, C]` of vectors `[Q, C, D]` with their queries `[Q, D]`.

    einsum adds up row by row, so that a row's value depends on nothing else; a matrix product's does, in the last bit.
    """
    return np.einsum("qcd,qd->qc", vectors, queries)


def best_of(
    queries: NDArray[np.float32], candidates: NDArray[np.int64], gather: Gather, k: int
) -> tuple[Found, NDArray[np.float32]]:
    """Return the k best of each query's candidates `[Q, C]`, and the scores of all `[Q, C]`.

    NOTHING among the candidates is passed over and has the score minus infinity; no document may stand twice in a row.
    """
    scores = np.full(candidates.shape, -np.inf, np.float32)
    count, width = candidates.shape[1], queries.shape[1]
    rows = max(1, AT_ONCE // max(1, count * width))
    for start in range(0, len(queries) if count else 0, rows):
        part = candidates[start : start + rows]
        vectors = gather(np.maximum(part, 0).ravel()).reshape(*part.shape, width)
        values = inner(vectors, queries[start : start + rows])
        scores[start : start + rows] = np.where(part == NOTHING, -np.inf, values)
    return sorted_best(candidates, scores, k), scores


def sorted_best(documents: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Found:
    """Return the k best of scored documents `[Q, C]`, equal scores in the order of the documents."""
    order = np.lexsort((documents, -scores), axis=1)[:, :k]
    found = np.full((len(documents), k), NOTHING, np.int64)
    values = np.full((len(documents), k), -np.inf, np.float32)
    width = order.shape[1]
    values[:, :width] = np.take_along_axis(scores, order, 1)
    found[:, :width] = np.where(np.isneginf(values[:, :width]), NOTHING, np.take_along_axis(documents, order, 1))
    return Found(found, values)
