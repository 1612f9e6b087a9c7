"""Accuracy with its standard error, beside what one reaches without reading the sequence: the majority class and the
best guess from the outermost operator. By operator, depth and length too, because a mean hides where a model fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from quincunx.config.plan import Plan
from quincunx.engine.runtime import Runtime
from quincunx.metrics.classification import accuracy, accuracy_table, ranges
from quincunx.metrics.record import Evaluation, Table
from quincunx.recipes.long_range.data import Examples, listops, majority_oracle, root_operator_oracle
from quincunx.recipes.long_range.source import SequenceSource, collate

SCALARS = ("accuracy", "accuracy_se", "loss", "majority_class", "root_operator_oracle")
"""What every evaluation measures."""
SAMPLES = 8
LENGTH_GROUPS = 4


@dataclass(frozen=True)
class ClassificationEvaluator:
    """Evaluates a classifier on one split."""

    split: str
    source: SequenceSource
    train: Examples
    """What the oracles learn from."""
    _oracles: dict[int, dict[str, float]] = field(default_factory=dict)

    def __call__(self, model: nn.Module, runtime: Runtime, plan: Plan) -> Evaluation:
        """Return accuracy, loss, oracles, tables by operator, depth and length, and a few samples."""
        source = self.source
        if self.split == "dev" and plan.evaluation_limit is not None and plan.evaluation_limit < len(source):
            source = SequenceSource(source.examples.take(plan.evaluation_limit), source.max_length)
        examples = source.examples
        losses, probabilities = predict_classes(model, source, runtime, plan.evaluation_batch)
        predicted = probabilities.argmax(1)
        correct = predicted == examples.labels
        score = accuracy(int(correct.sum()), len(correct))
        oracles = self._oracles_of(examples)
        best = oracles["root_operator_oracle"]
        gap = 100 * (score.value - best)
        scalars = {
            "accuracy": score.value,
            "accuracy_se": score.standard_error,
            "loss": float(losses.astype(np.float64).mean()),
            **oracles,
        }
        side = "above" if gap >= 0 else "below"
        note = (
            f"{self.split} accuracy {100 * score.value:.1f} % (standard error {100 * score.standard_error:.1f}, "
            f"{len(correct):,} examples): {abs(gap):.1f} points {side} the root-operator oracle ({100 * best:.1f} %), "
            f"majority class {100 * oracles['majority_class']:.1f} %"
        )
        return Evaluation(scalars, self._tables(examples, correct), self._samples(examples, predicted), [note])

    def _oracles_of(self, examples: Examples) -> dict[str, float]:
        known = self._oracles.get(len(examples))
        if known is None:
            known = {
                "majority_class": majority_oracle(self.train, examples).value,
                "root_operator_oracle": root_operator_oracle(self.train, examples).value,
            }
            self._oracles[len(examples)] = known
        return known

    def _tables(self, examples: Examples, correct: NDArray[np.bool_]) -> list[Table]:
        depths = examples.depths()
        lengths, names = ranges(examples.lengths, LENGTH_GROUPS)
        return [
            accuracy_table("Accuracy by outermost operator", "operator", correct, examples.roots(), listops.ROOTS),
            accuracy_table("Accuracy by depth", "depth", correct, depths),
            accuracy_table("Accuracy by length", "tokens", correct, lengths, names),
        ]

    def _samples(self, examples: Examples, predicted: NDArray[np.int64]) -> list[dict[str, object]]:
        shortest = np.argsort(examples.lengths, kind="stable")[:SAMPLES]
        return [
            {
                "source": listops.format_source(examples.tokens(int(i)).tobytes()),
                "label": int(examples.labels[i]),
                "prediction": int(predicted[i]),
            }
            for i in shortest
        ]


def predict_classes(
    model: nn.Module, source: SequenceSource, runtime: Runtime, batch_size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each example's cross-entropy `[N]` and class probabilities `[N, classes]`, in the order of the source.

    Examples of like length are computed together; the model must be in eval mode.
    """
    order = np.argsort(source.lengths, kind="stable")
    losses: list[torch.Tensor] = []
    probabilities: list[torch.Tensor] = []
    for start in range(0, len(order), batch_size):
        ids = order[start : start + batch_size].tolist()
        batch = collate([source[i] for i in ids], ids, range(len(ids)), 0).to(runtime.device)
        with torch.no_grad(), runtime.autocast():
            logits = model(batch["tokens"], batch["lengths"]).float()
        losses.append(functional.cross_entropy(logits, batch["labels"], reduction="none").cpu())
        probabilities.append(torch.softmax(logits, -1).cpu())
    back = np.argsort(order)
    return torch.cat(losses).numpy()[back], torch.cat(probabilities).numpy()[back]
