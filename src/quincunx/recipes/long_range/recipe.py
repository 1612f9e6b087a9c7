"""The long_range recipe: from a config to everything that the engine trains and evaluates."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from quincunx.config.schema import Sizes
from quincunx.data.batch import Batch
from quincunx.engine.experiment import Experiment, Parts
from quincunx.engine.runtime import Runtime
from quincunx.errors import DataError
from quincunx.recipes.long_range.config import LongRangeConfig
from quincunx.recipes.long_range.data import Examples, listops, load_splits
from quincunx.recipes.long_range.evaluate import SCALARS, ClassificationEvaluator, predict_classes
from quincunx.recipes.long_range.model import LongRangeClassifier
from quincunx.recipes.long_range.objective import Classification
from quincunx.recipes.long_range.source import SequenceSource, collate

log = logging.getLogger("quincunx")


@dataclass(frozen=True)
class LongRange:
    """The recipe's four functions; the table in `quincunx.recipes` leads here."""

    def decide(self, config: LongRangeConfig) -> tuple[LongRangeConfig, list[str]]:
        """Return the config with what it leaves open decided, and a sentence on each decision."""
        if config.attention.kind is not None:
            return config, []
        attention = config.attention.model_copy(update={"kind": "softmax"})
        return config.model_copy(update={"attention": attention}), ["no attention.kind given: softmax"]

    def parts(self, config: LongRangeConfig) -> Parts:
        """Return model and objective, freshly initialised from torch's default generator."""

        def sample(rows: int, length: int | None) -> Batch:
            length = min(length or config.encoder.max_seq_len, config.encoder.max_seq_len)
            return collate([(np.ones(length, np.uint8), 0)] * rows, range(rows), range(rows), 0)

        return Parts(LongRangeClassifier(config), Classification(), sample)

    def chunk_samples(self, config: LongRangeConfig) -> int | None:
        """Return the chunk limit of the chosen attention kind."""
        kind = config.attention.kind or "softmax"
        return getattr(config.chunking.samples_by_kind, kind.replace("-", "_"))

    def build(
        self,
        config: LongRangeConfig,
        explicit: Collection[str] = (),
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Experiment:
        """Return the experiment of a decided config, reading or generating its data.

        `explicit` are the dotted paths that somebody set: an explicit count must be there, a default one is a ceiling.
        """
        splits = load_splits(config.data, config.debug.limit, explicit=set(explicit), on_progress=on_progress)
        longest = config.encoder.max_seq_len
        source = SequenceSource(splits.train, longest)
        sizes = Sizes(
            train=len(splits.train),
            evaluation={"dev": len(splits.dev), "test": len(splits.test)},
            vocabulary=listops.VOCABULARY_SIZE,
            longest=int(splits.train.lengths.max()),
            mean_length=float(splits.train.lengths.mean()),
        )
        evaluators = {
            split: ClassificationEvaluator(split, SequenceSource(examples, longest), splits.train)
            for split, examples in (("dev", splits.dev), ("test", splits.test))
        }
        notes = list(splits.notes)
        model = self.parts(config)
        checkpointing = getattr(model.model, "checkpointing_note", lambda: None)()
        if checkpointing:
            notes.append(checkpointing)
        counts = {"train": len(splits.train), "dev": len(splits.dev), "test": len(splits.test)}
        return Experiment(
            config=config.model_copy(update={"data": config.data.model_copy(update=counts)}),
            parts=model,
            source=source,
            collate=collate,
            sizes=sizes,
            evaluators={"dev": evaluators["dev"]},
            final_evaluators={"test": evaluators["test"]},
            metric="dev/accuracy",
            goal="max",
            metrics=[f"dev/{name}" for name in SCALARS],
            chunk_samples=self.chunk_samples(config),
            notes=notes,
            fingerprints=splits.fingerprints,
            skipped_rows=[{"file": row.file, "line": row.line, "reason": row.reason} for row in splits.skipped],
        )

    def predict(
        self, config: LongRangeConfig, model: nn.Module, runtime: Runtime, rows: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return for each row `{"source": "[MAX 1 2 ]"}` its predicted class and the classes' probabilities.

        Raises DataError for a row without a source or with one that is not a ListOps expression.
        """
        sequences: list[bytes] = []
        for number, row in enumerate(rows, 1):
            text = row.get("source")
            if not isinstance(text, str):
                raise DataError(f'row {number}: expected a text under "source", found {text!r}')
            try:
                sequences.append(_checked(text))
            except ValueError as error:
                raise DataError(f"row {number}: {error}") from error
        if not sequences:
            return []
        longest = config.encoder.max_seq_len
        if cut := sum(len(tokens) > longest for tokens in sequences):
            log.warning("%d of %d expressions are cut to encoder.max_seq_len (%d)", cut, len(sequences), longest)
        source = SequenceSource(Examples.of(sequences, [0] * len(sequences)), longest)
        probabilities = predict_classes(model, source, runtime, config.update.batch_size)[1]
        return [
            {"prediction": int(row.argmax()), "probabilities": [round(float(p), 6) for p in row]}
            for row in torch.from_numpy(probabilities)
        ]


def _checked(text: str) -> bytes:
    """Return the tokens of a ListOps expression; ValueError when it is none."""
    tokens = listops.tokenize(text.encode("utf-8", "backslashreplace"))
    fault = listops.examine(np.frombuffer(tokens, np.uint8), np.array([0, len(tokens)])).faults[0]
    if fault != listops.SOUND:
        raise ValueError(f"not a ListOps expression: {listops.FAULTS[fault]}")
    return tokens


RECIPE = LongRange()
