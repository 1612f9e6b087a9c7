"""The retrieval recipe: from a config to everything that the engine trains and evaluates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Collection as SomeOf
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quincunx.config.plan import make_plan
from quincunx.config.schema import Sizes
from quincunx.data.batch import Batch
from quincunx.data.cache import cache_folder
from quincunx.engine.experiment import Experiment, Parts
from quincunx.engine.runtime import Runtime
from quincunx.errors import UsageError
from quincunx.recipes.retrieval.assemble import make_model, make_objective
from quincunx.recipes.retrieval.collections import Collections, read_collections
from quincunx.recipes.retrieval.config import RetrievalConfig
from quincunx.recipes.retrieval.data.arrange import Mixture, NoDuplicates, SameDataset
from quincunx.recipes.retrieval.data.cross_source import CrossSource
from quincunx.recipes.retrieval.data.ragged import Ragged
from quincunx.recipes.retrieval.data.sampling import TrainingSet, TrainingSource
from quincunx.recipes.retrieval.data.texts import Texts
from quincunx.recipes.retrieval.data.tokenised import Tokenised, tokenised
from quincunx.recipes.retrieval.data.tokenizing import PairSide, PairTokenizer, TextTokenizer
from quincunx.recipes.retrieval.doctor import doctor, similarity
from quincunx.recipes.retrieval.encoders import Encoders, as_the_folders_say, longest, make_encoders, room
from quincunx.recipes.retrieval.evaluate.disk import kept_where
from quincunx.recipes.retrieval.evaluate.full import Corpus, FullEvaluator
from quincunx.recipes.retrieval.evaluate.make import evaluator_of, full, reranker
from quincunx.recipes.retrieval.evaluate.measuring import Measuring, check_readable, collection_to_measure
from quincunx.recipes.retrieval.evaluate.pooled import PooledEvaluator
from quincunx.recipes.retrieval.evaluate.rerank import RerankEvaluator
from quincunx.recipes.retrieval.measured import metrics_of
from quincunx.recipes.retrieval.predict import predict, predict_pairs
from quincunx.recipes.retrieval.rules import wrong_width


@dataclass(frozen=True)
class Retrieval:
    """The recipe's functions; the table in `quincunx.recipes` leads here."""

    def decide(self, config: RetrievalConfig) -> tuple[RetrievalConfig, list[str]]:
        """Return the config with what it leaves open decided, and a sentence on what may surprise."""
        encoder = config.encoder
        share = encoder.share or ("nothing" if config.document.path is not None else "all")
        objective = config.objective.model_copy(update={"similarity": similarity(config)})
        encoder = encoder.model_copy(update={"share": share})
        return config.model_copy(update={"encoder": encoder, "objective": objective}), []

    def prelude(self, config: RetrievalConfig) -> dict[str, Any] | None:
        """Return None: nothing comes before training."""
        return None

    def chunk_samples(self, config: RetrievalConfig) -> int | None:
        """Return None: only `chunking` limits a chunk."""
        return None

    def parts(self, config: RetrievalConfig, home: Path | None = None) -> Parts:
        """Return model and objective of a decided config; `home` is the run folder whose encoders they are to have."""
        encoders = make_encoders(config, home=home)
        model = make_model(config, encoders)
        objective = make_objective(config, model, longest=longest(config, "document", encoders))
        return Parts(model, objective, notes=encoders.notes)

    def shapes(self, config: RetrievalConfig) -> Parts:
        """Return model and objective of a decided config without weights: to be called on the meta device."""
        return self.parts(config)

    def build(
        self,
        config: RetrievalConfig,
        explicit: SomeOf[str] = (),
        on_progress: Callable[[int, int], None] | None = None,
        home: Path | None = None,
    ) -> Experiment:
        """Return the experiment of a decided config, reading its data.

        `explicit` are the dotted paths that somebody set; `home` is as in `parts`.
        """
        collections = read_collections(config)
        said = _unheard(config, collections, explicit)
        encoders = make_encoders(config, lambda: _corpus(collections), home)
        config = as_the_folders_say(config, encoders, explicit, _tokenized(collections))
        known = {side: len(getattr(encoders, f"{side}_tokenizer")) for side in ("query", "document")}
        for each in [*collections.train, *collections.evaluated.values()]:
            check_readable(each, config, known)
        model = make_model(config, encoders)
        encoders.notes += said
        if wrong := wrong_width(config, getattr(model, "width", 0)):
            raise UsageError(wrong)
        if config.mode == "cross-encoder":
            return _cross(config, collections, encoders, model)
        return _apart(config, collections, encoders, model)

    def measuring(
        self,
        config: RetrievalConfig,
        split: str | None = None,
        data: str | None = None,
        *,
        format: str = "auto",
        limit: int | None = None,
        skip_bad_rows: bool = False,
        home: Path | None = None,
    ) -> Measuring:
        """Return what measures a run's model on a split of its own data, or on other data, which is read now.

        Arguments and errors as of `collection_to_measure`, and `home` as in `parts`; UsageError also for a run that
        ranks within pools, on its own data: there is no one ranking of a query.
        """
        if config.evaluate.mode == "pooled":
            if data is None:
                raise UsageError(
                    "the run is evaluated within pools (evaluate.mode pooled), which give no ranking to keep; name its "
                    "folder as other data (--data), which is ranked whole"
                )
            config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"mode": "full"})})
        collection, split = collection_to_measure(
            config, split, data, format=format, limit=limit, skip_bad_rows=skip_bad_rows
        )
        encoders = make_encoders(config, home=home)
        sides = ("query", "document")
        check_readable(collection, config, {side: len(getattr(encoders, f"{side}_tokenizer")) for side in sides})
        plan, notes = make_plan(config, Sizes(train=1)), list(collection.notes)
        if data is not None:  # the limit of evaluations during training is for the run's own
            plan = replace(plan, evaluation_limit=None)
        if config.mode == "cross-encoder":
            evaluator = reranker(config, split or "", collection, pair_tokenizer(config, encoders))
            return Measuring(collection, split, evaluator, plan, notes)
        tokens = _Tokens(config, encoders)
        corpus = Corpus(collection, *tokens.of(collection))
        evaluator = full(config, split or "", corpus, kept_where(config))
        return Measuring(collection, split, evaluator, plan, [*notes, *tokens.notes])

    def predict(
        self,
        config: RetrievalConfig,
        model: nn.Module,
        runtime: Runtime,
        rows: Sequence[Mapping[str, Any]],
        home: Path | None = None,
    ) -> list[dict[str, Any]]:
        """Return scores or embeddings for rows; see `quincunx.recipes.retrieval.predict`."""
        encoders = make_encoders(config, home=home)
        if config.mode == "cross-encoder":
            return predict_pairs(model, pair_tokenizer(config, encoders), runtime, rows)
        tokenizers = {side: _tokenizer(config, encoders, side) for side in ("query", "document")}
        return predict(config, model, tokenizers, runtime, rows)


