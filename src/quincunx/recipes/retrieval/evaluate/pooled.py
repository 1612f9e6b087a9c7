"""Evaluation in pools: the anchors of some batches rank only what belongs to these batches, and pools are averaged.

The form of guide 000. What a score means depends on the size of a pool, so two of them compare only at one size; the
last pool is smaller where the anchors do not come out even, and counts by its anchors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from quincunx.config.plan import Plan
from quincunx.engine.runtime import Runtime
from quincunx.metrics.ranking import Judged, Scores, id_order, score_arrays
from quincunx.metrics.record import Evaluation
from quincunx.recipes.retrieval.data.collection import Relations
from quincunx.recipes.retrieval.evaluate.full import Corpus, Picked, summary
from quincunx.recipes.retrieval.evaluate.ranker import ranker
from quincunx.recipes.retrieval.evaluate.vectors import TOKENS, Limits

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class PooledEvaluator:
    """Ranks within pools of `pool` batches of `batch` anchors."""

    split: str
    corpus: Corpus
    measures: Sequence[str]
    cosine: bool
    anchor: Literal["query", "document"] = "document"
    pool: int = 1
    batch: int = 32
    tokens: int | Limits = TOKENS
    """What is computed at once."""
    ties: str = "expected"
    device: torch.device | None = None
    """Where scores are computed and sorted; None: where the model is."""

    def __call__(self, model: nn.Module, runtime: Runtime, plan: Plan) -> Evaluation:
        """Return the measures over all pools, with standard errors over anchors."""
        limit = plan.evaluation_limit if self.split == "dev" else None
        parts = [self._measure(model, runtime, anchors, others) for anchors, others in self.pools(limit)]
        scores = Scores(
            parts[0].wanted, [name for part in parts for name in part.names], np.concatenate([p.values for p in parts])
        )
        table, scalars = summary(scores)
        first = scores.wanted[0].name
        size = self.pool * self.batch
        note = (
            f"{self.split} {first} {scores.mean[first]:.4f} within {len(parts):,} pools of {size:,} "
            f"{self.anchor} anchors" + (f", the last of {len(parts[-1].names):,}" * (len(parts[-1].names) < size))
        )
        return Evaluation(scalars, [table], notes=[note])

    @cached_property
    def relations(self) -> Relations:
        """Positives by anchor."""
        positives = self.corpus.collection.positives
        if self.anchor == "query":
            return positives
        return positives.by_document(len(self.corpus.collection.documents))

    def pools(self, limit: int | None = None) -> Iterator[tuple[Indices, Indices]]:
        """Yield each pool's anchors and what belongs to them, by number."""
        anchors = np.flatnonzero(self.relations.counts > 0)[:limit]
        size = self.pool * self.batch
        for start in range(0, len(anchors), size):
            chosen = anchors[start : start + size]
            yield chosen, np.unique(self.relations.pick(chosen).documents)

    def _measure(self, model: nn.Module, runtime: Runtime, anchors: Indices, others: Indices) -> Scores:
        collection = self.corpus.collection
        as_queries = self.anchor == "query"
        queries, documents = (anchors, others) if as_queries else (others, anchors)
        assert self.corpus.queries is not None and self.corpus.documents is not None
        by = ranker(model, runtime, cosine=self.cosine, tokens=self.tokens)
        scores = by.scores(Picked(self.corpus.queries, queries), Picked(self.corpus.documents, documents), self.device)
        scores = scores if as_queries else scores.T
        relevant = self.relations.pick(anchors)
        own, ids = (collection.queries.ids, collection.documents.ids)
        own, ids = (own, ids) if as_queries else (ids, own)
        return score_arrays(
            np.broadcast_to(np.arange(len(others)), scores.shape),
            scores.numpy(),
            Judged(relevant.offsets, np.searchsorted(others, relevant.documents), relevant.grades),
            self.measures,
            order=id_order([ids[other] for other in others.tolist()]) if self.ties == "trec" else None,
            ties=self.ties,
            names=[own[anchor] for anchor in anchors.tolist()],
        )
