"""What a batch of queries and documents must say, worked out pair by pair from the collections."""

from __future__ import annotations

from collections.abc import Sequence

from quincunx.recipes.retrieval.data.batch import RetrievalBatch
from quincunx.recipes.retrieval.data.collection import Collection

STRIDE = 2**40


def texts_of(batch: RetrievalBatch, side: str, collections: Sequence[Collection]) -> list[str]:
    """Return the text of each row of a side, looked up by its key."""
    found: list[str] = []
    for key in batch.links[f"{side}_keys"].tolist():
        one = collections[key // STRIDE]
        text = (one.queries if side == "query" else one.documents).text(key % STRIDE)
        assert text is not None
        found.append(text)
    return found


def relevant_texts(collections: Sequence[Collection]) -> set[tuple[str | None, str | None]]:
    """Return every pair of texts of which some collection judges a copy relevant."""
    return {
        (one.queries.text(int(query)), one.documents.text(int(document)))
        for one in collections
        for (query, document), grade in zip(one.relevant.pairs, one.relevant.grades, strict=True)
        if grade > 0
    }


def known_pairs(batch: RetrievalBatch, collections: Sequence[Collection]) -> list[list[int]]:
    """Return every pair of rows whose texts are relevant, ascending."""
    relevant = relevant_texts(collections)
    return [
        [i, j]
        for i, query in enumerate(texts_of(batch, "query", collections))
        for j, document in enumerate(texts_of(batch, "document", collections))
        if (query, document) in relevant
    ]
