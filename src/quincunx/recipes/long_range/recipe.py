"""The long_range recipe: from a config to everything that the engine trains and evaluates."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from quincunx.config.schema import Sizes
from quincunx.data.batch import Batch
from quincunx.data.loader import Collate
from quincunx.engine.experiment import Experiment, Parts
from quincunx.engine.runtime import Runtime
from quincunx.errors import UsageError
from quincunx.recipes.long_range.adapt import adapt
from quincunx.recipes.long_range.asked import PICTURES, read_rows
from quincunx.recipes.long_range.config import LongRangeConfig
from quincunx.recipes.long_range.data import SPLITS, Splits, check, load_splits
from quincunx.recipes.long_range.evaluate import (
    ClassificationEvaluator,
    DenoisingEvaluator,
    predict_classes,
)
from quincunx.recipes.long_range.measured import metrics_of
from quincunx.recipes.long_range.model import LongRangeClassifier, LongRangeDenoiser
from quincunx.recipes.long_range.objective import Classification, Denoising
from quincunx.recipes.long_range.source import Masking, Numbering, SequenceSource, SingleSource, collate
from quincunx.recipes.long_range.tasks import TASKS, mask_token, needed_vocabulary, pretrains, usual_length

log = logging.getLogger("quincunx")


@dataclass(frozen=True)
class LongRange:
    """The recipe's functions; the table in `quincunx.recipes` leads here."""

    def decide(self, config: LongRangeConfig) -> tuple[LongRangeConfig, list[str]]:
        """Return the config with what it leaves open decided, and a sentence on what may surprise."""
        notes: list[str] = []
        attention, encoder, data, task = config.attention, config.encoder, config.data, TASKS[config.task]
        if attention.kind is None:
            attention = attention.model_copy(update={"kind": "softmax"})
            notes.append("no attention.kind given: softmax")
        followed = {
            "vocab_size": encoder.vocab_size or needed_vocabulary(config),
            "max_seq_len": encoder.max_seq_len or usual_length(config),
            "num_classes": encoder.num_classes or task.classes,
        }
        if encoder.position_sampling != "none":
            followed["position_range"] = encoder.position_range or 3 * followed["max_seq_len"]
        encoder = encoder.model_copy(update=followed)
        data = data.model_copy(update={"overlong": data.overlong or task.overlong})
        return config.model_copy(update={"attention": attention, "encoder": encoder, "data": data}), notes

    def prelude(self, config: LongRangeConfig) -> dict[str, Any] | None:
        """Return the changes that make a decided config its self-pretraining, by dotted path; None without any."""
        if not pretrains(config):
            return None
        chosen = config.pretraining
        changes: dict[str, Any] = {
            "objective": "denoising",
            "budget": {"updates": chosen.updates, "epochs": chosen.epochs},
            "pretraining": {"mask_share": chosen.mask_share},
            "evaluate.metric": None,
            "evaluate.goal": None,
            "evaluate.patience": None,
            "peft": {},  # what is adapted is trained whole before
        }
        if chosen.learning_rate is not None:
            changes["optimizer.learning_rate"] = chosen.learning_rate
        return changes

    def parts(self, config: LongRangeConfig, home: Path | None = None) -> Parts:
        """Return model and objective of a decided config, freshly initialised from torch's default generator.

        `home`, the run folder, is not looked at here and below: all follows from the config.
        """
        longest = config.encoder.max_seq_len
        assert longest is not None
        denoises = config.objective == "denoising"
        sequences = 1 if denoises else TASKS[config.task].parts
        form = collate_of(config)

        def sample(rows: int, length: int | None) -> Batch:
            one = np.ones(min(length or longest, longest), np.uint8)
            return form([((one,) * sequences, 0)] * rows, range(rows), range(rows), 0)

        model = LongRangeDenoiser(config) if denoises else LongRangeClassifier(config)
        notes = adapt(model, config.peft)
        return Parts(model, Denoising() if denoises else Classification(), sample, notes)

    def shapes(self, config: LongRangeConfig) -> Parts:
        """Return model and objective of a decided config without weights: to be called on the meta device."""
        return self.parts(config)

    def chunk_samples(self, config: LongRangeConfig) -> int | None:
        """Return the chunk limit of the chosen attention kind."""
        kind = config.attention.kind or "softmax"
        return getattr(config.chunking.samples_by_kind, kind.replace("-", "_"))

    def build(
        self,
        config: LongRangeConfig,
        explicit: Collection[str] = (),
        on_progress: Callable[[int, int], None] | None = None,
        home: Path | None = None,
    ) -> Experiment:
        """Return the experiment of a decided config, reading or generating its data.

        `explicit` are the dotted paths that somebody set: an explicit count must be there, a default one is a ceiling.
        """
        encoder, data, task = config.encoder, config.data, TASKS[config.task]
        assert encoder.max_seq_len is not None and encoder.num_classes is not None and data.overlong is not None
        splits = load_splits(config.task, data, config.debug.limit, explicit=set(explicit), on_progress=on_progress)
        notes = [*splits.notes, *check(splits, encoder.num_classes, encoder.max_seq_len, data.overlong)]
        longest = encoder.max_seq_len
        denoises = config.objective == "denoising"
        source = SingleSource(splits.train, longest) if denoises else SequenceSource(splits.train, longest)
        evaluators = {split: _evaluator(config, split, splits) for split in ("dev", "test")}
        sizes = Sizes(
            train=len(source),
            evaluation={split: len(evaluator.source) for split, evaluator in evaluators.items()},
            vocabulary=task.vocabulary,
            longest=int(splits.train.lengths.max()),
            mean_length=float(source.lengths.mean()),
        )
        parts = self.parts(config)
        notes += parts.notes
        checkpointing = getattr(parts.model, "checkpointing_note", lambda: None)()
        if checkpointing:
            notes.append(checkpointing)
        # under a limit they would say less than the files hold: what is carved out of them would be another part
        counts = {split: len(splits.of(split)) for split in SPLITS} if config.debug.limit is None else {}
        metrics = metrics_of(config)
        return Experiment(
            config=config.model_copy(update={"data": data.model_copy(update=counts)}),
            parts=parts,
            source=source,
            collate=collate_of(config),
            sizes=sizes,
            evaluators={"dev": evaluators["dev"]},
            final_evaluators={"test": evaluators["test"]},
            metric=metrics.main,
            goal=metrics.goal,
            metrics=[f"dev/{name}" for name in metrics.names],
            chunk_samples=self.chunk_samples(config),
            notes=notes,
            fingerprints=splits.fingerprints,
            skipped_rows=[{"file": row.file, "line": row.line, "reason": row.reason} for row in splits.skipped],
        )

    def predict(
        self,
        config: LongRangeConfig,
        model: nn.Module,
        runtime: Runtime,
        rows: Sequence[Mapping[str, Any]],
        home: Path | None = None,
    ) -> list[dict[str, Any]]:
        """Return for each row (see `asked.read_rows`) its predicted class and the classes' probabilities.

        Raises DataError for a row that is not of the task, UsageError for a model that does not classify.
        """
        if not isinstance(model, LongRangeClassifier):
            raise UsageError(
                "this run denoises, it has no classes to predict: name a run with objective classification"
            )
        examples = read_rows(config.task, rows, usual_length(config) if config.task in PICTURES else None)
        if not len(examples):
            return []
        longest = config.encoder.max_seq_len
        assert longest is not None
        if cut := int((examples.lengths > longest).sum()):
            log.warning("%d of %d rows are cut to encoder.max_seq_len (%d)", cut, len(examples), longest)
        source = SequenceSource(examples, longest)
        probabilities = predict_classes(
            model, source, runtime, config.update.batch_size, collate_of(config, evaluation=True)
        )[1]
        return [
            {"prediction": int(row.argmax()), "probabilities": [round(float(p), 6) for p in row]}
            for row in torch.from_numpy(probabilities)
        ]


def collate_of(config: LongRangeConfig, evaluation: bool = False) -> Collate:
    """Return what makes batches of a decided config, for training or for evaluation."""
    encoder = config.encoder
    form: Collate = collate
    if config.objective == "denoising":
        form = Masking(config.pretraining.mask_share, mask_token(config))
    if encoder.position_sampling == "none":
        return form
    assert encoder.position_range is not None
    how = encoder.position_evaluation if evaluation else "random"
    return Numbering(form, encoder.position_range, encoder.position_sampling == "float", how)


def _evaluator(config: LongRangeConfig, split: str, splits: Splits) -> ClassificationEvaluator | DenoisingEvaluator:
    longest = config.encoder.max_seq_len
    assert longest is not None
    examples = splits.of(split)
    form = collate_of(config, evaluation=True)
    if config.objective == "denoising":
        return DenoisingEvaluator(split, SingleSource(examples, longest), form)
    return ClassificationEvaluator(config.task, split, SequenceSource(examples, longest), splits.train, form)


RECIPE = LongRange()
