"""Answers of labelled texts: of all answers that there are, the one that the model finds likeliest.

Each is scored after the compressed context, after none and after the whole one, by the same weights. N examples, A
answers, R rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from quincunx.config.plan import Plan
from quincunx.data.batch import Batch
from quincunx.engine.experiment import Evaluator
from quincunx.engine.runtime import Runtime
from quincunx.metrics.classification import confusion_counts
from quincunx.metrics.intervals import wilson
from quincunx.metrics.record import Evaluation, Table
from quincunx.recipes.compression.blotch import UNTRAINED
from quincunx.recipes.compression.evaluate.agreement import f1, matthews, spearman
from quincunx.recipes.compression.measured import OWN
from quincunx.recipes.compression.model.compressor import Compressor
from quincunx.recipes.compression.shaping import Shaping
from quincunx.recipes.compression.sources import Items

SEED = 0
"""Of positions that are drawn at evaluation: the same at every one."""
READ = {"forward": "compressed", "plain": "full", "without": "without", "full": "full"}
"""Branch -> how the context was read, in the table."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class LabelledEvaluator:
    """Evaluates a model on one split of labelled texts."""

    split: str
    source: Items
    """Made from examples that say how many of their last tokens are the answer, and which answer it is."""
    forced: Evaluator
    """Measures predictions after the right tokens."""
    shaping: Shaping
    """Of the branches that are scored; the first is the one that is asked about, the others are controls."""
    answers: Sequence[Tensor]
    """Token ids `[S]` of each answer, its end included, by label number."""
    words: Sequence[str]
    """What each says."""
    task: str
    """The source's name, which decides the further measure."""

    def __call__(self, model: nn.Module, runtime: Runtime, plan: Plan) -> Evaluation:
        """Return what teacher forcing finds, the accuracy of answers under each control, and the task's own measure."""
        found = self.forced(model, runtime, plan)
        count = len(self.source)
        if self.split == "dev" and plan.evaluation_limit is not None:
            count = min(count, plan.evaluation_limit)
        labels = np.array([self._example(number).label for number in range(count)], np.int64)
        scores = self.scores(model, runtime, count, plan.evaluation_batch)
        scalars: dict[str, float] = {}
        measures: dict[str, float] = {}
        rows: list[list[Any]] = []
        for place, (name, table) in enumerate(scores.items()):
            ending = f"_{name}" if place else ""
            right = wilson(int((table.argmax(1) == labels).sum()), count)
            scalars[f"answer_accuracy{ending}"] = right.value
            if not place:
                scalars |= {"answer_accuracy_low": right.low, "answer_accuracy_high": right.high}
            row = [READ[name], *(round(100 * share, 1) for share in (right.value, right.low, right.high))]
            if self.task in OWN:
                measures[f"{OWN[self.task]}{ending}"] = value = _measure(OWN[self.task], table, labels)
                row.append(round(100 * value, 1))
            rows.append(row)
        scalars["commonest_answer"] = float(np.bincount(labels).max() / count)
        columns = ["context", "right answers, %", "low", "high", *([OWN[self.task]] if self.task in OWN else [])]
        return replace(
            found,
            scalars={**found.scalars, **scalars, **measures},
            tables=[
                *found.tables,
                Table("Right answers, by how the context was read", columns, rows),
                self._chosen(next(iter(scores.values())), labels),
            ],
            notes=[*found.notes, self._said(scalars, measures, count)],
        )

    def scores(self, model: nn.Module, runtime: Runtime, count: int, size: int) -> dict[str, Scores]:
        """Return the log-probability of each answer of the first examples, `[N, A]`, for each branch of the shaping.

        Args:
            model: A `Compressor`, in eval mode.
            runtime: Where it is computed.
            count: Examples.
            size: Rows computed at once: an example is as many as there are answers.
        """
        compressor = cast("Compressor", model)
        made = {name: np.empty((count, len(self.answers))) for name in self.shaping.branches}
        order = np.argsort(self.source.lengths[:count], kind="stable").tolist()
        at_once = max(1, size // len(self.answers))
        for start in range(0, count, at_once):
            ids = order[start : start + at_once]
            batch = self._candidates(ids).to(runtime.device)
            with torch.no_grad(), runtime.autocast():
                states = compressor.states(batch, self.shaping.branches)
                for name in self.shaping.branches:
                    targets = batch[f"{name}_targets"]
                    trained = targets != UNTRAINED
                    logits = compressor.logits(states[name][trained]).float()
                    losses = functional.cross_entropy(logits, targets[trained], reduction="none").double()
                    totals = losses.new_zeros(len(targets)).index_add(0, trained.nonzero()[:, 0], losses)
                    made[name][ids] = -totals.view(len(ids), -1).cpu().numpy()
        return made

    def _candidates(self, ids: Sequence[int]) -> Batch:
        """Return examples with each of the answers in turn, of which the answer alone is to be predicted.

        All rows of an example are equally long, what follows a short answer being asked of nobody: so the same
        positions are drawn for them, and the answers are compared after the same context.
        """
        longest = max(len(answer) for answer in self.answers)
        items, extra = [], []
        for number in ids:
            item = self.source[number]
            asked = item.text[: len(item.text) - self._example(number).answer]
            for answer in self.answers:
                lacking = longest - len(answer)
                text = torch.cat([asked, answer.to(asked), answer[-1:].to(asked).expand(lacking)])
                items.append(item._replace(text=text, given=len(asked)))
                extra.append(lacking)
        rows = [number for number in ids for _ in self.answers]
        batch = self.shaping(items, rows, rows, SEED)
        tensors = dict(batch.tensors)
        for name in self.shaping.branches:
            targets = tensors[f"{name}_targets"]
            # the column before a token is the one that predicts it
            ends = batch.extents[f"{name}_targets"] - 1 - torch.tensor(extra)
            tensors[f"{name}_targets"] = targets.masked_fill(torch.arange(targets.shape[1]) >= ends[:, None], UNTRAINED)
        return replace(batch, tensors=tensors)

    def _example(self, number: int) -> Any:
        return self.source.source[number]

    def _chosen(self, scores: Scores, labels: NDArray[np.int64]) -> Table:
        counts = confusion_counts(labels, scores.argmax(1), len(self.answers))
        rows = [[word, *row] for word, row in zip(self.words, counts.tolist(), strict=True) if sum(row)]
        return Table("Chosen answers (columns) by the right one", ["right answer", *self.words], rows)

    def _said(self, scalars: dict[str, float], measures: dict[str, float], count: int) -> str:
        main, low, high = (100 * scalars[f"answer_accuracy{end}"] for end in ("", "_low", "_high"))
        text = f"{self.split}: {main:.1f} % [{low:.1f}, {high:.1f}] of {count:,} answers right"
        if "answer_accuracy_without" in scalars:
            without, full = (100 * scalars[f"answer_accuracy_{name}"] for name in ("without", "full"))
            text += f" after the compressed context, {without:.1f} % without it, {full:.1f} % after all of it"
        text += f"; the commonest answer alone {100 * scalars['commonest_answer']:.1f} %"
        first = next(iter(measures.items()), None)
        return text if first is None else f"{text}; {first[0]} {100 * first[1]:.1f}"


def _measure(name: str, scores: Scores, labels: NDArray[np.int64]) -> float:
    """Return a task's own measure of scores `[N, A]`; answer 1 is the positive one of two."""
    if name == "spearman":
        # grades are numbered by their size: their mean tells more than the likeliest one
        shares = np.exp(scores - scores.max(1, keepdims=True))
        return spearman(shares @ np.arange(scores.shape[1]) / shares.sum(1), labels.astype(np.float64))
    counts = confusion_counts(labels, scores.argmax(1), 2)
    return f1(counts) if name == "f1" else matthews(counts)
