"""Answers of a model to the examples of a split, task by task, and what they are worth.

B rows, V vocabulary, C words to choose from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from quincunx.config.plan import Plan
from quincunx.data.batch import Batch
from quincunx.engine.runtime import Runtime
from quincunx.metrics.record import Evaluation, Table
from quincunx.nn.routing import routed
from quincunx.recipes.vision_language.asked_rows import AskedRows, Item, Part
from quincunx.recipes.vision_language.collate import Asking, region_number
from quincunx.recipes.vision_language.model.heads import first_state
from quincunx.recipes.vision_language.objective import answer_scores, inputs_of, pointer_scores
from quincunx.recipes.vision_language.tasks import Answered
from quincunx.recipes.vision_language.tasks.asking import FALSE, SAMPLES, TRUE, sample


@dataclass(frozen=True)
class Speech:
    """How answers are generated."""

    beams: int = 1
    everywhere: bool = False
    """Search with beams in every task, not in captions and translations alone."""
    max_length: int = 20
    """Tokens of an answer, at most; of captions and translations at least what their task says."""


@dataclass(frozen=True)
class TaskEvaluator:
    """Evaluates a model on the examples of one split."""

    rows: AskedRows
    asking: Asking
    speech: Speech
    limited: bool = True
    """Whether `evaluate.max_batches` holds."""
    submits: str | None = None
    """Folder, under `submissions`, of the files that leaderboards take; None: none are made."""
    measures: bool = True
    """Whether it is known what is right; else it is only predicted."""

    def __call__(self, model: nn.Module, runtime: Runtime, plan: Plan) -> Evaluation:
        """Return every task's measures as `<task>/<measure>`, and `score`, the mean of the tasks' main ones."""
        scalars: dict[str, float] = {}
        tables: list[Table] = []
        samples: list[Mapping[str, object]] = []
        notes: list[str] = []
        values: dict[str, Mapping[str, float]] = {}
        mains: list[float] = []
        files: dict[str, str] = {}
        for name, parts in by_task(self.rows.parts).items():
            rows = replace(self.rows, parts=first(parts, plan.evaluation_limit if self.limited else None))
            answers = answer_all(model, rows, self.asking, self.speech, runtime, plan.evaluation_batch)
            task = parts[0].task
            if self.submits is not None:
                place, text = task.submission(answers)
                files[f"submissions/{self.submits}/{place}"] = text
            if not self.measures:
                scalars[f"{name}/predicted"] = float(len(answers))
                samples += [{"task": name, **sample(answer)} for answer in answers[:SAMPLES]]
                continue
            found = task.measure(apart(answers, rows.parts))
            scalars |= {f"{name}/{measure}": value for measure, value in found.scalars.items()}
            values |= {f"{name}/{measure}": each for measure, each in found.values.items()}
            tables += [replace(table, title=f"{name}: {table.title}") for table in found.tables]
            samples += [{"task": name, **each} for each in found.samples]
            notes += [f"{name}: {note}" for note in found.notes]
            mains.append(found.scalars[task.main])
        if mains:
            scalars = {"score": sum(mains) / len(mains), **scalars}
        more: dict[str, Any] = {"files": files} if files else {}
        return Evaluation(scalars, tables, samples, notes, values, **more)


def by_task(parts: Sequence[Part]) -> dict[str, list[Part]]:
    """Return the parts of each task: the splits that are measured as one."""
    found: dict[str, list[Part]] = {}
    for part in parts:
        found.setdefault(part.task.name, []).append(part)
    return found


def first(parts: Sequence[Part], limit: int | None) -> list[Part]:
    """Return parts with no more than their first examples, counted over all of them."""
    if limit is None:
        return list(parts)
    kept: list[Part] = []
    for part in parts:
        if limit > 0:
            kept.append(replace(part, chosen=part.chosen[:limit]))
            limit -= len(part.chosen)
    return kept


def apart(answers: Sequence[Answered], parts: Sequence[Part]) -> list[Answered]:
    """Return answers by names that are one example's alone: where splits share some, each is called by its split."""
    if len({answer.example.uid for answer in answers}) == len(answers):
        return list(answers)
    splits = [part.examples.path.stem for part in parts for _ in part.chosen]
    return [
        replace(answer, example=replace(answer.example, uid=f"{split}/{answer.example.uid}"))
        for answer, split in zip(answers, splits, strict=True)
    ]


def answer_all(
    model: nn.Module, rows: AskedRows, asking: Asking, speech: Speech, runtime: Runtime, batch_size: int
) -> list[Answered]:
    """Return the answers to all rows of one task, in order; the model must be in eval mode."""
    answered: list[Answered] = []
    for items, batch in _batches(rows, asking, batch_size, runtime):
        with torch.no_grad(), runtime.autocast(), routed(model, batch["tasks"]):
            texts, scores = say(model, items, batch, asking, speech)
        for item, text, score in zip(items, texts, scores, strict=True):
            picture = item.pictures[0] if item.pictures else None
            if item.row:
                answered[-1] = replace(answered[-1], scores=(*answered[-1].scores, score))
            else:
                answered.append(Answered(item.example, text, (score,), picture))
    return answered


def say(
    model: nn.Module, items: Sequence[Item], batch: Batch, asking: Asking, speech: Speech
) -> tuple[list[str], list[float]]:
    """Return what the model says to each row of a batch of one task, and by how much it says rather true than false."""
    task = items[0].task
    texts, written = asking.texts, inputs_of(batch)
    none = [0.0] * len(items)
    if asking.answers:
        known = [*asking.answers]
        return [known[number] for number in answer_scores(model, batch).argmax(1).tolist()], none
    if task.found == "generated":
        beams = speech.beams if task.searches or speech.everywhere else 1
        least = task.says if task.searches else 1
        longest = max(least, speech.max_length) + 1 + len(texts.before)
        model_: nn.Module = model
        ids: Tensor = model_.generate(written, num_beams=beams, max_length=longest)  # pyright: ignore[reportCallIssue]
        return [texts.text(row) for row in ids.tolist()], none
    if asking.points and task.name == "refcoco":
        encoded = model.encode(**written)  # pyright: ignore[reportCallIssue]
        pointed = pointer_scores(model, encoded, batch, first_state(model, encoded, batch["input_ids"]))
        return [_likeliest(item, asking, row, region_number) for item, row in zip(items, pointed, strict=True)], none
    start = int(model.config.decoder_start_token_id)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    given = torch.tensor([[start, *texts.before]], device=batch["input_ids"].device).expand(len(batch), -1)
    logits: Tensor = model(**written, decoder_input_ids=given)[:, -1].float()
    if task.found == "judged":
        gap = logits[:, texts.word(TRUE)] - logits[:, texts.word(FALSE)]
        return [""] * len(items), gap.tolist()
    return [_likeliest(item, asking, row, texts.word) for item, row in zip(items, logits, strict=True)], none


def _likeliest(item: Item, asking: Asking, scores: Tensor, place: Callable[[str], int]) -> str:
    """Return the choice of a row whose place among the scores has the highest."""
    choices = item.task.ask(item.example, asking.wording, item.pictures).choices
    places = torch.tensor([place(choice) for choice in choices], device=scores.device)
    return choices[int(scores[places].argmax())]


def _batches(rows: AskedRows, asking: Asking, batch_size: int, runtime: Runtime) -> Iterator[tuple[list[Item], Batch]]:
    for start in range(0, len(rows), batch_size):
        numbers = range(start, min(start + batch_size, len(rows)))
        items = [rows[number] for number in numbers]
        yield items, asking(items, list(numbers), range(len(items)), seed=0).to(runtime.device)
