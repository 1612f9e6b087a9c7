"""Small encoders and logical batches for the objectives of retrieval."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from quincunx.data.batch import Batch, pad
from quincunx.nn.poly import poly_scores
from quincunx.recipes.retrieval.data.batch import RetrievalBatch
from toys import VOCABULARY, WIDTH, Encoder

QUERIES, DOCUMENTS = 30, 40
"""Texts of the toy collection. The last 5 documents are copies of the first 5, the last 2 queries of the first 2, and
query 3 has the text of document 7."""


class Bi(nn.Module):
    """Two of the toys' encoders, or one twice."""

    def __init__(self, shared: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.query = Encoder(dropout)
        self.document = self.query if shared else Encoder(dropout)

    @property
    def one_pass(self) -> bool:
        return self.query is self.document

    def encode(self, tokens: Tensor, lengths: Tensor, side: str) -> Tensor:
        return (self.query if side == "query" else self.document)(tokens, lengths)


class Poly(nn.Module):
    """Codes that are the first token states, padded to `count`; None keeps every state."""

    def __init__(self, count: int | None = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.count = count
        self.states = nn.Embedding(VOCABULARY, WIDTH)
        self.document = Encoder(dropout)

    def encode_query(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        size = self.count or tokens.shape[1]
        valid = torch.arange(tokens.shape[1]) < lengths[:, None]
        states = self.states(tokens) * valid[..., None]
        missing = max(0, size - tokens.shape[1])
        states = nn.functional.pad(states[:, :size], (0, 0, 0, missing))
        return states, nn.functional.pad(valid[:, :size], (0, missing))

    def encode_document(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return self.document(tokens, lengths)

    def score(self, codes: Tensor, mask: Tensor, documents: Tensor) -> Tensor:
        return poly_scores(codes, mask, documents)


def texts(keys: list[int], hashes: list[int]) -> Batch:
    """Return texts whose tokens follow from their hash."""
    rows: list[Tensor] = []
    for value in hashes:
        generator = torch.Generator().manual_seed(value)
        length = int(torch.randint(1, 9, (1,), generator=generator))
        rows.append(torch.randint(1, VOCABULARY, (length,), generator=generator))
    lengths = torch.tensor([len(row) for row in rows])
    tensors = {"tokens": pad(rows), "lengths": lengths}
    return Batch(tensors, torch.arange(len(rows)), [f"text-{k}" for k in keys], lengths, frozenset({"tokens"}))


def query_hash(key: int) -> int:
    """Return the content hash of a query of the toy collection."""
    return 1000 + (key - QUERIES + 2 if key >= QUERIES - 2 else key) if key != 3 else document_hash(7)


def document_hash(key: int) -> int:
    """Return the content hash of a document of the toy collection."""
    return 2000 + (key - DOCUMENTS + 5 if key >= DOCUMENTS - 5 else key)


def relevance() -> list[tuple[int, int]]:
    """Return the relevant pairs of keys: one to four documents a query, some of them shared."""
    draw = np.random.default_rng(0)
    return [(q, int(d)) for q in range(QUERIES) for d in draw.choice(DOCUMENTS, draw.integers(1, 5), replace=False)]


def known_hashes() -> Tensor:
    """Return `[R, 2]` the content hashes of the relevant pairs."""
    return torch.tensor([(query_hash(q), document_hash(d)) for q, d in relevance()])


def make(
    query_keys: list[int],
    document_keys: list[int],
    positives: list[tuple[int, int]],
    negatives: list[tuple[int, int]] = (),  # type: ignore[assignment]
    known: list[tuple[int, int]] | None = None,
    query_hashes: list[int] | None = None,
    document_hashes: list[int] | None = None,
    **scores: list[float],
) -> RetrievalBatch:
    """Return a batch with these rows; pairs are rows. Hashes are the keys (queries 1000 on) unless they are given."""
    hashes = {
        "query": query_hashes or [1000 + k for k in query_keys],
        "document": document_hashes or [2000 + k for k in document_keys],
    }
    keys = {"query": query_keys, "document": document_keys}
    links: dict[str, Tensor] = {
        "positives": torch.tensor(positives).view(-1, 2),
        "negatives": torch.tensor(negatives, dtype=torch.int64).view(-1, 2),
        "known": torch.tensor(positives if known is None else known).view(-1, 2),
    }
    for side, numbers in keys.items():
        links[f"{side}_keys"], links[f"{side}_hashes"] = torch.tensor(numbers), torch.tensor(hashes[side])
    links.update({name: torch.tensor(value) for name, value in scores.items()})
    sides = {side: texts(keys[side], hashes[side]) for side in keys}
    names = [f"text-{k}" for k in query_keys]
    rows = torch.arange(len(query_keys))
    return RetrievalBatch({}, rows, names, torch.ones(len(query_keys), dtype=torch.int64), sides=sides, links=links)


def drawn(count: int, seed: int = 0, positives: int = 2, negatives: int = 1, scored: bool = False) -> RetrievalBatch:
    """Return a batch of `count` queries of the toy collection, with up to so many positives and negatives each.

    Texts with one hash are one row; copies of relevant documents may be among the explicit negatives.
    """
    draw = np.random.default_rng(seed)
    relevant: dict[int, list[int]] = {}
    for q, d in relevance():
        relevant.setdefault(q, []).append(d)
    rows: dict[str, dict[int, tuple[int, int]]] = {"query": {}, "document": {}}

    def row(side: str, key: int) -> int:
        value = (query_hash if side == "query" else document_hash)(key)
        return rows[side].setdefault(value, (len(rows[side]), key))[0]

    near: dict[tuple[int, int], float] = {}
    far: dict[tuple[int, int], float] = {}
    for q in draw.choice(QUERIES, count, replace=False).tolist():
        for d in draw.permutation(relevant[q])[: draw.integers(1, positives + 1)].tolist():
            near.setdefault((row("query", q), row("document", d)), float(draw.normal() + 1))
        for d in draw.choice(DOCUMENTS, draw.integers(0, negatives + 1), replace=False).tolist():
            far.setdefault((row("query", q), row("document", d)), float(draw.normal()))
    keys = {side: [key for _, key in found.values()] for side, found in rows.items()}
    hashes = {side: list(found) for side, found in rows.items()}
    truth = {(query_hash(q), document_hash(d)) for q, d in relevance()}
    known = [(i, j) for i, q in enumerate(hashes["query"]) for j, d in enumerate(hashes["document"]) if (q, d) in truth]
    scores = {"positive_scores": list(near.values()), "negative_scores": list(far.values())} if scored else {}
    return make(
        keys["query"], keys["document"], list(near), list(far), known, hashes["query"], hashes["document"], **scores
    )
