"""A collection: documents, queries, and what is relevant to what.

Q queries, N documents, R relations (pairs of a query and a document).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.recipes.retrieval.data.texts import Texts, TokenTexts

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Relations:
    """Pairs of a query and a document, by query; within a query in the order in which they were given."""

    offsets: Indices
    """Where each query's pairs start, and the end of the last [Q + 1]."""
    documents: Indices
    """The document of each pair [R]."""
    grades: NDArray[np.int32]
    """How relevant it is [R]; 0 and below is judged not relevant."""
    scores: NDArray[np.float32] | None = None
    """A teacher's score of each pair [R], NaN where there is none; None where no pair has one."""

    @classmethod
    def build(
        cls,
        pairs: Indices,
        queries: int,
        *,
        grades: NDArray[np.int32] | None = None,
        scores: NDArray[np.float32] | None = None,
    ) -> Relations:
        """Arrange pairs by query; of a pair that is given more than once the first counts.

        Args:
            pairs: [R, 2] int64: query, document.
            queries: Their number, Q.
            grades: [R] int32; 1 for all where None.
            scores: [R] float32, NaN for none.

        Raises:
            ValueError: A query that is not in 0 .. Q-1, a negative document, or arrays of other lengths.
        """
        pairs = np.asarray(pairs, np.int64).reshape(-1, 2)
        grades = np.ones(len(pairs), np.int32) if grades is None else np.asarray(grades, np.int32)
        if len(grades) != len(pairs) or (scores is not None and len(scores) != len(pairs)):
            raise ValueError(f"{len(pairs)} pairs need as many grades and scores")
        if len(pairs) and (pairs.min() < 0 or pairs[:, 0].max() >= queries):
            raise ValueError(f"pairs name queries from 0 to {queries - 1} and documents from 0 on")
        first = first_of_each(pairs)
        pairs = pairs[first]
        order = np.argsort(pairs[:, 0], kind="stable")
        counts = np.bincount(pairs[:, 0], minlength=queries)
        return cls(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            np.ascontiguousarray(pairs[order, 1]),
            grades[first][order],
            None if scores is None else np.asarray(scores, np.float32)[first][order],
        )

    @classmethod
    def none(cls, queries: int) -> Relations:
        """Return no relations for so many queries."""
        return cls.build(np.empty((0, 2), np.int64), queries)

    def __len__(self) -> int:
        """The number of pairs, R."""
        return len(self.documents)

    @property
    def counts(self) -> Indices:
        """The number of pairs of each query [Q]."""
        return np.diff(self.offsets)

    @property
    def queries(self) -> Indices:
        """The query of each pair [R]."""
        return np.repeat(np.arange(len(self.offsets) - 1, dtype=np.int64), self.counts)

    @property
    def pairs(self) -> Indices:
        """All pairs [R, 2]: query, document."""
        return np.stack([self.queries, self.documents], axis=1)

    def span(self, query: int) -> slice:
        """Return where a query's pairs lie in `documents`, `grades` and `scores`; IndexError where there is no such."""
        if not 0 <= query < len(self.offsets) - 1:
            raise IndexError(f"query {query} of {len(self.offsets) - 1}")
        return slice(int(self.offsets[query]), int(self.offsets[query + 1]))

    def of(self, query: int) -> Indices:
        """Return the documents of a query's pairs [r], as a view."""
        return self.documents[self.span(query)]

    def where(self, mask: NDArray[np.bool_]) -> Relations:
        """Return the pairs that the mask [R] marks; the queries stay."""
        kept = np.concatenate([[0], np.cumsum(mask)]).astype(np.int64)
        scores = None if self.scores is None else self.scores[mask]
        return Relations(kept[self.offsets], self.documents[mask], self.grades[mask], scores)

    def pick(self, queries: Indices) -> Relations:
        """Return the relations of these queries, numbered anew in this order."""
        spans = [self.span(query) for query in np.asarray(queries, np.int64).tolist()]
        places = np.concatenate([np.arange(span.start, span.stop) for span in spans] or [np.empty(0, np.int64)])
        counts = np.array([span.stop - span.start for span in spans], np.int64)
        scores = None if self.scores is None else self.scores[places]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Relations(offsets, self.documents[places], self.grades[places], scores)

    @cached_property
    def positive(self) -> Relations:
        """The pairs whose grade is above 0: a pair that was judged not relevant is no positive."""
        return self if (self.grades > 0).all() else self.where(self.grades > 0)

    def by_document(self, documents: int) -> Relations:
        """Return the same pairs the other way round: `of(document)` gives its queries.

        Args:
            documents: Their number, N.
        """
        return Relations.build(self.pairs[:, ::-1], documents, grades=self.grades, scores=self.scores)

    def contain(self, pairs: Indices) -> NDArray[np.bool_]:
        """Tell for each of some pairs [M, 2] whether it is among these [M]."""
        pairs = np.asarray(pairs, np.int64).reshape(-1, 2)
        stride = 1 + max(int(self.documents.max(initial=0)), int(pairs[:, 1].max(initial=0)))
        return np.isin(pairs[:, 0] * stride + pairs[:, 1], self.queries * stride + self.documents)


@dataclass(frozen=True, eq=False)
class Collection:
    """Documents, queries, and what is relevant to what."""

    name: str
    """What it is called in messages and results."""
    documents: Texts | TokenTexts
    queries: Texts | TokenTexts
    relevant: Relations
    """Every judged pair with its grade; `positives` are those above 0."""
    negatives: Relations
    """Explicit hard negatives of each query; none of them is among its positives."""
    fingerprint: str
    """A hash of the files' contents and of how they were read."""
    notes: list[str] = field(default_factory=list[str])
    """Sentences on what was decided while reading."""
    skipped: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Rows that were left out: `{"file": str, "line": int, "reason": str}`."""

    @property
    def positives(self) -> Relations:
        """The pairs judged relevant: grade above 0."""
        return self.relevant.positive

    @property
    def positive_scores(self) -> NDArray[np.float32] | None:
        """A teacher's score of each pair of `positives`, NaN where there is none; None where no pair has one."""
        return self.positives.scores

    def take(self, count: int) -> Collection:
        """Return the collection with its first so many queries that have a relation; every document stays.

        So a measure over the corpus means the same, and only fewer queries are asked.
        """
        related = np.flatnonzero((self.relevant.counts > 0) | (self.negatives.counts > 0))
        if count >= len(related):
            return self
        return replace(
            self.choose(related[:count]),
            fingerprint=f"{self.fingerprint}-first-{count}",
            notes=[*self.notes, f"{self.name}: the first {count:,} of {len(related):,} queries are used."],
        )

    def choose(self, queries: Indices | Sequence[int]) -> Collection:
        """Return the collection with these queries in this order; every document stays."""
        chosen = np.asarray(queries, np.int64)
        return replace(
            self,
            queries=self.queries.pick(chosen),
            relevant=self.relevant.pick(chosen),
            negatives=self.negatives.pick(chosen),
        )


def first_of_each(pairs: Indices) -> Indices:
    """Return the places of the pairs [R, 2] that were not given before, in order."""
    if not len(pairs):
        return np.empty(0, np.int64)
    stride = int(pairs[:, 1].max()) + 1
    return np.sort(np.unique(pairs[:, 0] * stride + pairs[:, 1], return_index=True)[1]).astype(np.int64)
