"""Solutions written whole, token by token after their problems, and judged from their text alone.

The measures of teacher forcing, where each token follows the right ones before it, stand beside them. N examples, B of
them at once, P tokens of a prompt, T tokens that are generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.config.plan import Plan
from quincunx.data.batch import Batch
from quincunx.engine.experiment import Evaluator
from quincunx.engine.runtime import Runtime
from quincunx.metrics.intervals import wilson
from quincunx.metrics.record import Evaluation, Table
from quincunx.recipes.compression.answers.generate import generate
from quincunx.recipes.compression.data.arithmetic import ALPHABET, EOS_ID, PAD_ID, SEPARATOR_ID, Tally, judge, tally
from quincunx.recipes.compression.data.arithmetic.judge import STEP_KINDS, Verdict
from quincunx.recipes.compression.data.arithmetic.language import SEPARATOR
from quincunx.recipes.compression.model.compressor import Compressor
from quincunx.recipes.compression.model.layout import BRANCHES
from quincunx.recipes.compression.shaping import Item, Numbering, Shaping
from quincunx.recipes.compression.sources import Items

SEED = 0
"""Of positions that are drawn at evaluation: the same at every one."""
SAMPLES = 8
STRANGE = "?"
"""Stands for a generated token that is no symbol of the alphabet."""


@dataclass(frozen=True)
class ArithmeticEvaluator:
    """Evaluates a model on one split of arithmetic."""

    split: str
    source: Items
    forced: Evaluator
    """Measures predictions after the right tokens."""
    shaping: Shaping
    """Of one branch: `plain`, or `forward`, whose context, the problem, is compressed. Nothing is left out."""
    examples: int
    """Problems that are solved, the first of the split; 0: none."""
    most: int
    """Tokens that a solution may have, its end included."""
    room: int | None = None
    """Places that a sequence may have at most; None: any number."""
    intensity: float | None = None
    """Share of steps to leave out that the model is asked for; None: it knows no such question."""

    def __call__(self, model: nn.Module, runtime: Runtime, plan: Plan) -> Evaluation:
        """Return what teacher forcing finds, and the accuracy, soundness and length of written solutions."""
        found = self.forced(model, runtime, plan)
        count = min(self.examples, len(self.source))
        if self.split == "dev" and plan.evaluation_limit is not None:
            count = min(count, plan.evaluation_limit)
        if not count:
            return found
        texts = self.solve(model, runtime, count, plan.evaluation_batch)
        verdicts = [judge(text) for text in texts]
        references = [judge(_text(self.source[number])) for number in range(count)]
        summed, wanted = tally(verdicts), tally(references)
        right = wilson(sum(verdict.correct for verdict in verdicts), count)
        scalars = {
            "answer_accuracy": right.value,
            "answer_accuracy_low": right.low,
            "answer_accuracy_high": right.high,
            "soundness": summed.soundness,
            "finished": summed.finished,
            "solution_tokens": summed.length,
            "solution_steps": summed.steps,
            "reference_tokens": wanted.length,
            "reference_steps": wanted.steps,
        }
        asked = "" if self.intensity is None else f", asked to leave out {100 * self.intensity:.3g} % of steps"
        note = (
            f"{self.split}: {100 * right.value:.1f} % [{100 * right.low:.1f}, {100 * right.high:.1f}] of {count:,} "
            f"problems solved{asked}, {100 * summed.soundness:.1f} % with every step right; {summed.length:.1f} tokens "
            f"and {summed.steps:.1f} steps a solution, step by step {wanted.length:.1f} and {wanted.steps:.1f}"
        )
        return replace(
            found,
            scalars={**found.scalars, **scalars},
            tables=[*found.tables, _lengths(verdicts, references), _kinds(summed, wanted)],
            samples=[*found.samples, *_samples(verdicts, references, texts)],
            notes=[*found.notes, note],
        )

    def solve(self, model: nn.Module, runtime: Runtime, count: int, size: int) -> list[str]:
        """Return `problem=solution` for the first so many problems, with the end where it was written.

        Greedy. What is written after a problem does not depend on the problems that are solved beside it.

        Args:
            model: A `Compressor`, in eval mode.
            runtime: Where it is computed.
            count: Problems.
            size: Problems that are solved at once.
        """
        items = [self.source[number] for number in range(count)]
        # long solutions beside long ones: a batch goes on until its last one has ended
        order = np.argsort([len(item.text) for item in items], kind="stable").tolist()
        texts = [""] * count
        for start in range(0, count, size):
            ids = order[start : start + size]
            for number, solution in zip(ids, self._solutions(model, runtime, items, ids), strict=True):
                texts[number] = _text(items[number]).partition(SEPARATOR)[0] + SEPARATOR + solution
        return texts

    def _solutions(self, model: nn.Module, runtime: Runtime, items: Sequence[Item], ids: Sequence[int]) -> list[str]:
        compressor, name = cast("Compressor", model), self.shaping.branches[0]
        begun = [_begun(items[number]) for number in ids]
        most = self._most(begun, ids)
        batch = self._shaped(begun, ids, most).to(runtime.device)
        seen = batch[f"{name}_seen"].sum(1) - most.to(runtime.device)
        places = torch.arange(int(seen.max()), device=runtime.device) < seen[:, None]
        prompt = batch[f"{name}_tokens"][:, : places.shape[1]].masked_fill(~places, PAD_ID)
        longest = max(1, int(most.max()))
        positions = batch[f"{name}_positions"]
        lacking = int(BRANCHES[name].start is not None) + prompt.shape[1] + longest - positions.shape[1]
        if lacking > 0:  # nothing of a row is read there: it is cut before
            positions = torch.cat([positions, positions[:, -1:].expand(-1, lacking)], 1)
        with torch.no_grad(), runtime.autocast():
            written = generate(
                compressor,
                compressor.compress(batch) if BRANCHES[name].sees == "compressed" else None,
                most=longest,
                branch=name,
                prompt=prompt,
                prompt_seen=places,
                positions=positions,
                end=EOS_ID,
                padding=PAD_ID,
            )
        rows = zip(written.tokens.cpu(), written.lengths.tolist(), written.ended.tolist(), most.tolist(), strict=True)
        return [_solution(tokens, length, ended, limit) for tokens, length, ended, limit in rows]

    def _most(self, begun: Sequence[Item], ids: Sequence[int]) -> Tensor:
        """Return how many tokens each row may get, `[B]`: as many as there are places for, whatever its batch is."""
        most = torch.full((len(begun),), self.most)
        if self.room is None:
            return most
        counted = replace(self.shaping, numbering=Numbering())
        ranks = counted(begun, ids, ids, SEED)[f"{self.shaping.branches[0]}_positions"]
        return most.minimum(self.room - 1 - ranks.amax(1)).clamp(min=0)

    def _shaped(self, begun: Sequence[Item], ids: Sequence[int], most: Tensor) -> Batch:
        """Return a batch of sequences as long as they may become, so that positions are drawn once and for all."""
        grown = [
            item._replace(text=functional.pad(item.text, (0, extra), value=PAD_ID))
            for item, extra in zip(begun, most.tolist(), strict=True)
        ]
        return self.shaping(grown, ids, ids, SEED)


def _begun(item: Item) -> Item:
    """Return an example up to its first separator."""
    upto = int((item.text == SEPARATOR_ID).nonzero()[0]) + 1
    return Item(item.context, item.text[:upto], upto)


def _text(item: Item) -> str:
    return ALPHABET.decode(torch.cat([item.context, item.text]).numpy())


def _solution(tokens: Tensor, length: int, ended: bool, limit: int) -> str:
    """Return what was written within a row's limit, with the end where there is one."""
    letters = [
        ALPHABET.symbols[token] if token < len(ALPHABET) else STRANGE for token in tokens[: min(length, limit)].tolist()
    ]
    return "".join(letters) + ALPHABET.eos * (ended and length < limit)


