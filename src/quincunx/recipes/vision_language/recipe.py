"""The vision_language recipe: from a config to everything that the engine trains and evaluates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quincunx.config.schema import Sizes, count_batches
from quincunx.data.batch import Batch
from quincunx.data.loader import Collate
from quincunx.engine.experiment import Evaluator, Experiment, Parts
from quincunx.engine.objective import Objective
from quincunx.engine.regularised import regularised
from quincunx.engine.runtime import Runtime
from quincunx.errors import UsageError
from quincunx.recipes.vision_language import assemble
from quincunx.recipes.vision_language.asked_rows import AskedRows
from quincunx.recipes.vision_language.collate import Asking, Texts
from quincunx.recipes.vision_language.config import VisionLanguageConfig
from quincunx.recipes.vision_language.data.augment import Augmentation
from quincunx.recipes.vision_language.data.features import Features
from quincunx.recipes.vision_language.data.mixing import Mixing
from quincunx.recipes.vision_language.data.pixels import Look
from quincunx.recipes.vision_language.evaluate import Speech, TaskEvaluator
from quincunx.recipes.vision_language.kinds import is_raw, judged, points, pretrains, row_width
from quincunx.recipes.vision_language.measured import metrics_of
from quincunx.recipes.vision_language.objective import Choosing, Saying
from quincunx.recipes.vision_language.predict import predict
from quincunx.recipes.vision_language.presence import check_presence
from quincunx.recipes.vision_language.pretraining.collate import PretrainingAsking
from quincunx.recipes.vision_language.pretraining.evaluate import PretrainingEvaluator
from quincunx.recipes.vision_language.pretraining.objective import Pretraining
from quincunx.recipes.vision_language.pretraining.read import read_pretraining
from quincunx.recipes.vision_language.read import Splits, feature_file, read, tasks_of, wording_of
from quincunx.recipes.vision_language.unread import unread


@dataclass(frozen=True)
class VisionLanguage:
    """The recipe's functions; the table in `quincunx.recipes` leads here."""

    def decide(self, config: VisionLanguageConfig) -> tuple[VisionLanguageConfig, list[str]]:
        """Return the config with what it leaves open decided, and sentences on what may surprise."""
        notes: list[str] = []
        if not config.data.tasks and not pretrains(config):
            tasks = tasks_of(config)
            config = config.model_copy(update={"data": config.data.model_copy(update={"tasks": tasks})})
            notes.append(f"no data.tasks given: {', '.join(tasks)}")
        if config.pictures.use and config.pictures.feature_width is None:
            width = row_width(config)
            if not is_raw(config) and (path := feature_file(config)).is_file():
                width = Features(path).width
            pictures = config.pictures.model_copy(update={"feature_width": width})
            config = config.model_copy(update={"pictures": pictures})
        if config.evaluate.only:
            # measured once, before what would be the first update
            config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"at_start": True})})
            notes.append("evaluate.only: nothing is trained")
        if config.model.path is None:
            sizes = config.model.build
            notes.append(
                f"the model is built from nothing: {sizes.architecture}, {sizes.num_layers} layers of {sizes.width}"
            )
        return config, notes

    def prelude(self, config: VisionLanguageConfig) -> dict[str, Any] | None:
        """Return None: no run comes before this one."""
        return None

    def chunk_samples(self, config: VisionLanguageConfig) -> int | None:
        """Return None: only `chunking` limits a chunk."""
        return None

    def parts(self, config: VisionLanguageConfig, home: Path | None = None) -> Parts:
        """Return model and objective of a decided config; `home` is the run folder whose model it is to have."""
        if home is None:
            return self.build(config).parts
        language, asked = assemble.again(home, config), assemble.asked_again(home)
        model, notes = assemble.make_model(config, language, asked)
        parts = Parts(model, objective_of(config, language), notes=notes)
        return regularised(parts, assemble.section_of(config, model))

    def shapes(self, config: VisionLanguageConfig) -> Parts:
        """Return model and objective of a decided config without weights: to be called on the meta device."""
        model, language, notes = unread(config)
        parts = Parts(model, objective_of(config, language), notes=notes)
        return regularised(parts, assemble.section_of(config, model))

    def build(
        self,
        config: VisionLanguageConfig,
        explicit: Collection[str] = (),
        on_progress: Callable[[int, int], None] | None = None,
        home: Path | None = None,
    ) -> Experiment:
        """Return the experiment of a decided config, reading its data; `home` is as in `parts`."""
        pretraining = read_pretraining(config) if pretrains(config) else None
        found = read(config) if pretraining is None else pretraining.splits
        if home is None:  # a run that is there may be measured although pictures of its training are gone
            check_presence((found.train, found.dev, found.test, found.hidden))
        if home is not None:
            language, asked = assemble.again(home, config), assemble.asked_again(home)
        else:
            language = assemble.language_of(config, lambda: found.texts(wording_of(config, None)))
            answers = found.answers(wording_of(config, language.tokenizer)) if config.model.classifier else []
            words = None if pretraining is None else pretraining.words
            asked = assemble.Asked(max(2, found.most_pictures), tuple(answers), words)
        model, notes = assemble.make_model(config, language, asked)
        asking = asking_of(config, language, model, asked)
        collate: Collate = asking
        if pretraining is not None:
            found = pretraining.beside(language.backbone, language.tokenizer).splits
            hiding = PretrainingAsking(asking, asked.words, config.pretraining.object_mask_rate)
            evaluators, final = measuring_of(found, hiding)
            collate = hiding
        else:
            notes += found.cut(asking.texts, asking.wording)
            evaluators, final = evaluators_of(config, found, asking)
        if asked.answers:
            notes.append(f"the classifier chooses among {len(asked.answers):,} answers")
            notes += found.beyond(asked.answers, asking.wording)
        mixing = mixing_of(config, found.train)
        metrics = metrics_of(config)
        splits = {"dev": found.dev, "test": found.test, "hidden": found.hidden}
        parts = Parts(model, objective_of(config, language), _sampler(found.train, collate), notes)
        stored = None if found.train.eyes is None else found.train.eyes.features
        return Experiment(
            config=config,
            parts=regularised(parts, assemble.section_of(config, model), compiled=config.compute.compile),
            source=found.train,
            collate=collate,
            sizes=Sizes(
                train=sum(mixing.groups),
                groups=mixing.groups,
                evaluation={name: len(rows) for name, rows in splits.items() if rows is not None},
                vocabulary=len(language.tokenizer),
            ),
            evaluators=evaluators,
            final_evaluators=final,
            metric=metrics.main,
            goal=metrics.goal,
            metrics=[f"dev/{name}" for name in metrics.names],
            notes=[*found.notes, *notes],
            fingerprints={
                "collection": found.collection.fingerprint,
                **({} if stored is None else {"features": stored.fingerprint}),
            },
            artefacts={**language.files, **asked.files},
            arrangement=mixing,
        )

    def predict(
        self,
        config: VisionLanguageConfig,
        model: nn.Module,
        runtime: Runtime,
        rows: Sequence[Mapping[str, Any]],
        home: Path | None = None,
    ) -> list[dict[str, Any]]:
        """Return what a run's model says of rows; see `quincunx.recipes.vision_language.predict`."""
        assert home is not None
        if pretrains(config):
            raise UsageError("this run was pretrained and answers no task: begin one of tasks from it, by init_from")
        language, asked = assemble.again(home, config), assemble.asked_again(home)
        asking = _still(asking_of(config, language, model, asked))
        return predict(config, model, asking, speech_of(config), runtime, rows)


