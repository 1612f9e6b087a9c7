"""Evaluation of a cross-encoder: it puts the first candidates of BM25 in order, for every judged query.

What BM25 does not find among its first candidates, no reranker can: its own measures stand beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from quincunx.config.plan import Plan
from quincunx.engine.chunks import cut
from quincunx.engine.runtime import Runtime
from quincunx.index.exact import NOTHING, Found
from quincunx.metrics.record import Evaluation
from quincunx.recipes.retrieval.data.cross_source import TokenizePairs
from quincunx.recipes.retrieval.evaluate.beside import FirstStage
from quincunx.recipes.retrieval.evaluate.full import Corpus, FullEvaluator
from quincunx.recipes.retrieval.evaluate.vectors import TOKENS, Limits

WINDOW = 512
"""Pairs tokenized and sorted together."""


@dataclass(frozen=True)
class RerankEvaluator:
    """Scores the first `candidates` documents of BM25 for each query."""

    split: str
    corpus: Corpus
    tokenize: TokenizePairs
    measures: Sequence[str]
    candidates: int = 100
    ties: str = "trec"
    tokens: int | Limits = TOKENS
    """What is computed at once."""

    def __call__(self, model: nn.Module, runtime: Runtime, plan: Plan) -> Evaluation:
        """Return the measures of the new order, those of BM25's own as `bm25_...`, and every query's values."""
        queries = self.corpus.judged
        if self.split == "dev" and plan.evaluation_limit is not None:
            queries = queries[: plan.evaluation_limit]
        first = self.first.rank(queries, self.candidates)
        found = Found(first.documents, self._scores(model, runtime, queries, first))
        judge = FullEvaluator(self.split, self.corpus, self.measures, cosine=False, ties=self.ties)
        result, before = judge.evaluation(queries, found), judge.evaluation(queries, first)
        scalars = {**result.scalars, **{f"bm25_{name}": value for name, value in before.scalars.items()}}
        name = next(iter(result.scalars))
        note = f"{result.notes[0]}, reranking {self.candidates} of BM25, whose own is {before.scalars[name]:.4f}"
        return Evaluation(scalars, result.tables, result.samples, [note], result.values)

    @cached_property
    def first(self) -> FirstStage:
        """BM25 over the corpus, made once."""
        return FirstStage(self.corpus.collection)

    def _scores(self, model: Any, runtime: Runtime, queries: NDArray[np.int64], first: Found) -> NDArray[np.float32]:
        collection = self.corpus.collection
        rows, columns = np.nonzero(first.documents != NOTHING)
        asked = [collection.queries.text(int(query)) for query in queries[rows]]
        told = [collection.documents.text(int(document)) for document in first.documents[rows, columns]]
        scores = np.full(first.documents.shape, -np.inf, np.float32)
        scores[rows, columns] = score_pairs(model, self.tokenize, asked, told, runtime, self.tokens)
        return scores


def score_pairs(
    model: Any,
    tokenize: TokenizePairs,
    queries: Sequence[Any],
    documents: Sequence[Any],
    runtime: Runtime,
    limit: int | Limits,
) -> NDArray[np.float32]:
    """Return a cross-encoder's score of each query with the document beside it [P], in batches of like length."""
    most = Limits.of(limit)
    scores = np.empty(len(queries), np.float32)
    order = np.argsort([-len(q) - len(d) for q, d in zip(queries, documents, strict=True)], kind="stable")
    for start in range(0, len(order), WINDOW):
        window = order[start : start + WINDOW]
        tokens, types = tokenize([queries[p] for p in window], [documents[p] for p in window])
        lengths = torch.tensor([len(one) for one in tokens])
        for chunk in cut(len(tokens), lengths, most.texts, most.tokens) or [torch.arange(len(tokens))]:
            places = chunk.tolist()
            width = int(lengths[chunk].max())
            batch = _padded([tokens[place] for place in places], width, tokenize.padding).to(runtime.device)
            kinds = None if types is None else _padded([types[p] for p in places], width, 0).to(runtime.device)
            with torch.no_grad(), runtime.autocast():
                found = model(batch, lengths[chunk].to(runtime.device), kinds)
            scores[window[chunk.numpy()]] = found.float().cpu().numpy()
    return scores


def _padded(sequences: Sequence[NDArray[np.int32]], width: int, value: int) -> torch.Tensor:
    table = np.full((len(sequences), width), value, np.int64)
    for row, sequence in enumerate(sequences):
        table[row, : len(sequence)] = sequence
    return torch.from_numpy(table)