def _apart(config: RetrievalConfig, collections: Collections, encoders: Encoders, model: nn.Module) -> Experiment:
    """Return the experiment of a model that encodes queries and documents apart."""
    tokens = _Tokens(config, encoders)
    negatives = _negatives(config, collections)
    source = TrainingSource(
        [TrainingSet(each, *tokens.of(each)) for each in collections.train],
        anchor=config.data.anchor,
        positives=config.data.positives,
        negatives=negatives,
        drawing=config.data.draw,
        min_grade=config.data.min_grade,
    )
    known = torch.from_numpy(source.known.pairs) if config.memory.use else None
    most = longest(config, "document", encoders)
    objective = make_objective(config, model, known_pairs=known, longest=most, negatives=negatives)
    corpora = {split: Corpus(each, *tokens.of(each)) for split, each in collections.evaluated.items()}
    remembered = kept_where(config)
    evaluators = {split: evaluator_of(config, split, corpus, remembered) for split, corpus in corpora.items()}
    notes = [*collections.notes, *encoders.notes, *source.notes, *tokens.notes]
    arrangement = _arrangement(config, source, source.contents if config.data.no_duplicates else None)
    parts = Parts(model, objective, _sampler(source))
    return _experiment(config, collections, encoders, parts, source, arrangement, evaluators, notes, negatives)


def _cross(config: RetrievalConfig, collections: Collections, encoders: Encoders, model: nn.Module) -> Experiment:
    """Return the experiment of a model that reads query and document together."""
    tokenize = pair_tokenizer(config, encoders)
    negatives = _negatives(config, collections)
    source = CrossSource(
        collections.train,
        tokenize,
        positives=config.data.positives,
        negatives=negatives,
        random_negatives=config.cross.random_negatives,
        drawing=config.data.draw,
        min_grade=config.data.min_grade,
    )
    evaluators = {split: reranker(config, split, each, tokenize) for split, each in collections.evaluated.items()}
    arrangement = _arrangement(config, source, None)
    parts = Parts(model, make_objective(config, model), _sampler(source))
    notes = [*collections.notes, *encoders.notes]
    return _experiment(config, collections, encoders, parts, source, arrangement, evaluators, notes, negatives)


def _experiment(
    config: RetrievalConfig,
    collections: Collections,
    encoders: Encoders,
    parts: Parts,
    source: TrainingSource | CrossSource,
    arrangement: Mixture | NoDuplicates | SameDataset,
    evaluators: Mapping[str, FullEvaluator | PooledEvaluator | RerankEvaluator],
    notes: Sequence[str],
    negatives: int,
) -> Experiment:
    sizes = Sizes(
        train=sum(arrangement.groups),
        groups=tuple(arrangement.groups),
        evaluation={split: len(evaluator.corpus.judged) for split, evaluator in evaluators.items()},
        vocabulary=len(encoders.query_tokenizer),
    )
    if isinstance(source, TrainingSource):
        sizes = replace(sizes, longest=int(source.lengths.max()), mean_length=float(source.lengths.mean()))
    plan = make_plan(config, sizes)
    metrics = metrics_of(config)
    said = doctor(
        config,
        updates=plan.total_updates,
        per_epoch=plan.updates_per_epoch,
        negatives=negatives,
        new_tokens=config.encoder.special_tokens if config.encoder.path is not None else (),
        untrained=encoders.untrained,
    )
    return Experiment(
        config=config,
        parts=parts,
        source=source,
        collate=source.collate,
        sizes=sizes,
        arrangement=arrangement,
        evaluators={split: evaluator for split, evaluator in evaluators.items() if split == "dev"},
        final_evaluators={split: evaluator for split, evaluator in evaluators.items() if split == "test"},
        metric=metrics.main,
        goal=metrics.goal,
        metrics=[f"{split}/{name}" for split in evaluators for name in metrics.names],
        notes=[*notes, *said],
        fingerprints=collections.fingerprints,
        skipped_rows=collections.skipped,
        artefacts=encoders.files,
    )