def objective_of(config: VisionLanguageConfig, language: assemble.Language) -> Objective:
    """Return what is learnt."""
    if pretrains(config):
        return Pretraining(config.pretraining.losses)
    if config.model.classifier:
        return Choosing("scores" if config.data.tasks == ["vqa"] else "classes")
    numbers = {name: number for number, name in enumerate(config.data.tasks) if name in judged(config)}
    texts = Texts(language.tokenizer, language.begins)
    return Saying(numbers, len(texts.before) if numbers else 0)


def asking_of(
    config: VisionLanguageConfig, language: assemble.Language, model: nn.Module, asked: assemble.Asked
) -> Asking:
    """Return what makes batches of a decided config, for training."""
    texts = Texts(language.tokenizer, language.begins, config.text.max_length)
    look = None
    if is_raw(config):
        origin: Any = model.vision_tower.origin  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
        size = (int(config.pictures.image_size[0]), int(config.pictures.image_size[1]))
        look = Look(size, mean=origin.mean, std=origin.std)
    width = row_width(config) if config.pictures.use and look is None else 0
    augmentation = Augmentation() if config.pictures.augment else None
    return Asking(
        texts,
        wording_of(config, language.tokenizer),
        training=True,
        width=width,
        look=look,
        augmentation=augmentation,
        answers={text: number for number, text in enumerate(asked.answers)},
        points=points(config),
        judges=bool(judged(config)),
    )


