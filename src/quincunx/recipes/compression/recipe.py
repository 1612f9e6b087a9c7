"""The compression recipe: from a config to everything that the engine trains and evaluates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quincunx.config.schema import Sizes
from quincunx.data.batch import Batch
from quincunx.engine.experiment import Evaluator, Experiment, Parts
from quincunx.engine.runtime import Runtime
from quincunx.recipes.compression import assemble
from quincunx.recipes.compression.answers.predict import predict
from quincunx.recipes.compression.config import CompressionConfig
from quincunx.recipes.compression.evaluate.make import evaluator_of
from quincunx.recipes.compression.kinds import compresses, generated, lengths, slots, weights
from quincunx.recipes.compression.looking.inspect import Inspection, inspect
from quincunx.recipes.compression.measured import metrics_of
from quincunx.recipes.compression.objective import Prediction
from quincunx.recipes.compression.shapes import training_shaping
from quincunx.recipes.compression.shaping import Item, Shaping
from quincunx.recipes.compression.sources import Items, read
from quincunx.recipes.compression.unread import unread


@dataclass(frozen=True)
class Compression:
    """The recipe's functions; the table in `quincunx.recipes` leads here."""

    def decide(self, config: CompressionConfig) -> tuple[CompressionConfig, list[str]]:
        """Return the config with what it leaves open decided, and sentences on what may surprise."""
        notes: list[str] = []
        if not compresses(config) and generated(config) is None:
            notes.append("no data.context_length (cmp_len) is given: a plain language model, nothing is compressed")
        if config.model.path is None:
            sizes = config.model.build
            notes.append(
                f"the model is built from nothing: {sizes.architecture}, {sizes.num_layers} layers of {sizes.width}"
            )
            notes += _yardsticks(config)
        numbers = slots(config)
        if numbers:
            most = max(numbers)
            chosen = most if len(set(numbers)) == 1 else list(numbers)
            if config.compress.slots is None:
                notes.append(f"no compress.slots given: {most}, for {lengths(config)[0]} tokens of context")
            config = config.model_copy(update={"compress": config.compress.model_copy(update={"slots": chosen})})
        return config, notes

    def prelude(self, config: CompressionConfig) -> dict[str, Any] | None:
        """Return None: no run comes before this one."""
        return None

    def chunk_samples(self, config: CompressionConfig) -> int | None:
        """Return None: only `chunking` limits a chunk."""
        return None

    def parts(self, config: CompressionConfig, home: Path | None = None) -> Parts:
        """Return model and objective of a decided config; `home` is the run folder whose model it is to have."""
        if home is not None:
            model, _ = assemble.make_model(config, assemble.again(home, config))
            return Parts(model, _objective(config))
        return self.build(config).parts

    def shapes(self, config: CompressionConfig) -> Parts:
        """Return model and objective of a decided config without weights: to be called on the meta device."""
        model, notes = unread(config)
        return Parts(model, _objective(config), notes=notes)

    def build(
        self,
        config: CompressionConfig,
        explicit: Collection[str] = (),
        on_progress: Callable[[int, int], None] | None = None,
        home: Path | None = None,
    ) -> Experiment:
        """Return the experiment of a decided config, reading its data; `home` is as in `parts`."""
        language = assemble.again(home, config) if home is not None else assemble.pretrained(config)
        found = read(config, None if language is None else language.tokenizer, on_progress)
        train = found.splits["train"]
        most = max(
            assemble.longest_sequence(config, int(split.lengths.max())) for split in found.splits.values() if len(split)
        )
        config, said = assemble.numbered(config, found.splits)
        notes = [*found.notes, *said]
        if language is None:
            places = max(most, config.positions.size or 0)
            language = assemble.built(config, found.tokenizer, places)
        assemble.check_room(config, language.backbone, most)
        model, said = assemble.make_model(config, language)
        shaping = training_shaping(config, found)
        dev = evaluator_of(config, "dev", found, model)
        others = {name: evaluator_of(config, name, found, model) for name in ("test", *found.further)}
        evaluators: dict[str, Evaluator] = {} if dev is None else {"dev": dev}
        final = {name: evaluator for name, evaluator in others.items() if evaluator is not None}
        metrics = metrics_of(config)
        sizes = Sizes(
            train=len(train),
            evaluation={name: len(split) for name, split in found.splits.items() if name != "train"},
            vocabulary=len(found.tokenizer),
            longest=most,
            mean_length=float(train.lengths.mean()),
        )
        return Experiment(
            config=config,
            parts=Parts(model, _objective(config), _sampler(train, shaping)),
            source=train,
            collate=shaping,
            sizes=sizes,
            evaluators=evaluators,
            final_evaluators=final,
            metric=metrics.main,
            goal=metrics.goal,
            metrics=[f"dev/{name}" for name in metrics.names] if evaluators else [],
            notes=[*notes, *said, *self._ratios(config)],
            fingerprints={"data": found.fingerprint},
            artefacts=language.files,
        )

    def inspect(self, config: CompressionConfig, batch: int = 0, rows: int = 2, split: str = "train") -> Inspection:
        """Return a logical batch in words; see `quincunx.recipes.compression.looking.inspect`."""
        return inspect(self.decide(config)[0], batch, rows, split)

    def predict(
        self,
        config: CompressionConfig,
        model: nn.Module,
        runtime: Runtime,
        rows: Sequence[Mapping[str, Any]],
        home: Path | None = None,
    ) -> list[dict[str, Any]]:
        """Return what a run's model says of rows; see `quincunx.recipes.compression.answers.predict`."""
        assert home is not None
        return predict(config, model, assemble.again(home, config).tokenizer, runtime, rows)

    def _ratios(self, config: CompressionConfig) -> list[str]:
        """Say what is compressed into what, and which texts are predicted."""
        if not compresses(config):
            return []
        context, forward = lengths(config)
        numbers = [number * config.compress.segments for number in slots(config)]
        ratios = ", ".join(f"{context / number:.3g}" for number in numbers)
        terms = ", ".join(f"{term} {weight:g}" for term, weight in weights(config).items())
        if generated(config) is not None:
            return [f"problems become {' or '.join(map(str, numbers))} tokens; objective: {terms}"]
        return [
            f"{context} tokens of context become {' or '.join(map(str, numbers))} ({ratios} to one), "
            f"{forward} are predicted; objective: {terms}"
        ]


