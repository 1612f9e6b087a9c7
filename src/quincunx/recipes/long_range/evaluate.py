"""Accuracy with its standard error, beside what one reaches without relating tokens; by class, operator, depth and
length too, because a mean hides where a model fails. For denoising, the share of masked tokens restored.

N examples, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from quincunx.config.plan import Plan
from quincunx.data.batch import Batch
from quincunx.data.loader import Collate, Source
from quincunx.engine.runtime import Runtime
from quincunx.metrics.classification import accuracy, accuracy_table, ranges
from quincunx.metrics.record import Evaluation, Table
from quincunx.recipes.long_range.baselines import BASELINES, WORDS
from quincunx.recipes.long_range.data import Examples
from quincunx.recipes.long_range.data.listops import language as listops
from quincunx.recipes.long_range.objective import classify, numbers
from quincunx.recipes.long_range.source import UNMASKED, SequenceSource, SingleSource, collate
from quincunx.recipes.long_range.tasks import TASKS
from quincunx.seeds import address

SAMPLES = 8
LENGTH_GROUPS = 4
SHOWN = 200
"""Characters of a text that a sample shows."""


@dataclass(frozen=True)
class ClassificationEvaluator:
    """Evaluates a classifier on one split."""

    task: str
    split: str
    source: SequenceSource
    train: Examples
    """What the baselines learn from."""
    form: Collate = collate
    """Makes batches of the source's examples."""
    _baselines: dict[int, dict[str, float]] = field(default_factory=dict)

    def __call__(self, model: nn.Module, runtime: Runtime, plan: Plan) -> Evaluation:
        """Return accuracy, loss, baselines, tables by class and length (ListOps: operator and depth), and samples."""
        source = self.source
        if self.split == "dev" and plan.evaluation_limit is not None and plan.evaluation_limit < len(source):
            source = SequenceSource(source.examples.take(plan.evaluation_limit), source.max_length)
        examples = source.examples
        losses, probabilities = predict_classes(model, source, runtime, plan.evaluation_batch, self.form)
        predicted = probabilities.argmax(1)
        correct = predicted == examples.labels
        score = accuracy(int(correct.sum()), len(correct))
        baselines = self._baselines_of(examples)
        scalars = {
            "accuracy": score.value,
            "accuracy_se": score.standard_error,
            "loss": float(losses.astype(np.float64).mean()),
            **baselines,
        }
        *others, best = baselines
        gap = 100 * (score.value - baselines[best])
        side = "above" if gap >= 0 else "below"
        said = ", ".join(f"{WORDS[name]} {100 * baselines[name]:.1f} %" for name in others)
        note = (
            f"{self.split} accuracy {100 * score.value:.1f} % (standard error {100 * score.standard_error:.1f}, "
            f"{len(correct):,} examples): {abs(gap):.1f} points {side} the {WORDS[best]} "
            f"({100 * baselines[best]:.1f} %), {said}"
        )
        return Evaluation(scalars, self._tables(examples, correct), self._samples(examples, predicted), [note])

    def _baselines_of(self, examples: Examples) -> dict[str, float]:
        known = self._baselines.get(len(examples))
        if known is None:
            known = {name: found(self.train, examples).value for name, found in BASELINES[self.task].items()}
            self._baselines[len(examples)] = known
        return known

    def _tables(self, examples: Examples, correct: NDArray[np.bool_]) -> list[Table]:
        tables: list[Table] = []
        if self.task == "listops":
            roots = listops.root_operators(examples.flat, examples.offsets)
            depths = listops.nesting_depths(examples.flat, examples.offsets)
            tables.append(accuracy_table("Accuracy by outermost operator", "operator", correct, roots, listops.ROOTS))
            tables.append(accuracy_table("Accuracy by depth", "depth", correct, depths))
        else:
            tables.append(accuracy_table("Accuracy by class", "class", correct, examples.labels.astype(np.int64)))
        lengths, names = ranges(examples.lengths, LENGTH_GROUPS)
        if len(names) > 1:
            tables.append(accuracy_table("Accuracy by length", "tokens", correct, lengths, names))
        return tables

    def _samples(self, examples: Examples, predicted: NDArray[np.int64]) -> list[dict[str, object]]:
        shortest = np.argsort(examples.lengths, kind="stable")[:SAMPLES]
        return [
            {
                **shown(self.task, examples, int(index)),
                "label": int(examples.labels[index]),
                "prediction": int(predicted[index]),
            }
            for index in shortest
        ]


