"""What ranks and scores the documents of a pool for mining: vectors, words, and a cross-encoder.

Q queries asked together, N documents of the pool by row, C of them for each query, k results, D width, m poly codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError
from quincunx.index.exact import NOTHING, Found
from quincunx.index.fusion import reciprocal_rank, weighted
from quincunx.index.lexical import Lexical
from quincunx.index.scored import best_of
from quincunx.recipes.retrieval.encode import Vectors
from quincunx.recipes.retrieval.mine_pool import Pool, Rows
from quincunx.recipes.retrieval.reranker import Reranker
from quincunx.recipes.retrieval.search import Searcher, Way, score_every

Scores = NDArray[np.float32]


@dataclass
class Rankings:
    """What is there to rank by."""

    pool: Pool
    way: Way
    searcher: Searcher | None = None
    """Of the pool's vectors, its documents in the order of the pool's rows; None: there are none."""
    reranker: Reranker | None = None

    @property
    def names(self) -> list[str]:
        """Those that can score any document."""
        return [
            *(["dense"] if self.searcher is not None and self.searcher.encoder is not None else []),
            "bm25",
            *(["reranker"] if self.reranker is not None else []),
        ]

    @property
    def judge(self) -> str | None:
        """What margins look at: the cross-encoder, without one the vectors; None where there is neither."""
        return next((name for name in ("reranker", "dense") if name in self.names), None)

    @cached_property
    def lexical(self) -> Lexical:
        """BM25 over the pool."""
        return self.pool.lexical()

    def ask(self, queries: Sequence[str]) -> Asked:
        """Return some queries, encoded once."""
        vectors = None
        if "dense" in self.names:
            assert self.searcher is not None and self.searcher.encoder is not None
            vectors = self.searcher.encoder.encode(list(queries), side="query")
        return Asked(self, queries, vectors)


@dataclass(frozen=True)
class Asked:
    """Some queries."""

    by: Rankings
    queries: Sequence[str]
    vectors: Vectors | None
    """`[Q, D]`, of a poly-encoder `[Q, m, D]`; None where there are none."""

    def rank(self, k: int) -> Found:
        """Return the k best rows for each query, in the way that was chosen."""
        way = self.by.way
        found = {
            **({"dense": self._nearest(k)} if way.by != "bm25" else {}),
            **({"bm25": self.by.lexical.search(self.queries, k)} if way.by != "dense" else {}),
        }
        if way.by == "rrf":
            return reciprocal_rank([*found.values()], k, constant=way.rank_constant, weights=way.weights)
        if way.by == "weighted":
            return weighted([*found.values()], k, weights=way.weights, normalisation=way.normalisation)
        return found[way.by]

    def scores(self, name: str, rows: Rows) -> Scores:
        """Return what a ranking gives each query for the documents `[Q, C]` beside it, minus infinity for NOTHING.

        Raises:
            DataError: A model's score is not finite.
        """
        found = {"dense": self._dense, "bm25": self._words, "reranker": self._reranked}[name](rows)
        bad = (rows != NOTHING) & ~np.isfinite(found)
        if bad.any():
            query, column = (int(part[0]) for part in np.nonzero(bad))
            document = self.by.pool.ids[int(rows[query, column])]
            raise DataError(
                f"the {name} score of document {document!r} for the query {self.queries[query]!r} is "
                f"{found[query, column]}: the model's weights or its precision are at fault"
            )
        return found

    def _nearest(self, k: int) -> Found:
        searcher, way = self.by.searcher, self.by.way
        assert searcher is not None and self.vectors is not None
        if self.vectors.ndim == 2:
            found = searcher.index.search(self.vectors, k, compare_all=way.exact, **way.options)
        else:
            found = searcher.search(self.queries, k, Way("dense", exact=way.exact, options=way.options)).found
        there = found.documents != NOTHING
        rows = np.searchsorted(searcher.index.documents, found.documents)  # numbers of an index may have gaps
        return Found(np.where(there, rows, NOTHING), found.scores)

    def _dense(self, rows: Rows) -> Scores:
        searcher, vectors = self.by.searcher, self.vectors
        assert searcher is not None and vectors is not None
        index, encoder = searcher.index, searcher.encoder
        assert encoder is not None

        def gather(some: Rows) -> Vectors:
            return index.vectors(index.documents[some])

        if vectors.ndim == 2:
            return best_of(np.asarray(vectors), rows, gather, 1)[1]
        mask, device = getattr(vectors, "mask", None), encoder.runtime.device

        def one(query: int, some: Rows) -> Scores:
            codes, there = vectors[query : query + 1], None if mask is None else mask[query : query + 1]
            found = score_every(encoder.model, device, np.asarray(codes), there, some, gather, len(some))
            return found.scores[0][np.argsort(found.documents[0])]

        return _each(rows, one)

    def _words(self, rows: Rows) -> Scores:
        count = len(self.by.pool)

        def one(query: int, some: Rows) -> Scores:
            found = self.by.lexical.search([self.queries[query]], count)
            whole = np.zeros(count, np.float32)  # a document that shares no word scores 0
            there = found.documents[0] != NOTHING
            whole[found.documents[0][there]] = found.scores[0][there]
            return whole[some]

        return _each(rows, one)

    def _reranked(self, rows: Rows) -> Scores:
        reranker, text = self.by.reranker, self.by.pool.text
        assert reranker is not None

        def one(query: int, some: Rows) -> Scores:
            # each query by itself: which other pairs are computed beside these changes nothing then, not even a bit
            return reranker.scores([self.queries[query]] * len(some), [text(row) for row in some.tolist()])

        return _each(rows, one)


def _each(rows: Rows, score: Callable[[int, Rows], Scores]) -> Scores:
    """Return scores `[Q, C]` from what scores the distinct rows of one query, given ascending."""
    found = np.full(rows.shape, -np.inf, np.float32)
    for query in range(len(rows)):
        there = rows[query] != NOTHING
        some, places = np.unique(rows[query][there], return_inverse=True)
        if len(some):
            found[query, there] = score(query, some)[places]
    return found
