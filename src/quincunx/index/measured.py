"""How good and how fast an index is, against comparing with every document."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quincunx.errors import UsageError
from quincunx.index.exact import NOTHING, Found

if TYPE_CHECKING:
    from quincunx.index.indexed import Index

SEARCHES, ENOUGH = 5, 0.5
"""How often a search is timed: so many times at most, and no longer than so many seconds."""


@dataclass(frozen=True)
class Measured:
    """What a search with an index gives, over some queries."""

    recall: float
    """Share of the exact k best documents that it finds; another of the same score is as good."""
    k: int
    queries: int
    queries_per_second: float
    """Searched together, after a first search."""
    exact_queries_per_second: float
    """Of comparing with every document."""
    of_documents: bool
    """Whether documents of the index served as queries; each is not counted among its own results."""


def measure(
    index: Index,
    queries: NDArray[np.float32] | Tensor | None = None,
    k: int = 10,
    *,
    sample: int = 200,
    seed: int = 0,
    **options: int,
) -> Measured:
    """Return how an index does.

    Args:
        index: With one document at least.
        queries: `[Q, D]`; None: documents of the index, chosen at random. Real queries are often harder to search for
            than documents, which lie where other documents lie.
        k: Results a query.
        sample: Documents to choose; all where there are no more.
        seed: Of the choice.
        options: Of the search, as in `Index.search`.

    Raises:
        UsageError: No queries, and what `Index.search` refuses.
    """
    own: NDArray[np.int64] | None = None
    if queries is None:
        count = min(sample, len(index))
        own = np.sort(np.random.default_rng(seed).choice(index.documents, count, replace=False)) if count > 0 else None
        queries = index.vectors(own) if own is not None else np.empty((0, index.width), np.float32)
    if len(queries) == 0:
        raise UsageError("there are no queries to measure the index with: it needs one at least")
    depth = k if own is None else k + 1
    found, seconds = _timed(index, queries, depth, False, options)
    exact, exact_seconds = _timed(index, queries, depth, True, options)
    recall = recall_of(found, exact) if own is None else recall_of(_without(found, own), _without(exact, own))
    return Measured(
        recall=recall,
        k=k,
        queries=len(queries),
        queries_per_second=len(queries) / seconds,
        exact_queries_per_second=len(queries) / exact_seconds,
        of_documents=own is not None,
    )


def recall_of(found: Found, exact: Found) -> float:
    """Return the share of the exact results `[Q, k]` that were found; of equal scores, any document will do."""
    there = exact.documents != NOTHING
    # the k-th place is the least a result must score; a row with fewer results than k takes any that are there
    least = np.where(there, exact.scores, np.inf).min(1, initial=np.inf)
    good = (found.documents != NOTHING) & (found.scores >= least[:, None])
    total = int(there.sum())
    return float(np.minimum(good.sum(1), there.sum(1)).sum() / total) if total else 1.0


def _timed(index: Index, queries: NDArray[np.float32] | Tensor, k: int, compare_all: bool, options: dict) -> tuple:
    """Return what is found, and the seconds it takes: the median of several searches, where they are short."""
    found = index.search(queries, k, compare_all=compare_all, **options)  # files are read at the first
    seconds: list[float] = []
    while len(seconds) < SEARCHES and sum(seconds) < ENOUGH:
        start = time.perf_counter()
        index.search(queries, k, compare_all=compare_all, **options)
        seconds.append(time.perf_counter() - start)
    return found, statistics.median(seconds)


def _without(found: Found, own: NDArray[np.int64]) -> Found:
    """Return results with one column less: each row without its own document, or without its last."""
    mine = found.documents == own[:, None]
    mine[~mine.any(1), -1] = True
    shape = (len(own), found.documents.shape[1] - 1)
    return Found(found.documents[~mine].reshape(shape), found.scores[~mine].reshape(shape))
