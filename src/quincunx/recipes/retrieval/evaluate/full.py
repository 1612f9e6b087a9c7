"""Evaluation over the whole corpus: every query ranks every document, measured as trec_eval measures.

Q queries, N documents, k results a query.
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
from quincunx.engine.runtime import Runtime
from quincunx.index.exact import NOTHING, Found
from quincunx.metrics.intervals import bootstrap_mean
from quincunx.metrics.ranking import Scores, id_order, score_arrays
from quincunx.metrics.record import Evaluation, Table
from quincunx.recipes.retrieval.data.collection import Collection
from quincunx.recipes.retrieval.data.tokenised import Tokenised
from quincunx.recipes.retrieval.evaluate.beside import Beside, comparison
from quincunx.recipes.retrieval.evaluate.ranker import Validator, ranker
from quincunx.recipes.retrieval.evaluate.remembered import Keeps
from quincunx.recipes.retrieval.evaluate.vectors import TOKENS, WINDOW, Limits

SAMPLES, SHOWN, RESULTS = 5, 160, 3
"""Queries shown, characters of a text, documents of each."""


@dataclass(frozen=True)
class Picked:
    """Some of the texts of one side, numbered anew."""

    texts: Tokenised
    numbers: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.integer]:
        """Tokens of each."""
        return self.texts.lengths[self.numbers]

    def tokens(self, index: int) -> NDArray[np.int32]:
        """Return a text's token ids."""
        return self.texts.tokens(int(self.numbers[index]))


@dataclass(frozen=True)
class Corpus:
    """A collection with its tokens, ready to be ranked."""

    collection: Collection
    queries: Tokenised | None = None
    documents: Tokenised | None = None
    """Of the texts apart; a cross-encoder, which reads two as one, has none."""

    @cached_property
    def judged(self) -> NDArray[np.int64]:
        """The queries that somebody judged [Q]."""
        return np.flatnonzero(self.collection.relevant.counts > 0)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Each document's place by id, which decides ties [N]."""
        return id_order(self.collection.documents.ids)


@dataclass(frozen=True)
class FullEvaluator:
    """Ranks the whole corpus for every judged query."""

    split: str
    corpus: Corpus
    measures: Sequence[str]
    cosine: bool
    depth: int = 1000
    ties: str = "trec"
    tokens: int | Limits = TOKENS
    """What is computed at once."""
    validator: Validator | None = None
    """How the model's output becomes vectors, in guide 001's way; None: as the model gives them."""
    remembered: Keeps | None = None
    """Keeps embeddings of the corpus by the weights they were made with; None: it is encoded every time."""
    device: torch.device | None = None
    """Where neighbours are searched; None: where the model is."""
    beside: Beside | None = None
    """Rankings that are measured beside the model's."""

    def __call__(self, model: nn.Module, runtime: Runtime, plan: Plan) -> Evaluation:
        """Return the measures with standard errors, a table of intervals, samples, and every query's values."""
        queries = self.corpus.judged
        if self.split == "dev" and plan.evaluation_limit is not None:
            queries = queries[: plan.evaluation_limit]
        found = self.rank(model, runtime, queries)
        return self.evaluation(queries, found)

    def rank(self, model: nn.Module, runtime: Runtime, queries: NDArray[np.int64]) -> Found:
        """Return the best documents of these queries, as deep as asked and as the corpus goes.

        Queries are encoded and searched a window at a time: a poly-encoder's codes of all of them may be too many.
        """
        assert self.corpus.queries is not None and self.corpus.documents is not None
        by = ranker(model, runtime, cosine=self.cosine, tokens=self.tokens, validator=self.validator)
        if self.remembered is None:
            documents = by.documents(self.corpus.documents)
        else:
            documents = self.remembered.documents(model, by, self.corpus.documents)
        depth = min(self.depth, len(self.corpus.collection.documents))
        windows = [queries[start : start + WINDOW] for start in range(0, len(queries), WINDOW)]
        parts = [by.rank(Picked(self.corpus.queries, window), documents, depth, self.device) for window in windows]
        return Found(np.concatenate([p.documents for p in parts]), np.concatenate([p.scores for p in parts]))

    def evaluation(self, queries: NDArray[np.int64], found: Found) -> Evaluation:
        """Return what a ranking of these queries is worth, and what others beside it are."""
        collection = self.corpus.collection
        names = [collection.queries.ids[query] for query in queries.tolist()]
        scores = self._scores(queries, found)
        table, scalars = summary(scores)
        tables = [table]
        first = scores.wanted[0].name
        low, high = table.rows[0][2:4]
        note = (
            f"{self.split} {first} {scores.mean[first]:.4f} [{low}, {high}] over {len(names):,} queries and "
            f"{len(collection.documents):,} documents"
        )
        if self.beside is not None:
            others = {name: self._scores(queries, each) for name, each in self.beside(queries, found).items()}
            compared, more, said = comparison(scores, others)
            tables.append(compared)
            scalars |= more
            note += f"; beside it {said}"
        values = {one.name: dict(zip(scores.names, scores.of(one.name).tolist(), strict=True)) for one in scores.wanted}
        return Evaluation(scalars, tables, self._samples(queries, found), [note], values)

    def _scores(self, queries: NDArray[np.int64], found: Found) -> Scores:
        collection = self.corpus.collection
        return score_arrays(
            found.documents,
            found.scores,
            collection.relevant.pick(queries),
            self.measures,
            order=self.corpus.order if self.ties == "trec" else None,
            ties=self.ties,
            names=[collection.queries.ids[query] for query in queries.tolist()],
        )

    def _samples(self, queries: NDArray[np.int64], found: Found) -> list[dict[str, Any]]:
        collection, samples = self.corpus.collection, []
        positives = collection.positives
        for row in np.unique(np.linspace(0, len(queries) - 1, SAMPLES).astype(np.int64)).tolist():
            query = int(queries[row])
            right = set(positives.of(query).tolist())
            best = [int(document) for document in found.documents[row, :RESULTS] if document != NOTHING]
            samples.append(
                {
                    "query": shown(collection.queries, query),
                    "found": [
                        f"{'+' if document in right else '-'} {shown(collection.documents, document)}"
                        for document in best
                    ],
                }
            )
        return samples


def summary(scores: Scores) -> tuple[Table, dict[str, float]]:
    """Return a table of means with 95 % bootstrap intervals over queries, and the scalars with standard errors."""
    rows: list[list[Any]] = []
    scalars: dict[str, float] = {}
    for one in scores.wanted:
        values = scores.of(one.name)
        values = values[~np.isnan(values)]
        scalars[one.name] = scores.mean[one.name]
        if one.measure.summed or len(values) < 2:
            rows.append([one.name, f"{scores.mean[one.name]:.4f}", "", "", len(values)])
            continue
        interval = bootstrap_mean(values)
        scalars[f"{one.name}_se"] = float(values.std(ddof=1) / np.sqrt(len(values)))
        rows.append([one.name, *(f"{v:.4f}" for v in (interval.value, interval.low, interval.high)), len(values)])
    return Table(
        "Measures, 95 % bootstrap interval over queries", ["measure", "mean", "low", "high", "queries"], rows
    ), scalars


def shown(texts: Any, number: int) -> str:
    """Return a text as a sample shows it, its id where only tokens are known."""
    text = texts.text(number)
    return f"#{texts.ids[number]}" if text is None else " ".join(text.split())[:SHOWN]