def _objective(config: CompressionConfig) -> Prediction:
    chosen = config.objective
    return Prediction(weights(config), label_smoothing=chosen.label_smoothing, temperature=chosen.temperature)


def _sampler(train: Items, shaping: Shaping) -> Callable[[int, int | None], Batch]:
    """Return what makes a batch of so many examples, as long as the longest."""
    longest = train[int(train.lengths.argmax())]

    def sample(rows: int, length: int | None) -> Batch:
        one = longest
        if length is not None:
            cut = max(1, length)
            one = Item(longest.context[:cut], longest.text[:cut], min(longest.given, cut - 1), _cut(longest, cut))
        return shaping([one] * rows, range(rows), range(rows), 0)

    return sample


def _cut(item: Item, length: int) -> torch.Tensor | None:
    return None if item.answers is None else item.answers[:length]


RECIPE = Compression()


def _yardsticks(config: CompressionConfig) -> list[str]:
    """Return what to know where a built model learns the controls less than what is measured by them."""
    learnt = weights(config)
    without, full = learnt.get("without", 0.0), learnt.get("full", 0.0)
    measured = max(learnt.get("forward", 0.0), learnt.get("distillation", 0.0))
    if min(without, full) >= measured:
        return []
    return [
        f"the gap that compression closes is measured between controls that are trained less (objective.without "
        f"{without:g}, objective.full {full:g}) than what is measured (weight {measured:g}): shares are "
        "flattered; give all three the same weight to compare"
    ]