def _lengths(verdicts: Sequence[Verdict], references: Sequence[Verdict]) -> Table:
    rows: list[list[Any]] = []
    groups = (("all", (True, False)), ("right answer", (True,)), ("wrong answer", (False,)))
    for name, wanted in groups:
        pairs = [pair for pair in zip(verdicts, references, strict=True) if pair[0].correct in wanted]
        if pairs:
            sides = [tally(side) for side in zip(*pairs, strict=True)]
            rows.append([name, len(pairs), *(round(mean, 2) for side in sides for mean in (side.length, side.steps))])
    columns = ["solutions", "number", "tokens", "steps", "tokens, step by step", "steps, step by step"]
    return Table("How long solutions are, and those of the same problems step by step", columns, rows)


def _kinds(found: Tally, wanted: Tally) -> Table:
    rows = [
        [kind, steps, wrong, round(100 * wrong / steps, 1) if steps else "-", wanted.kinds[kind]]
        for kind in STEP_KINDS
        if (steps := found.kinds[kind]) + wanted.kinds[kind]
        for wrong in (found.failures[kind],)
    ]
    return Table("Steps by kind", ["kind", "steps", "wrong", "wrong, %", "step by step"], rows)


def _samples(
    verdicts: Sequence[Verdict], references: Sequence[Verdict], texts: Sequence[str]
) -> list[dict[str, object]]:
    shown = zip(verdicts[:SAMPLES], references, texts, strict=False)
    return [
        {
            "problem": verdict.problem,
            "solution": text.partition(SEPARATOR)[2],
            "step by step": SEPARATOR.join(step.statement for step in reference.steps) + ALPHABET.eos,
            "right": verdict.correct,
            "every step right": verdict.sound,
        }
        for verdict, reference, text in shown
    ]
