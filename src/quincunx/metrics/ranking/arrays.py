"""Hits straight from what a search returns, without a dictionary in between: blocks of rows, whole arrays at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quincunx.errors import DataError, UsageError
from quincunx.metrics.ranking.hits import Hits, Integers

BLOCK = 1 << 18
"""Hits handled at a time: a few MiB of working memory, whatever the number of queries."""
SIEVE = 1 << 20
"""Document numbers that a hit is sieved by before it is looked up; a table of 1 MiB stays in the cache."""


class Judgements(Protocol):
    """Judged documents of Q queries, those of query q from `offsets[q]` to `offsets[q + 1]`; grade > 0: relevant."""

    @property
    def offsets(self) -> Integers:
        """[Q + 1], from 0 to R."""
        ...

    @property
    def documents(self) -> Integers:
        """[R]"""
        ...

    @property
    def grades(self) -> NDArray[np.integer]:
        """[R]"""
        ...


@dataclass(frozen=True)
class Judged:
    """The plain form of `Judgements`."""

    offsets: Integers
    documents: Integers
    grades: NDArray[np.integer]


def id_order(ids: Sequence[str]) -> Integers:
    """Return each document's place among the ids in ascending order of their UTF-8 bytes [N], as ties need it."""
    order = np.empty(len(ids), np.int64)
    order[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    return order


@dataclass(frozen=True)
class Found:
    """A checked result of a search, ready to be cut into blocks of queries."""

    found: Integers
    """Documents [Q, K], -1 for none."""
    scores: NDArray[np.float32]
    """[Q, K]"""
    offsets: Integers
    """Of the judged documents [Q + 1]."""
    keys: Integers
    """Query times `span` plus document, of the relevant documents, ascending [R]."""
    grades: Integers
    """Their grades [R]."""
    span: int
    """One more than the largest document number."""
    order: Integers | None
    """Places of the documents by id [N]; None: ties are not looked at by id."""

    @classmethod
    def checked(
        cls, found: ArrayLike, scores: ArrayLike, relevant: Judgements, order: ArrayLike | None, by_id: bool
    ) -> Found:
        """Return the arrays, looked through: see `score_arrays` for what they are and what is refused."""
        hits, values = np.asarray(found), np.asarray(scores)
        if hits.ndim != 2 or hits.shape != values.shape or not np.issubdtype(hits.dtype, np.integer):
            raise UsageError(
                f"found is {hits.dtype}{list(hits.shape)} and scores {values.dtype}{list(values.shape)}: "
                "expected whole numbers and scores of one shape [queries, hits]"
            )
        hits = hits.astype(np.int64, copy=False)
        with np.errstate(over="ignore"):
            values = values.astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            bad = np.argwhere(~np.isfinite(values) & (hits >= 0))
            if len(bad):
                row, column = bad[0].tolist()
                raise DataError(f"the score of query {row}, hit {column}, is {values[row, column]}: not finite")
        offsets, documents, grades = _judged(relevant, len(hits))
        largest = max(int(hits.max(initial=-1)), int(documents.max(initial=-1)))
        places = None
        if by_id:
            if order is None:
                raise UsageError(
                    "ties='trec' orders equal scores by document id: give order=id_order(ids), or another ties="
                )
            places = np.asarray(order, np.int64)
            if places.ndim != 1 or len(places) <= largest:
                raise UsageError(f"order has shape {list(places.shape)}, but there is a document {largest}")
            if places.min(initial=0) < 0 or places.max(initial=0) >> 32:
                raise UsageError("order holds places below 0 or beyond 32 bits: expected those of id_order(ids)")
        span = largest + 1
        keys = np.repeat(np.arange(len(hits)), np.diff(offsets)) * span + documents
        ascending = np.argsort(keys, kind="stable")
        keys, grades = keys[ascending], grades[ascending]
        twice = np.flatnonzero(keys[1:] == keys[:-1])
        if len(twice):
            query, document = divmod(int(keys[twice[0]]), span)
            raise DataError(f"document {document} is judged twice for query {query}: expected once")
        positive = grades > 0
        return cls(hits, values, offsets, keys[positive], grades[positive], span, places)

    def blocks(self) -> Iterator[Hits]:
        """Yield the hits of some queries at a time, in order; queries are counted from 0 in each block."""
        queries, width = self.found.shape
        rows = max(1, BLOCK // max(1, width))
        bounds = np.searchsorted(self.keys, np.arange(queries + 1) * self.span)
        for low in range(0, queries, rows):
            yield self._block(low, min(low + rows, queries), bounds)

    def _block(self, low: int, high: int, bounds: Integers) -> Hits:
        """Return the hits of queries `low` to `high`; `bounds` are those of each query's keys [Q + 1]."""
        found, scores = self.found[low:high], self.scores[low:high]
        count, width = found.shape
        _check_once(found, low)
        flat = np.flatnonzero(self._perhaps(found, bounds[low : high + 1]))
        row, documents = flat // max(1, width), found.ravel()[flat]
        at = np.searchsorted(self.keys, (low + row) * self.span + documents)
        at[at == len(self.keys)] = 0
        sure = (documents >= 0) & (self.keys[at] == (low + row) * self.span + documents)
        row, column, at = row[sure], flat[sure] - row[sure] * width, at[sure]
        start, size, place = column.copy(), np.ones_like(column), np.zeros_like(column)
        if (found < 0).any():
            scores = np.where(found < 0, np.float32(-np.inf), scores)
        below = scores[:, 1:]
        loose = ~((scores[:, :-1] > below) | (below == -np.inf)).all(axis=1)  # rows with ties, or not in order
        if loose.any():
            mixed = np.flatnonzero(loose[row])
            start[mixed], size[mixed], place[mixed] = self._ties(found, scores, row[mixed], column[mixed])
        ideal = slice(bounds[low], bounds[high])
        ideal_query = self.keys[ideal] // self.span - low
        return Hits(
            row,
            self.grades[at],
            start,
            size,
            place,
            np.count_nonzero(found >= 0, axis=1),
            np.bincount(ideal_query, minlength=count),
            ideal_query,
            self.grades[ideal],
        )

    def _perhaps(self, found: Integers, bounds: Integers) -> NDArray[np.bool_]:
        """Return whether each hit may be relevant: hardly one that is not gets through [block, K]."""
        homes = found & (SIEVE - 1)
        seats = self.keys[bounds[0] : bounds[-1]] % max(1, self.span) & (SIEVE - 1)
        sieve = np.zeros(SIEVE, np.bool_)
        perhaps = np.empty(found.shape, np.bool_)
        for number, (first, last) in enumerate(pairwise((bounds - bounds[0]).tolist())):
            mine = seats[first:last]
            sieve[mine] = True
            perhaps[number] = sieve[homes[number]]
            sieve[mine] = False
        return perhaps

    def _ties(
        self, found: Integers, scores: NDArray[np.float32], row: Integers, column: Integers
    ) -> tuple[Integers, Integers, Integers]:
        """Return start, size and place (as in `Hits`) of some hits, in order of their rows."""
        touched, where = np.unique(row, return_inverse=True)
        high = _whole(scores[touched]) << 32
        keys = high if self.order is None else high | self.order[found[touched]]
        mine, least = keys[where, column], high[where, column]
        ordered = np.sort(keys, axis=1)
        ends = np.cumsum(np.bincount(where))
        found_at = np.empty((3, len(row)), np.int64)
        for number, end in enumerate(ends.tolist()):
            some = slice(ends[number - 1] if number else 0, end)
            wanted = np.stack([least[some], mine[some] + 1, least[some] + (1 << 32)])
            found_at[:, some] = np.searchsorted(ordered[number], wanted)
        bottom, behind, top = found_at
        return found.shape[1] - top, top - bottom, top - behind


def _judged(relevant: Judgements, queries: int) -> tuple[Integers, Integers, Integers]:
    offsets, documents = np.asarray(relevant.offsets, np.int64), np.asarray(relevant.documents, np.int64)
    grades = np.asarray(relevant.grades)
    if not np.issubdtype(grades.dtype, np.integer):
        raise DataError(f"grades are whole numbers, found {grades.dtype}")
    if offsets.shape != (queries + 1,):
        raise UsageError(f"judgements of {len(offsets) - 1} queries for the hits of {queries}")
    if offsets[0] != 0 or (np.diff(offsets) < 0).any() or not len(documents) == len(grades) == offsets[-1]:
        raise DataError(
            f"offsets run from {offsets[0]} to {offsets[-1]} over {len(documents)} documents and {len(grades)} grades: "
            "expected from 0 to their number, never falling"
        )
    if (documents < 0).any():
        raise DataError(f"a judged document has the number {documents.min()}: expected 0 or more")
    return offsets, documents, grades.astype(np.int64)


def _check_once(found: Integers, low: int) -> None:
    """Raise DataError where a query has found a document twice."""
    small = found.min(initial=0) >= -(1 << 31) and found.max(initial=0) < 1 << 31
    ordered = np.sort(found.astype(np.int32) if small else found, axis=1)  # half the bytes, half the time
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        row, column = np.argwhere(twice)[0].tolist()
        raise DataError(f"query {low + row} has found document {ordered[row, column]} twice: expected once")


def _whole(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return whole numbers of 32 bits in the same order as the scores, equal where these are."""
    bits = (scores + np.float32(0)).view(np.int32)  # -0 equals 0
    return (bits ^ (bits >> 31 & 0x7FFFFFFF)).astype(np.int64)
