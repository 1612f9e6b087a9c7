"""Questions about pictures: VQA v2 (Goyal et al. 2017), many people's answers; GQA (Hudson and Manning 2019), one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from quincunx.errors import DataError
from quincunx.metrics.measured import Measured
from quincunx.metrics.reasoning import GqaQuestion, gqa_scores
from quincunx.metrics.record import Evaluation, Table
from quincunx.metrics.vqa import Question, soft_accuracy, vqa_accuracy
from quincunx.metrics.vqa_words import normalised
from quincunx.recipes.vision_language.data.record import Example, Picture
from quincunx.recipes.vision_language.tasks.asking import (
    Answered,
    Asked,
    Task,
    Wording,
    evaluation,
    named,
    right,
    texts,
)


@dataclass(frozen=True)
class Vqa(Task):
    """A question with answers of several people, each right as far as people gave it."""

    name: ClassVar[str] = "vqa"
    words: ClassVar[str] = "vqa:"
    is_question: ClassVar[bool] = True

    one_voice: bool = False
    """Learn what one person said, each as likely as the others, with full weight."""
    normalize: bool = False
    """Bring what is learnt to the form in which answers are compared."""

    def learns(self, example: Example) -> bool:
        """Return whether there is an answer of some weight, or what each person said where that is learnt."""
        return bool(_voices(example)) if self.one_voice else any(answer.weight > 0 for answer in example.answers)

    def ask(
        self,
        example: Example,
        wording: Wording,
        pictures: Sequence[Picture] = (),
        row: int = 0,
        draw: np.random.Generator | None = None,
    ) -> Asked:
        """Return the question; in training with one answer, drawn by its weight, which its loss has too."""
        source = self.text_of(example.text, wording, pictures)
        if draw is None or not self.learns(example):
            return Asked(source)
        if self.one_voice:
            voices = _voices(example)
            text, weight = voices[int(draw.integers(len(voices)))], 1.0
        else:
            weights = np.array([answer.weight for answer in example.answers])
            chosen = example.answers[int(draw.choice(len(weights), p=weights / weights.sum()))]
            text, weight = chosen.text, chosen.weight
        if self.normalize:
            text = normalised(text, "fixed")
        return Asked(source, self.target_of(text, wording), weight)

    def measure(self, answers: Sequence[Answered]) -> Evaluation:
        """Return the accuracy against what people said, by types too; the soft score where only weights are known."""
        if all(_voices(each.example) for each in answers):
            questions = {
                uid: Question(
                    _voices(each.example),
                    str(each.example.more.get("question_type") or ""),
                    str(each.example.more.get("answer_type") or ""),
                )
                for uid, each in named(answers).items()
            }
            found = vqa_accuracy(questions, texts(answers))
            tables = [
                _table("Accuracy by type of answer", found.by_answer_type),
                _table("Accuracy by type of question", found.by_question_type),
            ]
            return evaluation({"accuracy": found.overall}, answers, tables=[table for table in tables if table.rows])
        weights = {
            uid: {normalised(answer.text, "fixed"): answer.weight for answer in each.example.answers}
            for uid, each in named(answers).items()
        }
        if unknown := next((uid for uid, known in weights.items() if not known), None):
            right(named(answers)[unknown])
        said = {uid: normalised(text, "fixed") for uid, text in texts(answers).items()}
        return evaluation({"accuracy": soft_accuracy(weights, said)}, answers)

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """Return the list of answers that the challenge takes."""
        rows = [{"question_id": _number(each.example.uid), "answer": each.text} for each in answers]
        return "vqa.json", json.dumps(rows)


@dataclass(frozen=True)
class Gqa(Task):
    """A question about a scene graph, with one answer."""

    name: ClassVar[str] = "gqa"
    words: ClassVar[str] = "gqa:"
    is_question: ClassVar[bool] = True

    def ask(
        self,
        example: Example,
        wording: Wording,
        pictures: Sequence[Picture] = (),
        row: int = 0,
        draw: np.random.Generator | None = None,
    ) -> Asked:
        """Return the question with its answer."""
        target = self.target_of(example.answers[0].text, wording) if example.answers else None
        return Asked(self.text_of(example.text, wording, pictures), target)

    def measure(self, answers: Sequence[Answered]) -> Evaluation:
        """Return how many answers are letter by letter the right one, by type; consistency where it can be told."""
        questions = {uid: _gqa(each) for uid, each in named(answers).items()}
        measures, by_type = gqa_scores(questions, texts(answers))
        table = _table("Accuracy by type of question", by_type)
        return evaluation(measures, answers, tables=[table] if table.rows else [])

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """Return the list of predictions that the challenge takes."""
        rows = [{"questionId": each.example.uid, "prediction": each.text} for each in answers]
        return "gqa.json", json.dumps(rows)


def _voices(example: Example) -> list[str]:
    return [str(text) for text in example.more.get("annotations") or ()]


def _gqa(answer: Answered) -> GqaQuestion:
    more = answer.example.more
    types = more.get("types")
    kind = types.get("structural", "") if isinstance(types, dict) else types or ""

    def listed(key: str) -> list[str] | None:
        value: Any = more.get(key)
        if value is None:
            return None
        if not isinstance(value, list):
            raise DataError(f"gqa, example {answer.example.uid}: {key} is {value!r}, expected a list of texts")
        return [str(each) for each in value]

    return GqaQuestion(right(answer), str(kind), listed("entailed") or (), listed("valid"), listed("plausible"))


def _number(uid: str) -> int | str:
    return int(uid) if uid.isdecimal() else uid


def _table(title: str, by: Any) -> Table:
    """Return the mean of each kind as a table."""
    rows = [
        [kind, len(found.names), round(found.value, 4)] for kind, found in by.items() if isinstance(found, Measured)
    ]
    return Table(title, ["type", "questions", "accuracy"], rows)
