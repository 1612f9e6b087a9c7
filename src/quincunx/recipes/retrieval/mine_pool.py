"""The documents among which negatives are looked for: those of the training data itself, or of an index.

N documents of the pool, M of the training data.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import UsageError
from quincunx.index.indexed import Index
from quincunx.index.lexical import Lexical
from quincunx.index.stored_texts import StoredTexts
from quincunx.recipes.retrieval.data.collection import Collection
from quincunx.recipes.retrieval.data.texts import content_hash

SHOWN = 3
"""Missing documents that an error names."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pool:
    """N documents by row, 0 to N - 1."""

    ids: Sequence[str]
    hashes: NDArray[np.uint64]
    """Of the texts `[N]`."""
    empty: NDArray[np.bool_]
    """`[N]`: without a text, or of spaces alone."""
    text: Callable[[int], str]
    lexical: Callable[[], Lexical]
    """Returns BM25 over all of them."""
    places: Rows
    """Where the text of each document of the training data is `[M]`, -1 where it is not or was not looked for."""
    same_id: Rows
    """Where the id of each relevant document of the training data is `[M]`, likewise."""

    def __len__(self) -> int:
        return len(self.hashes)

    def hashes_of(self, rows: Rows) -> NDArray[np.uint64]:
        """Return the hashes of some rows, of any shape; of what is none of them anything."""
        return self.hashes[np.maximum(rows, 0)]


def pool_of_collection(collection: Collection) -> Pool:
    """Return the training data's own documents."""
    documents = collection.documents
    rows = np.arange(len(documents))

    def text(row: int) -> str:
        return documents.text(row) or ""

    empty = np.fromiter((not text(row).strip() for row in range(len(documents))), np.bool_, len(documents))

    def lexical() -> Lexical:
        return Lexical(text(row) for row in range(len(documents)))

    return Pool(documents.ids, documents.hashes, empty, text, lexical, rows, rows)


def pool_of_index(
    index: Index, texts: StoredTexts, lexical: Callable[[], Lexical], collection: Collection, wanted: Rows
) -> Pool:
    """Return an index's documents; all texts are gone through once, and 8 bytes of each are held.

    Args:
        index: It.
        texts: Of its documents.
        lexical: Returns BM25 over them.
        collection: The training data.
        wanted: Places of the relevant documents there, which must be in the index.

    Raises:
        UsageError: The index lacks the text of a relevant document: it is of another corpus.
    """
    found, empty = array("Q"), array("B")
    for text in texts:
        found.append(content_hash(text.encode("utf-8", "surrogatepass")))
        empty.append(not text.strip())
    hashes, numbers = np.frombuffer(found, np.uint64), index.documents
    order = np.argsort(hashes, kind="stable")
    asked = collection.documents.hashes[wanted]
    at = np.minimum(np.searchsorted(hashes[order], asked), max(len(hashes) - 1, 0))
    rows = np.where(hashes[order][at] == asked, order[at], -1) if len(hashes) else np.full(len(wanted), -1)
    missing = wanted[rows < 0]
    ids = collection.documents.ids
    if len(missing):
        names = ", ".join(repr(ids[place]) for place in missing[:SHOWN].tolist())
        raise UsageError(
            f"{index.folder} lacks the texts of {len(missing):,} of {len(wanted):,} relevant documents of "
            f"{collection.name} ({names}{', ...' * (len(missing) > SHOWN)}): it is of another corpus, or of the same "
            "in another form. Index this one, or mine without --index"
        )
    places, same_id = np.full(len(ids), -1, np.int64), np.full(len(ids), -1, np.int64)
    places[wanted] = rows
    for place in np.unique(collection.positives.documents).tolist():
        number = index.numbers.get(ids[place], -1)
        same_id[place] = -1 if number < 0 else np.searchsorted(numbers, number)
    return Pool(
        _Names(index.ids, numbers),
        hashes,
        np.frombuffer(empty, np.bool_),
        lambda row: texts(int(numbers[row])),
        lexical,
        places,
        same_id,
    )


class _Names(Sequence[str]):
    """The ids of an index's documents by row: numbers of deleted ones leave gaps, rows do not."""

    def __init__(self, ids: Sequence[str], numbers: Rows) -> None:
        self._ids, self._numbers = ids, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, row: int) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._ids[int(self._numbers[row])]
