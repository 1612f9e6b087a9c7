"""What becomes of documents with equal scores: an order is chosen, or the expectation over all orders is taken.

Either way the outcome is a list of ranks with what stands there, certainly or on average, so that no measure needs to
know of ties. McSherry and Najork (ECIR 2008) give such expectations one by one; here they come from three numbers a
rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import UsageError
from quincunx.metrics.ranking.hits import Hits, Integers

Numbers = NDArray[np.float64]

TIES = {
    "trec": "by document id, the last id first, as trec_eval does",
    "expected": "the mean over all orders of the tied documents",
    "optimistic": "the most relevant first",
    "pessimistic": "the most relevant last",
}


@dataclass(frozen=True)
class Ranking:
    """Ranks at which a relevant document stands, or may stand, in order of query and rank: E of them, Q queries."""

    query: Integers
    """[E]"""
    rank: Integers
    """From 1 [E]."""
    chance: Numbers
    """Probability that the document there is relevant [E]; 1 where the order is certain."""
    gain: Numbers
    """Its expected grade [E]."""
    ahead: Numbers
    """Expected number of relevant documents down to this rank, given that there is one at this rank [E]."""
    first: Numbers
    """Probability that the first relevant document of the query stands here [E]."""
    retrieved: Integers
    """Length of each ranking [Q]."""
    relevant: Integers
    """Relevant documents of each query, found or not [Q]."""
    found: Integers
    """Those that are in the ranking [Q]."""
    ideal_query: Integers
    """Query of each relevant document, found or not, in order of query and grade, the best first [R]."""
    ideal_rank: Integers
    """Its rank in the best possible ranking, from 1 [R]."""
    ideal_grade: Integers
    """[R]"""

    @cached_property
    def discounts(self) -> Numbers:
        """log2(rank + 1) by rank, as the C library has it: numpy's may differ in the last digit."""
        deepest = max(int(self.rank.max(initial=0)), int(self.ideal_rank.max(initial=0)))
        return np.array([0.0, *(math.log2(rank + 1) for rank in range(1, deepest + 1))])


def check_ties(ties: str) -> None:
    """Raise UsageError unless this is a way to treat ties."""
    if ties not in TIES:
        ways = "; ".join(f"{name}: {text}" for name, text in TIES.items())
        raise UsageError(f"ties are treated in one of four ways, found {ties!r}. {ways}")


def settle(hits: Hits, ties: str) -> Ranking:
    """Return the ranks of relevant documents under one treatment of ties, one of `TIES` (UsageError otherwise).

    `trec` needs hits whose ties were ordered by id.
    """
    check_ties(ties)
    best_first = np.lexsort((-hits.ideal_grade, hits.ideal_query))
    ideal = hits.ideal_query[best_first]
    parts = _expected(hits) if ties == "expected" else _ordered(hits, ties)
    return Ranking(
        *parts,
        hits.retrieved,
        hits.relevant,
        np.bincount(hits.query, minlength=len(hits.retrieved)),
        ideal,
        _within(ideal) + 1,
        hits.ideal_grade[best_first],
    )


Parts = tuple[Integers, Integers, Numbers, Numbers, Numbers, Numbers]
"""Query, rank, chance, gain, ahead, first: the first fields of `Ranking`."""


def _ordered(hits: Hits, ties: str) -> Parts:
    """Return the ranks when tied documents stand in one certain order."""
    if ties == "trec":
        rank = hits.start + hits.place + 1
        order = np.argsort(hits.query << 32 | rank, kind="stable")  # quick where they stand so already
        query, rank, grade = hits.query[order], rank[order], hits.grade[order]
    else:
        order = np.lexsort((-hits.grade if ties == "optimistic" else hits.grade, hits.start, hits.query))
        query, start, grade = hits.query[order], hits.start[order], hits.grade[order]
        group = _groups(query, start)
        rank = start + _within(group) + 1
        if ties == "pessimistic":  # behind all that are not relevant
            rank += hits.size[order] - np.bincount(group)[group]
    ahead = (_within(query) + 1).astype(np.float64)
    first = (ahead == 1).astype(np.float64)
    return query, rank, np.ones(len(query)), grade.astype(np.float64), ahead, first


def _expected(hits: Hits) -> Parts:
    """Return the ranks that tied documents may take, every order of theirs being equally likely.

    In a tie of n documents behind s others, r of them relevant, each of the ranks s+1 ... s+n holds a relevant one with
    probability r/n; given that rank s+i does, (i-1)(r-1)/(n-1) of the relevant ones are expected in the tie before it.
    """
    order = np.lexsort((hits.start, hits.query))
    query, start, size = hits.query[order], hits.start[order], hits.size[order]
    group = _groups(query, start)
    opens = np.flatnonzero(np.diff(group, prepend=-1))
    n, s, r = size[opens], start[opens], np.bincount(group)
    before = _within(query)[opens]  # relevant documents of better score
    grades = np.bincount(group, hits.grade[order].astype(np.float64))
    each = np.repeat(np.arange(len(n)), n)
    i = _within(each)
    share = (r - 1) / np.maximum(n - 1, 1)
    first = ((before == 0) & (n == 1)).astype(np.float64)[each]
    ends = np.cumsum(n)
    for number in np.flatnonzero((before == 0) & (n > 1)).tolist():
        first[ends[number] - n[number] : ends[number]] = _first(int(n[number]), int(r[number]))
    return (
        query[opens][each],
        s[each] + i + 1,
        (r / n)[each],
        (grades / n)[each],
        before[each] + 1 + i * share[each],
        first,
    )


def _first(n: int, r: int) -> Numbers:
    """Return the probabilities that the first of r relevant documents among n in random order is at 1 ... n [n]."""
    left = n - np.arange(n)
    none_here = np.maximum(left - r, 0) / left
    none_before = np.concatenate([[1.0], np.cumprod(none_here[:-1])])
    return none_before * np.minimum(r / left, 1.0)


def _groups(query: Integers, start: Integers) -> Integers:
    """Return the number of the tie in which each document stands, from 0; documents in order of query and start [E]."""
    opens = (np.diff(query, prepend=-1) != 0) | (np.diff(start, prepend=-1) != 0)
    return np.cumsum(opens) - 1


def _within(group: Integers) -> Integers:
    """Return each entry's place among the equal ones before it, from 0; equal entries stand together [E]."""
    places = np.arange(len(group))
    opens = np.diff(group, prepend=-1) != 0
    return places - np.maximum.accumulate(np.where(opens, places, 0)) if len(group) else places