def measuring_of(found: Splits, asking: PretrainingAsking) -> tuple[dict[str, Evaluator], dict[str, Evaluator]]:
    """Return what is evaluated of pretraining, during it and once at the end."""
    final: dict[str, Evaluator] = {}
    if found.test is not None:
        final["test"] = PretrainingEvaluator(found.test, asking, limited=False)
    return {"dev": PretrainingEvaluator(found.dev, asking)}, final


def evaluators_of(
    config: VisionLanguageConfig, found: Splits, asking: Asking
) -> tuple[dict[str, Evaluator], dict[str, Evaluator]]:
    """Return what is evaluated during training, and what once at the end."""
    form, speech = _still(asking), speech_of(config)

    def submits(split: str) -> str | None:
        return split if config.evaluate.submit else None

    final: dict[str, Evaluator] = {}
    if found.test is not None:
        final["test"] = TaskEvaluator(found.test, form, speech, limited=False, submits=submits("test"))
    if found.hidden is not None:
        final["hidden"] = TaskEvaluator(
            found.hidden, form, speech, limited=False, submits=submits("hidden"), measures=False
        )
    return {"dev": TaskEvaluator(found.dev, form, speech, submits=submits("dev"))}, final


def mixing_of(config: VisionLanguageConfig, rows: AskedRows) -> Mixing:
    """Return which task each batch of training is of."""
    sizes: dict[int, int] = {}
    for part, count in zip(rows.parts, rows.sizes, strict=True):
        sizes[part.number] = sizes.get(part.number, 0) + count
    if pretrains(config):
        return Mixing(
            tuple(sizes.values()), config.update.batch_size, epochs=config.budget.epochs, mixed=len(sizes) > 1
        )
    names = [config.data.tasks[number] for number in sizes]
    chosen = config.mixing
    alone = len(sizes) == 1
    weighted = chosen.sampling == "weights" and not alone
    made = Mixing(
        tuple(sizes.values()),
        config.update.batch_size,
        law="roundrobin" if alone else chosen.sampling,
        stop=None if alone or chosen.sampling == "roundrobin" else chosen.stop,
        temperature=chosen.temperature,
        weights=tuple(chosen.weights.get(name, 0.0) for name in names) if weighted else None,
        units=config.budget.batches_per_epoch if chosen.stop == "updates" and not alone else None,
        epochs=config.budget.epochs,
        mixed=chosen.mixed and not alone,
    )
    asked = config.budget.batches_per_epoch
    if asked is None or made.epochs is None:
        return made
    # epochs of so many logical batches are counted, and an arrangement's are as long as its tasks have it
    return replace(made, epochs=made.epochs * asked / count_batches(made.groups, made.batch_size))


def speech_of(config: VisionLanguageConfig) -> Speech:
    """Return how answers are generated."""
    return Speech(config.generate.beams, config.generate.beams_everywhere, config.generate.max_length)


def _still(asking: Asking) -> Asking:
    """Return what makes batches for evaluation: without anything random."""
    return replace(asking, training=False, augmentation=None, judges=False)


def _sampler(rows: AskedRows, asking: Collate) -> Callable[[int, int | None], Batch]:
    """Return what makes batches for estimates, of real rows; their lengths are as they are."""

    def sample(count: int, length: int | None) -> Batch:
        numbers = [number % len(rows) for number in range(count)]
        return asking([rows[number] for number in numbers], numbers, torch.arange(count).tolist(), 0)

    return sample


RECIPE = VisionLanguage()
