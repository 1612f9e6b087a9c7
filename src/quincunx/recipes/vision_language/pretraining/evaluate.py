"""How well each loss of pretraining is met on the examples of a split, everything hidden and swapped as at any time.

The right words before a word are given to the decoder (teacher forcing). B rows, T words, K hidden regions of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from quincunx.config.plan import Plan
from quincunx.data.batch import Batch
from quincunx.engine.runtime import Runtime
from quincunx.metrics.record import Evaluation
from quincunx.nn.routing import routed
from quincunx.recipes.vision_language.asked_rows import AskedRows, Item
from quincunx.recipes.vision_language.pretraining.collate import PretrainingAsking
from quincunx.recipes.vision_language.pretraining.heads import region_counts, region_losses
from quincunx.recipes.vision_language.pretraining.measured import REGIONS
from quincunx.recipes.vision_language.pretraining.objective import (
    Passed,
    pass_through,
    right_regions,
    right_words,
    word_losses,
)


@dataclass
class Tally:
    """Sums of one loss over batches."""

    loss: float = 0.0
    right: float = 0.0
    count: float = 0.0
    """Words, or hidden regions."""
    exact: list[bool] = field(default_factory=list[bool])
    """Of each row, whether every word is right; empty for regions."""
    by_name: dict[str, float] = field(default_factory=dict[str, float])
    """The mean of each row's losses."""

    def scalars(self, name: str) -> dict[str, float]:
        """Return the means as `<name>/loss`, `/accuracy` and `/exact`."""
        found = {f"{name}/loss": self.loss / self.count}
        if name != "feat":
            found[f"{name}/accuracy"] = self.right / self.count
        if self.exact:
            found[f"{name}/exact"] = sum(self.exact) / len(self.exact)
        return found


@dataclass(frozen=True)
class PretrainingEvaluator:
    """Evaluates a model on the rows of one split.

    Args:
        rows: Of every loss.
        asking: Makes batches; what it draws is the same at every evaluation.
        limited: Whether `evaluate.max_batches` holds, for each loss.
    """

    rows: AskedRows
    asking: PretrainingAsking
    limited: bool = True

    def __call__(self, model: nn.Module, runtime: Runtime, plan: Plan) -> Evaluation:
        """Return for each loss its mean over words or hidden regions, the share of them that is right, and that of rows
        that are right to the end (`exact`); and `loss`, the mean of the losses."""
        scalars: dict[str, float] = {}
        values: dict[str, dict[str, float]] = {}
        for kind in dict.fromkeys(part.task.name for part in self.rows.parts):
            rows = replace(self.rows, parts=[part for part in self.rows.parts if part.task.name == kind])
            limit = plan.evaluation_limit if self.limited else None
            count = len(rows) if limit is None else min(len(rows), limit)
            tallies: dict[str, Tally] = {}
            for items, batch in batches(rows, count, self.asking.still, plan.evaluation_batch, runtime):
                with torch.no_grad(), runtime.autocast(), routed(model, batch["tasks"]):
                    passed = pass_through(model, batch)
                (_count_regions if kind == REGIONS else _count_words)(tallies, kind, items, passed, batch)
            for name, tally in tallies.items():
                if tally.count:
                    scalars |= tally.scalars(name)
                    values[f"{name}/loss"] = tally.by_name
        means = [value for name, value in scalars.items() if name.endswith("/loss")]
        return Evaluation({"loss": sum(means) / len(means), **scalars}, values=values)


def batches(
    rows: AskedRows, count: int, asking: PretrainingAsking, batch_size: int, runtime: Runtime
) -> Iterator[tuple[Sequence[Item], Batch]]:
    """Yield the first rows with their batches, drawn by the numbers of rows alone: whatever the size of batches."""
    for start in range(0, count, batch_size):
        numbers = range(start, min(start + batch_size, count))
        items = [rows[number] for number in numbers]
        yield items, asking(items, list(numbers), list(numbers), seed=0).to(runtime.device)


def _count_words(tallies: dict[str, Tally], kind: str, items: Sequence[Item], passed: Passed, batch: Batch) -> None:
    losses, said = word_losses(passed.logits, batch["labels"])
    right = right_words(passed.logits, batch["labels"])
    tally = tallies.setdefault(kind, Tally())
    tally.loss += float(losses.double().sum())
    tally.right += float(right.sum())
    tally.count += float(said.sum())
    tally.exact += (right | ~said).all(1).tolist()
    _name(tally, items, losses.sum(1) / said.sum(1).clamp(min=1))


def _count_regions(tallies: dict[str, Tally], kind: str, items: Sequence[Item], passed: Passed, batch: Batch) -> None:
    right, counts = right_regions(passed, batch), region_counts(batch)
    known = {"obj": "region_names", "attr": "region_attributes", "feat": "region_places"}
    for name, losses in region_losses(passed.regions, batch).items():
        tally = tallies.setdefault(name, Tally())
        tally.loss += float(losses.double().sum())
        tally.right += float(right[name].sum()) if name in right else 0.0
        tally.count += float(counts[name])
        each = (batch[known[name]] >= 0).sum(1)
        there = (each > 0).tolist()
        means = losses.sum(1) / each.clamp(min=1)
        _name(tally, [item for item, is_there in zip(items, there, strict=True) if is_there], means[each > 0])


def _name(tally: Tally, items: Sequence[Item], means: Tensor) -> None:
    for item, mean in zip(items, means.tolist(), strict=True):
        name, again = f"{item.example.task}/{item.example.uid}", 2
        while name in tally.by_name:  # several splits, or a picture that was asked about before
            name, again = f"{item.example.task}/{item.example.uid} {again}", again + 1
        tally.by_name[name] = mean