def shown(task: str, examples: Examples, index: int) -> dict[str, Any]:
    """Return what a sample shows of an example: its expression or text, or its number where it is a picture."""
    if task == "listops":
        return {"source": listops.format_source(examples.symbols(index).tobytes())}
    if task in ("text", "retrieval"):
        names = ("text",) if examples.parts == 1 else ("text1", "text2")
        texts = (examples.symbols(index, part).tobytes().decode("utf-8", "replace") for part in range(examples.parts))
        return {name: text[:SHOWN] for name, text in zip(names, texts, strict=True)}
    return {"example": index}


def predict_classes(
    model: nn.Module, source: SequenceSource, runtime: Runtime, batch_size: int, form: Collate = collate
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each example's cross-entropy `[N]` and class probabilities `[N, classes]`, in the order of the source.

    Examples of like length are computed together; the model must be in eval mode.
    """
    order = np.argsort(source.lengths, kind="stable")
    losses: list[torch.Tensor] = []
    probabilities: list[torch.Tensor] = []
    for batch in _batches(source, form, order.tolist(), batch_size, runtime, seed=0):
        with torch.no_grad(), runtime.autocast():
            logits = classify(model, batch).float()
        losses.append(functional.cross_entropy(logits, batch["labels"], reduction="none").cpu())
        probabilities.append(torch.softmax(logits, -1).cpu())
    back = np.argsort(order)
    return torch.cat(losses).numpy()[back], torch.cat(probabilities).numpy()[back]


@dataclass(frozen=True)
class DenoisingEvaluator:
    """Evaluates a denoiser on one split: the same tokens are masked at every evaluation."""

    split: str
    source: SingleSource
    masking: Collate

    def __call__(self, model: nn.Module, runtime: Runtime, plan: Plan) -> Evaluation:
        """Return loss and accuracy over the masked tokens, and what always naming the most frequent one gives."""
        source = self.source
        order = np.argsort(source.lengths, kind="stable")
        if self.split == "dev" and plan.evaluation_limit is not None:
            order = order[order < plan.evaluation_limit]
        loss = right = total = 0.0
        counts = np.zeros(1, np.int64)
        for batch in _batches(
            source, self.masking, order.tolist(), plan.evaluation_batch, runtime, address(0, self.split)
        ):
            targets = batch["targets"]
            chosen = targets != UNMASKED
            with torch.no_grad(), runtime.autocast():
                logits = model(batch["tokens"], batch["lengths"], chosen, **numbers(batch)).float()
            wanted = targets[chosen]
            loss += float(functional.cross_entropy(logits, wanted, reduction="sum"))
            right += float((logits.argmax(-1) == wanted).sum())
            total += len(wanted)
            found = np.bincount(wanted.cpu().numpy(), minlength=len(counts))
            counts = found + np.pad(counts, (0, len(found) - len(counts)))
        score = accuracy(int(right), int(total))
        commonest = float(counts.max() / total)
        scalars = {
            "loss": loss / total,
            "accuracy": score.value,
            "accuracy_se": score.standard_error,
            "commonest_token": commonest,
        }
        note = (
            f"{self.split}: {100 * score.value:.1f} % of {int(total):,} masked tokens restored; always naming the "
            f"commonest gives {100 * commonest:.1f} %"
        )
        return Evaluation(scalars, notes=[note])


def _batches(
    source: Source, form: Collate, order: Sequence[int], size: int, runtime: Runtime, seed: int
) -> Iterator[Batch]:
    """Yield batches of the examples in this order, on the device; masks are addressed by example."""
    for start in range(0, len(order), size):
        ids = order[start : start + size]
        batch = form([source[i] for i in ids], ids, ids, seed)
        rows = torch.arange(len(ids))
        yield replace(batch, rows=rows).to(runtime.device)


def examples_of(task: str, sequences: Sequence[bytes], labels: Sequence[int]) -> Examples:
    """Return examples of a task from the symbols of their sequences."""
    first_id = 0 if task == "listops" else 1
    return Examples.of(sequences, labels, first_id=first_id, parts=TASKS[task].parts)
