"""A ranking and its judgements as the lines of TREC's files, straight from the arrays of a search.

Q queries, N documents, K results a query.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quincunx.index.exact import NOTHING, Found
from quincunx.recipes.retrieval.data.collection import Relations

TAG = "quincunx"
"""Last column of a run file: who made it."""


@dataclass(frozen=True)
class Ranking:
    """What was found for some queries, and what is relevant to them."""

    queries: Sequence[str]
    """Ids [Q]."""
    documents: Sequence[str]
    """Ids [N]."""
    found: Found
    relevant: Relations
    """Of these queries, all their judged documents."""
    order: NDArray[np.int64]
    """Each document's place by id [N]: of equal scores the last id comes first, as trec_eval reads them."""

    def run_lines(self) -> Iterator[str]:
        """Yield `query Q0 document rank score tag` for every document found.

        A score is written in the shortest form that is read back as the same double, so as float32 as well.
        """
        for row, query in enumerate(self.queries):
            kept = np.flatnonzero(self.found.documents[row] != NOTHING)
            documents = self.found.documents[row, kept]
            scores = self.found.scores[row, kept] + np.float32(0)  # a negative zero becomes the zero that it equals
            best = np.lexsort((-self.order[documents], -scores))
            ranked = zip(documents[best].tolist(), scores[best].tolist(), strict=True)
            for rank, (document, score) in enumerate(ranked, 1):
                yield f"{query} Q0 {self.documents[document]} {rank} {score!r} {TAG}\n"

    def qrels_lines(self) -> Iterator[str]:
        """Yield `query 0 document grade` for every judged pair."""
        for row, query in enumerate(self.queries):
            span = self.relevant.span(row)
            pairs = zip(self.relevant.documents[span].tolist(), self.relevant.grades[span].tolist(), strict=True)
            for document, grade in pairs:
                yield f"{query} 0 {self.documents[document]} {grade}\n"


def unfit(ids: Sequence[str]) -> str | None:
    """Return the first id that no column of a TREC file can hold; None where all fit."""
    for one in ids:
        data = one.encode()
        if data.split() != [data] or b"\0" in data:
            return one
    return None
