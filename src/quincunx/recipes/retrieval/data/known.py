"""Which texts are known to be relevant to which: by content, over all collections of a run.

R pairs judged relevant. A text stands for every other of the same content hash: whatever was judged of one holds for
all, so that no copy of a positive is ever taught as a negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quincunx.data.order import Indices
from quincunx.recipes.retrieval.data.ragged import spans

Hashes = NDArray[np.uint64]


class Known:
    """Pairs of content hashes, of a query and a document that is relevant to it."""

    def __init__(self, queries: Hashes, documents: Hashes) -> None:
        """Take the hashes of each pair's query [R] and document [R]; pairs may repeat."""
        order = np.lexsort((documents, queries))
        queries, documents = queries[order], documents[order]
        first = np.ones(len(order), np.bool_)
        first[1:] = (queries[1:] != queries[:-1]) | (documents[1:] != documents[:-1])
        self._queries, self._documents = queries[first], documents[first]

    def __len__(self) -> int:
        """The number of different pairs."""
        return len(self._queries)

    @property
    def pairs(self) -> Indices:
        """The different pairs [R, 2]: hashes of query and document, as int64 of the same bits."""
        return np.stack([self._queries, self._documents], axis=1).view(np.int64)

    def among(self, queries: Hashes, documents: Hashes) -> Indices:
        """Return all pairs of a query [Q] and a document [N] that are known: places [K, 2], ascending."""
        asked, places = self._of(queries)
        order = np.argsort(documents, kind="stable")
        found, ranks = _equal(documents[order], self._documents[places])
        pairs = np.stack([asked[found], order[ranks]], axis=1)
        return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]

    def contains(self, queries: Hashes, documents: Hashes) -> NDArray[np.bool_]:
        """Tell of each query [M] and the document beside it [M] whether they are known [M]."""
        asked, places = self._of(queries)
        answer = np.zeros(len(queries), np.bool_)
        answer[asked[self._documents[places] == documents[asked]]] = True
        return answer

    def _of(self, queries: Hashes) -> tuple[Indices, Indices]:
        return _equal(self._queries, queries)


def joined_known(pairs: Sequence[tuple[Hashes, Hashes]]) -> Known:
    """Return what several collections know together."""
    nothing = np.zeros(0, np.uint64)
    return Known(
        np.concatenate([nothing, *(queries for queries, _ in pairs)]),
        np.concatenate([nothing, *(documents for _, documents in pairs)]),
    )


def _equal(ordered: Hashes, wanted: Hashes) -> tuple[Indices, Indices]:
    """Return for each of `wanted` every place in `ordered` where it stands: which was asked, and the place."""
    left = np.searchsorted(ordered, wanted, side="left")
    return spans(left, np.searchsorted(ordered, wanted, side="right") - left)