@dataclass
class _Tokens:
    """Tokens of both sides of a collection, each made once."""

    config: RetrievalConfig
    encoders: Encoders

    def __post_init__(self) -> None:
        self.notes: list[str] = []
        self._tokenize = {side: _tokenizer(self.config, self.encoders, side) for side in ("query", "document")}
        self._made: dict[tuple[int, str], Tokenised] = {}
        data = self.config.data
        self._folder = cache_folder(data.cache) if data.tokenization == "eager" else None

    def of(self, collection: Any) -> tuple[Tokenised, Tokenised]:
        """Return the tokens of its queries and of its documents."""
        return self._side(collection.queries, "query"), self._side(collection.documents, "document")

    def _side(self, texts: Any, side: str) -> Tokenised:
        # splits of one folder may share their documents; texts are kept in `_made`, so that their ids stay theirs
        key = (id(texts), side)
        if key not in self._made:
            found, notes = tokenised(texts, self._tokenize[side], cache=self._folder, name=f"{side}-tokens")
            self._made[key] = found
            self.notes += notes
        return self._made[key]


def pair_tokenizer(config: RetrievalConfig, encoders: Encoders) -> PairTokenizer:
    """Return what makes one sequence of a query and a document."""
    query, document = (
        PairSide(each.prompt, each.max_length, each.truncate) for each in (config.query, config.document)
    )
    most = config.cross.max_length or room("document", encoders)
    return PairTokenizer(encoders.query_tokenizer, most, query=query, document=document)


def _tokenizer(config: RetrievalConfig, encoders: Encoders, side: str) -> TextTokenizer:
    section = getattr(config, side)
    return TextTokenizer(
        getattr(encoders, f"{side}_tokenizer"),
        longest(config, side, encoders),
        prompt=section.prompt,
        truncate=section.truncate,
    )


def _corpus(collections: Collections) -> Iterator[str]:
    """Yield the training texts, on which a tokenizer is trained: queries, then documents, of each set."""
    for each in collections.train:
        for texts in (each.queries, each.documents):
            if isinstance(texts, Texts):
                yield from (texts.text(number) for number in range(len(texts)))


def _tokenized(collections: Collections) -> set[str]:
    """Return the sides of which some texts are token ids."""
    texts = {"query": "queries", "document": "documents"}
    every = collections.all.values()
    return {side for side, name in texts.items() if any(not isinstance(getattr(each, name), Texts) for each in every)}


def _unheard(config: RetrievalConfig, collections: Collections, explicit: SomeOf[str]) -> list[str]:
    """Return sentences on settings of a development set that the data leaves without effect; refuse a dead limit."""
    carved = any("(data.dev_share)" in note for note in collections.notes)
    if carved and config.data.dev.limit is not None:
        raise UsageError(
            "data.dev.limit is of a development set that is given, and none is: a share of the training queries is "
            "kept for it; set data.dev_share, or limit the evaluations by evaluate.max_batches"
        )
    idle = [name for name in ("data.dev_share", "data.seed") if name in explicit]
    if carved or not idle or "dev" not in collections.evaluated:
        return []
    return [f"{' and '.join(idle)} without effect: {collections.evaluated['dev'].name} has a development set"]


def _negatives(config: RetrievalConfig, collections: Collections) -> int:
    """Return how many explicit negatives are drawn for each anchor; unset, one where the data holds any."""
    if config.data.negatives is not None:
        return config.data.negatives
    return int(any(len(each.negatives) for each in collections.train))


def _arrangement(
    config: RetrievalConfig, source: TrainingSource | CrossSource, texts: Ragged | None
) -> Mixture | NoDuplicates | SameDataset:
    mixture = Mixture.of(source.counts, [1.0, *(each.weight for each in config.data.mixed)])
    within = None if texts is None else NoDuplicates(mixture, texts)
    if config.data.same_dataset:
        return SameDataset(mixture, within)
    return within or mixture


def _sampler(source: TrainingSource | CrossSource) -> Callable[[int, int | None], Batch]:
    """Return what makes a batch of so many anchors of the source, those with the longest texts."""

    def sample(rows: int, length: int | None) -> Batch:
        order = source.lengths.argsort()[::-1][:rows]
        return source.collate(order.tolist(), order.tolist(), range(len(order)), 0)

    return sample


RECIPE = Retrieval()
