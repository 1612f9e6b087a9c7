"""The retrieval recipe: from a config to everything that the engine trains and evaluates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from quincunx.metrics.ranking import parse_measures
from quincunx.recipes.retrieval.assemble import make_model, make_objective
from quincunx.recipes.retrieval.collections import Collections, read_collections
from quincunx.recipes.retrieval.config import RetrievalConfig
from quincunx.recipes.retrieval.data.arrange import Mixture, NoDuplicates, SameDataset
from quincunx.recipes.retrieval.data.batch import RetrievalBatch
from quincunx.recipes.retrieval.data.sampling import TrainingSet, TrainingSource
from quincunx.recipes.retrieval.data.texts import Texts
from quincunx.recipes.retrieval.data.tokenised import Tokenised, tokenised
from quincunx.recipes.retrieval.data.tokenizing import TextTokenizer
from quincunx.recipes.retrieval.doctor import doctor, similarity
from quincunx.recipes.retrieval.encoders import Encoders, longest, make_encoders
from quincunx.recipes.retrieval.evaluate.full import Corpus, FullEvaluator
from quincunx.recipes.retrieval.evaluate.pooled import PooledEvaluator
from quincunx.recipes.retrieval.predict import predict


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
        return Parts(model, make_objective(config, model, longest=longest(config, "document", encoders)))

    def build(
        self,
        config: RetrievalConfig,
        explicit: Collection[str] = (),
        on_progress: Callable[[int, int], None] | None = None,
        home: Path | None = None,
    ) -> Experiment:
        """Return the experiment of a decided config, reading its data.

        `explicit` are the dotted paths that somebody set; `home` is as in `parts`.
        """
        collections = read_collections(config)
        encoders = make_encoders(config, lambda: _corpus(collections), home)
        config = _as_the_folder_says(config, encoders, explicit)
        model = make_model(config, encoders)
        tokens = _Tokens(config, encoders)
        sets = [TrainingSet(each, *tokens.of(each)) for each in collections.train]
        explicit_negatives = _negatives(config, collections)
        source = TrainingSource(
            sets,
            anchor=config.data.anchor,
            positives=config.data.positives,
            negatives=explicit_negatives,
            drawing=config.data.draw,
            min_grade=config.data.min_grade,
        )
        arrangement = _arrangement(config, source)
        known = torch.from_numpy(source.known.pairs) if config.memory.use else None
        objective = make_objective(
            config,
            model,
            known_pairs=known,
            longest=longest(config, "document", encoders),
            negatives=explicit_negatives,
        )
        corpora = {split: Corpus(each, *tokens.of(each)) for split, each in collections.evaluated.items()}
        evaluators = {split: _evaluator(config, split, corpus) for split, corpus in corpora.items()}
        sizes = Sizes(
            train=sum(arrangement.groups),
            groups=tuple(arrangement.groups),
            evaluation={split: len(corpus.judged) for split, corpus in corpora.items()},
            vocabulary=len(encoders.query_tokenizer),
            longest=int(source.lengths.max()),
            mean_length=float(source.lengths.mean()),
        )
        plan = make_plan(config, sizes)
        measures = [one.name for one in parse_measures(config.evaluate.measures)]
        said = doctor(
            config,
            updates=plan.total_updates,
            per_epoch=plan.updates_per_epoch,
            negatives=explicit_negatives,
            new_tokens=config.encoder.special_tokens if config.encoder.path is not None else (),
            untrained=encoders.untrained,
        )
        return Experiment(
            config=config,
            parts=Parts(model, objective, _sampler(source)),
            source=source,
            collate=source.collate,
            sizes=sizes,
            arrangement=arrangement,
            evaluators={split: evaluator for split, evaluator in evaluators.items() if split == "dev"},
            final_evaluators={split: evaluator for split, evaluator in evaluators.items() if split == "test"},
            metric=f"dev/{measures[0]}",
            goal="max",
            metrics=[f"{split}/{name}" for split in evaluators for name in measures],
            notes=[*collections.notes, *encoders.notes, *source.notes, *tokens.notes, *said],
            fingerprints=collections.fingerprints,
            skipped_rows=collections.skipped,
            artefacts=encoders.files,
        )

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
        tokenizers = {side: _tokenizer(config, encoders, side) for side in ("query", "document")}
        return predict(config, model, tokenizers, runtime, rows)


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


def _as_the_folder_says(config: RetrievalConfig, encoders: Encoders, explicit: Collection[str]) -> RetrievalConfig:
    """Return the config with what a sentence-transformers folder says and nobody set otherwise."""
    layout = encoders.layout
    if layout is None:
        return config
    encoder, objective = config.encoder, config.objective
    if "encoder.pooling" not in explicit and layout.pooling != encoder.pooling:
        encoder = encoder.model_copy(update={"pooling": layout.pooling})
        encoders.notes.append(f"encoder.pooling: {layout.pooling}, as {config.encoder.path} says")
    similar = "cosine" if layout.normalize else layout.similarity
    if "objective.similarity" not in explicit and similar not in (None, objective.similarity):
        objective = objective.model_copy(update={"similarity": similar})
        encoders.notes.append(f"objective.similarity: {similar}, as {config.encoder.path} says")
    return config.model_copy(update={"encoder": encoder, "objective": objective})


def _negatives(config: RetrievalConfig, collections: Collections) -> int:
    """Return how many explicit negatives are drawn for each anchor; unset, one where the data holds any."""
    if config.data.negatives is not None:
        return config.data.negatives
    return int(any(len(each.negatives) for each in collections.train))


def _arrangement(config: RetrievalConfig, source: TrainingSource) -> Mixture | NoDuplicates | SameDataset:
    mixture = Mixture.of(source.counts, [1.0, *(each.weight for each in config.data.mixed)])
    within = NoDuplicates(mixture, source.contents) if config.data.no_duplicates else None
    if config.data.same_dataset:
        return SameDataset(mixture, within)
    return within or mixture


def _evaluator(config: RetrievalConfig, split: str, corpus: Corpus) -> FullEvaluator | PooledEvaluator:
    chosen, cosine = config.evaluate, similarity(config) == "cosine"
    if chosen.mode == "pooled":
        device = None if chosen.device in (None, "auto") else torch.device(str(chosen.device))
        return PooledEvaluator(
            split,
            corpus,
            chosen.measures,
            cosine,
            anchor=config.data.anchor,
            pool=chosen.pool,
            batch=chosen.batch_size or config.update.batch_size,
            device=device,
        )
    return FullEvaluator(split, corpus, chosen.measures, cosine, depth=chosen.depth, ties=chosen.ties)


def _sampler(source: TrainingSource) -> Callable[[int, int | None], Batch]:
    """Return what makes a batch of so many anchors of the source, those with the longest texts."""

    def sample(rows: int, length: int | None) -> RetrievalBatch:
        order = source.lengths.argsort()[::-1][:rows]
        return source.collate(order.tolist(), order.tolist(), range(len(order)), 0)

    return sample


RECIPE = Retrieval()
