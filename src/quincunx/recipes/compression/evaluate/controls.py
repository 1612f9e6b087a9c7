"""What a compressed context is worth: the same text predicted without it, with it compressed, and with all of it, by
the same weights; and whether it can be told again.

N examples, P positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from quincunx.config.plan import Plan
from quincunx.data.loader import Source
from quincunx.engine.runtime import Runtime
from quincunx.metrics.intervals import Interval, wilson
from quincunx.metrics.language import Losses, gap_recovered, mean_of, perplexity
from quincunx.metrics.record import Evaluation, Table
from quincunx.recipes.compression.evaluate.batches import Found, predictions
from quincunx.recipes.compression.measured import PREDICTED
from quincunx.recipes.compression.shaping import Shaping

BANDS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Where the ranges of predicted positions begin, in the table by position."""
SEED = 0
"""Of positions that are drawn at evaluation: the same at every one."""


@dataclass(frozen=True)
class CompressionEvaluator:
    """Evaluates a compressor on one split."""

    split: str
    source: Source
    shaping: Callable[[int, Sequence[str]], Shaping]
    """(compressed tokens of a segment, branches) -> shaping without any blotching."""
    slots: Sequence[int]
    """Numbers of compressed tokens that are measured; the metrics without a number are of the last."""
    documents: Callable[[int], int]
    """Number of an example -> that of its document."""
    kept: Callable[[int], int]
    """Compressed tokens of a segment -> bytes that are kept of one context, where its own keys and values take
    `full_bytes` a token."""
    full_bytes: int
    segments: int = 1
    first: int = 8
    predicts: bool = True
    """Whether a text follows the context."""

    def __call__(self, model: nn.Module, runtime: Runtime, plan: Plan) -> Evaluation:
        """Return losses, the share of the gap that is recovered, by position and by number of compressed tokens."""
        limit = plan.evaluation_limit if self.split == "dev" else None
        scalars: dict[str, float] = {}
        rows: list[list[Any]] = []
        tables: list[Table] = []
        notes: list[str] = []
        controls: dict[str, Found] = {}
        for slots in self.slots:
            names = ("forward", "reconstruction") if self.predicts else ("reconstruction",)
            if slots == self.slots[-1] and self.predicts:
                names = (*PREDICTED, "reconstruction")
            found = predictions(
                model, self.source, self.shaping(slots, names), runtime, plan.evaluation_batch, SEED, limit
            )
            controls |= {name: each for name, each in found.items() if name in ("without", "full")}
            rows.append([slots, found])
        examples = len(rows[-1][1]["reconstruction"].loss)
        last: dict[str, Found] = rows[-1][1]
        scalars |= self._told_again(last["reconstruction"])
        context = self._context_lengths(examples)
        ratio = float(context.mean() / (self.slots[-1] * self.segments))
        scalars["effective_ratio"] = ratio
        scalars["cache_bytes_saved"] = float(context.mean() * self.full_bytes - self.kept(self.slots[-1]))
        if self.predicts:
            documents = np.array([self.documents(number) for number in range(examples)], np.int64)
            losses = Losses(controls["without"].loss, last["forward"].loss, controls["full"].loss, documents)
            more, said = self._gaps(losses, last["forward"])
            scalars = {**more, **scalars}
            notes.append(said)
            tables.append(self._by_position(losses))
            tables.append(self._by_slots(rows, controls, documents, context))
        else:
            scalars = {"loss": scalars["reconstruction_loss"], **scalars}
            exact = scalars["reconstruction_exact"]
            notes.append(
                f"{self.split}: {100 * exact:.1f} % of contexts told again exactly, "
                f"{100 * scalars['reconstruction_accuracy']:.1f} % of their tokens; {ratio:.3g} tokens into one"
            )
        return Evaluation(scalars, tables, notes=notes)

    def _context_lengths(self, examples: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([len(self.source[number].context) for number in range(examples)], np.float64)

    def _told_again(self, found: Found) -> dict[str, float]:
        whole = found.whole
        return {
            "reconstruction_loss": mean_of(found.loss),
            "reconstruction_accuracy": mean_of(found.right),
            "reconstruction_exact": float(whole.mean()),
            "reconstruction_exact_se": float(np.sqrt(whole.mean() * (1 - whole.mean()) / len(whole))),
        }

    def _gaps(self, losses: Losses, found: Found) -> tuple[dict[str, float], str]:
        low, compressed, high = (mean_of(table) for table in (losses.low, losses.compressed, losses.high))
        near = min(self.first, losses.low.shape[1])
        whole, first = gap_recovered(losses), gap_recovered(losses.first(near))
        scalars = {
            "loss": compressed,
            "perplexity": perplexity(compressed),
            "accuracy": mean_of(found.right),
            "accuracy_top5": mean_of(found.in_top),
            "loss_without": low,
            "loss_full": high,
            "gap_recovered": whole.value,
            "gap_recovered_first": first.value,
            "gap_recovered_first_low": first.low,
            "gap_recovered_first_high": first.high,
        }
        said = (
            f"{self.split}: loss {low:.3f} without context, {compressed:.3f} compressed, {high:.3f} with all of it; "
            f"gap recovered {_said(whole)}, over the first {near} positions {_said(first)}"
        )
        return {name: value for name, value in scalars.items() if np.isfinite(value)}, said

    def _by_position(self, losses: Losses) -> Table:
        longest = losses.low.shape[1]
        rows: list[list[Any]] = []
        for start, stop in zip(BANDS, (*BANDS[1:], longest), strict=True):
            if start >= longest:
                break
            band = losses.at(start, min(stop, longest))
            gap = gap_recovered(band)
            name = f"{start + 1}" if min(stop, longest) == start + 1 else f"{start + 1} to {min(stop, longest)}"
            means = [mean_of(table) for table in (band.low, band.compressed, band.high)]
            rows.append([name, *(round(mean, 4) for mean in means), *_percent(gap.value, gap.low, gap.high)])
        columns = ["position", "without", "compressed", "full", "gap recovered, %", "low", "high"]
        return Table("Loss by predicted position, and the share of the gap that is recovered", columns, rows)

    def _by_slots(
        self,
        rows: Sequence[Sequence[Any]],
        controls: dict[str, Found],
        documents: np.ndarray[Any, np.dtype[np.int64]],
        context: np.ndarray[Any, np.dtype[np.float64]],
    ) -> Table:
        made: list[list[Any]] = []
        for slots, found in rows:
            losses = Losses(controls["without"].loss, found["forward"].loss, controls["full"].loss, documents)
            gap, near = gap_recovered(losses), gap_recovered(losses.first(self.first))
            told = found["reconstruction"]
            exact = wilson(int(told.whole.sum()), len(told.whole))
            made.append(
                [
                    slots * self.segments,
                    round(float(context.mean() / (slots * self.segments)), 2),
                    round(mean_of(losses.compressed), 4),
                    *_percent(gap.value, near.value, near.low, near.high),
                    round(100 * mean_of(told.right), 1),
                    round(100 * exact.value, 1),
                    self.kept(slots),
                ]
            )
        columns = [
            "compressed tokens",
            "ratio",
            "loss",
            "gap recovered, %",
            f"first {self.first}, %",
            "low",
            "high",
            "tokens told again, %",
            "contexts told again, %",
            "bytes kept",
        ]
        return Table("By number of compressed tokens", columns, made)


def _said(gap: Interval) -> str:
    if not np.isfinite(gap.value):
        return "unknown (the context gives nothing)"
    if not np.isfinite(gap.low):
        return f"{100 * gap.value:.0f} % (the gap may be none)"
    return f"{100 * gap.value:.0f} % [{100 * gap.low:.0f}, {100 * gap.high:.0f}]"


def _percent(*shares: float) -> list[float | str]:
    return [round(100 * share, 1) if np.isfinite(share) else "-" for share in shares]
