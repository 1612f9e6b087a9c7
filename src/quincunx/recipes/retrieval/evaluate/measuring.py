"""A run's model measured on one collection, with the ranking behind the measures, so that both can be kept.

The collection is a split of the run's own data, or any other. Q queries, K results a query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from quincunx.config.plan import Plan
from quincunx.engine.loop import evaluate
from quincunx.engine.runtime import Runtime
from quincunx.errors import DataError, UsageError
from quincunx.index.exact import Found
from quincunx.metrics.ranking import id_order
from quincunx.metrics.record import Evaluation
from quincunx.recipes.retrieval.collections import read_collections
from quincunx.recipes.retrieval.config import RetrievalConfig
from quincunx.recipes.retrieval.data import Collection, load_collection
from quincunx.recipes.retrieval.data.readers.ir_datasets import PREFIX
from quincunx.recipes.retrieval.data.texts import TokenTexts
from quincunx.recipes.retrieval.evaluate.full import FullEvaluator
from quincunx.recipes.retrieval.evaluate.rerank import RerankEvaluator
from quincunx.recipes.retrieval.evaluate.trec_lines import Ranking, unfit

Lines = Callable[[], Iterator[str]]


@dataclass(frozen=True)
class Measured:
    """What measuring found."""

    evaluation: Evaluation
    facts: Mapping[str, Any]
    """What was measured, and how, in plain values."""
    skipped: Sequence[Mapping[str, Any]]
    """Bad rows that were left out."""
    files: Mapping[str, Lines]
    """Further files by name, each as what gives its lines."""


@dataclass(frozen=True)
class Measuring:
    """A collection that was read, and what measures a model on it."""

    collection: Collection
    split: str | None
    evaluator: FullEvaluator | RerankEvaluator
    plan: Plan
    notes: Sequence[str] = ()

    @property
    def name(self) -> str:
        """What the evaluation is called: the collection's name and the split, fit for a folder."""
        words = [word for word in (self.collection.name, self.split) if word]
        if len(words) > 1 and words[0].endswith(words[1]):  # a name of ir_datasets ends in its split already
            words = words[:1]
        return (
            "".join(sign if sign.isalnum() or sign in "._" else "-" for sign in "-".join(words)).strip("-.") or "data"
        )

    @property
    def fingerprint(self) -> str:
        """The contents of the collection."""
        return self.collection.fingerprint

    def __call__(self, model: nn.Module, runtime: Runtime) -> Measured | None:
        """Return what is found; None in processes other than the first, which measures for all."""
        keep = _Keeping(self.evaluator)
        evaluation = evaluate(model, keep, runtime, self.plan)
        if keep.found is None:
            return None
        evaluation = replace(evaluation, notes=[*evaluation.notes, *self.notes])
        corpus, files = self.evaluator.corpus, dict[str, Lines]()
        ids = [corpus.collection.queries.ids[query] for query in keep.queries.tolist()]
        documents = corpus.collection.documents.ids
        misfit = unfit(ids) or unfit(documents)
        if misfit is None:
            relevant = corpus.collection.relevant.pick(keep.queries)
            ranking = Ranking(ids, documents, keep.found, relevant, id_order(documents))
            files = {"run.trec": ranking.run_lines, "qrels.trec": ranking.qrels_lines}
        else:
            note = f"no TREC files: a column of theirs cannot hold the id {misfit!r}"
            evaluation = replace(evaluation, notes=[*evaluation.notes, note])
        facts = {
            "data": self.fingerprint,
            "collection": self.collection.name,
            "split": self.split,
            "documents": len(documents),
            "ties": self.evaluator.ties,
        }
        return Measured(evaluation, facts, self.collection.skipped, files)


def collection_to_measure(
    config: RetrievalConfig,
    split: str | None,
    data: str | None,
    *,
    format: str = "auto",
    limit: int | None = None,
    skip_bad_rows: bool = False,
) -> tuple[Collection, str | None]:
    """Return a split of the run's own data, or of other data, and what the split is called.

    Args:
        config: The run's config.
        split: None: `test`; of a single file, and of a name of ir_datasets, all of it.
        data: Folder, file or name of other data; None: the run's own.
        format: As `data.test.format`.
        limit: Only the first so many queries.
        skip_bad_rows: Leave bad rows out; they are where the config says so as well.

    Raises:
        DataError: The collection cannot be read, or not by this model.
        UsageError: The run has no such split.
    """
    if data is None:
        split = split or "test"
        own = read_collections(config).evaluated
        if split not in own:
            raise UsageError(f"the run has no split {split!r}; it has {', '.join(sorted(own)) or 'none'}")
        return own[split], split
    if split is None and not data.startswith(PREFIX) and not Path(data).expanduser().is_file():
        split = "test"
    collection = load_collection(
        data,
        format=format,
        split=split,
        limit=limit,
        skip_bad_rows=skip_bad_rows or config.data.skip_bad_rows,
        bad_row_limit=config.data.bad_row_limit,
    )
    if not len(collection.relevant):
        raise DataError(f"{data} has no judged pair of a query and a document: there is nothing to measure against")
    return collection, split


def check_readable(collection: Collection, config: RetrievalConfig, vocabulary: Mapping[str, int]) -> None:
    """Raise DataError for texts that the model cannot read; `vocabulary` is the number of its tokens by side."""
    for side, texts in (("query", collection.queries), ("document", collection.documents)):
        if not isinstance(texts, TokenTexts):
            continue
        if config.mode == "cross-encoder":
            raise DataError(
                f"{collection.name} holds token ids, and a cross-encoder reads query and document as one text: give "
                "the texts themselves"
            )
        largest = int(texts.flat.max(initial=-1))
        if largest >= vocabulary[side]:
            raise DataError(
                f"{collection.name} holds the token id {largest:,}, and the {side} encoder's tokenizer has "
                f"{vocabulary[side]:,} tokens: it was tokenized for another model; give the texts themselves"
            )


@dataclass
class _Keeping:
    """An evaluator that keeps what was found, and for which queries."""

    evaluator: FullEvaluator | RerankEvaluator
    found: Found | None = None
    queries: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def __call__(self, model: nn.Module, runtime: Runtime, plan: Plan) -> Evaluation:
        judge = self.evaluator
        if isinstance(judge, RerankEvaluator):
            listening = _Listening(**{one.name: getattr(judge, one.name) for one in fields(judge)})
            evaluation = listening(model, runtime, plan)
            ((self.queries, self.found),) = listening.heard
            return evaluation
        self.queries = judge.corpus.judged
        if judge.split == "dev" and plan.evaluation_limit is not None:
            self.queries = self.queries[: plan.evaluation_limit]
        self.found = judge.rank(model, runtime, self.queries)
        return judge.evaluation(self.queries, self.found)


@dataclass(frozen=True)
class _Listening(RerankEvaluator):
    """A reranking whose scores are kept."""

    heard: list[tuple[NDArray[np.int64], Found]] = field(default_factory=list[tuple[NDArray[np.int64], Found]])

    def _scores(self, model: Any, runtime: Runtime, queries: NDArray[np.int64], first: Found) -> NDArray[np.float32]:
        scores = super()._scores(model, runtime, queries, first)
        self.heard.append((queries, Found(first.documents, scores)))
        return scores
