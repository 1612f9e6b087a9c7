"""Rows to answers: embeddings of texts, or scores of documents for a query.

A row `{"text": ..., "side": "query"}` (side: document where it says nothing) gets an `embedding`; a row `{"query": ...,
"documents": [...]}` gets the documents' `scores` and their `order`, best first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from quincunx.engine.runtime import Runtime
from quincunx.errors import DataError
from quincunx.recipes.retrieval.config import RetrievalConfig
from quincunx.recipes.retrieval.data.cross_source import TokenizePairs
from quincunx.recipes.retrieval.data.texts import Texts
from quincunx.recipes.retrieval.data.tokenised import LazyTokens
from quincunx.recipes.retrieval.data.tokenizing import TextTokenizer
from quincunx.recipes.retrieval.doctor import similarity
from quincunx.recipes.retrieval.evaluate.ranker import ranker
from quincunx.recipes.retrieval.evaluate.rerank import score_pairs
from quincunx.recipes.retrieval.evaluate.vectors import TOKENS

EXPECTED = 'expected {"text": "..."} (with "side": "query" for a query) or {"query": "...", "documents": ["...", ...]}'


def predict(
    config: RetrievalConfig,
    model: nn.Module,
    tokenizers: Mapping[str, TextTokenizer],
    runtime: Runtime,
    rows: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return one answer for each row, in their order.

    Raises:
        DataError: A row of another form; the text names it.
    """
    for number, row in enumerate(rows, 1):
        _check(row, number)
    by = ranker(model, runtime, cosine=similarity(config) == "cosine")

    def tokens(texts: Sequence[str], side: str) -> LazyTokens:
        return LazyTokens(Texts.of([str(number) for number in range(len(texts))], list(texts)), tokenizers[side])

    answers: list[dict[str, Any]] = [{} for _ in rows]
    for side in ("query", "document"):
        chosen = [n for n, row in enumerate(rows) if "text" in row and row.get("side", "document") == side]
        if chosen:
            encode = by.documents if side == "document" else by.queries
            vectors = encode(tokens([rows[n]["text"] for n in chosen], side))
            for number, vector in zip(chosen, list(vectors), strict=True):
                answers[number] = {"embedding": _rounded(vector)}
    for number, row in enumerate(rows):
        if "query" in row:
            scores = by.scores(tokens([row["query"]], "query"), tokens(row["documents"], "document"))[0]
            order = np.argsort(-scores.numpy(), kind="stable")
            answers[number] = {"scores": _rounded(scores), "order": order.tolist()}
    return answers


def predict_pairs(
    model: nn.Module, tokenize: TokenizePairs, runtime: Runtime, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return a cross-encoder's `scores` and `order` for rows of a query with documents.

    Raises:
        DataError: A row of another form; the text names it.
    """
    for number, row in enumerate(rows, 1):
        _check(row, number)
        if "text" in row:
            raise DataError(
                f"row {number} asks for the embedding of a text, and a cross-encoder has none: expected "
                '{"query": "...", "documents": ["...", ...]}'
            )
    answers: list[dict[str, Any]] = []
    for row in rows:
        documents = row["documents"]
        scores = score_pairs(model, tokenize, [row["query"]] * len(documents), documents, runtime, TOKENS)
        order = np.argsort(-scores, kind="stable")
        answers.append({"scores": _rounded(torch.from_numpy(scores)), "order": order.tolist()})
    return answers


def _rounded(values: torch.Tensor) -> Any:
    return np.round(values.numpy().astype(np.float64), 6).tolist()


def _check(row: Mapping[str, Any], number: int) -> None:
    text = isinstance(row.get("text"), str) and row.get("side", "document") in ("query", "document")
    documents = row.get("documents")
    listed = isinstance(documents, list) and bool(documents) and all(isinstance(each, str) for each in documents)
    scored = isinstance(row.get("query"), str) and listed
    if text == scored:
        raise DataError(f"row {number} is {dict(row)!r}: {EXPECTED}")
