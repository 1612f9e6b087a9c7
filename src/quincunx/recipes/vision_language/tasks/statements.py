"""Statements about pictures, judged true or false: NLVR (Suhr et al. 2017) and NLVR2 (Suhr et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quincunx.metrics.reasoning import statement_scores
from quincunx.metrics.record import Evaluation
from quincunx.recipes.vision_language.data.record import Example, Picture
from quincunx.recipes.vision_language.tasks.asking import (
    FALSE,
    TRUE,
    Answered,
    Asked,
    Found,
    Task,
    Wording,
    evaluation,
    named,
    right,
)


@dataclass(frozen=True)
class Nlvr(Task):
    """A statement about one picture, or a pair: the likelier of the words true and false."""

    name: ClassVar[str] = "nlvr"
    words: ClassVar[str] = "nlvr:"
    found: ClassVar[Found] = "chosen"
    says: ClassVar[int] = 4

    def ask(
        self,
        example: Example,
        wording: Wording,
        pictures: Sequence[Picture] = (),
        row: int = 0,
        draw: np.random.Generator | None = None,
    ) -> Asked:
        """Return the statement, with the two words of which one is chosen."""
        target = example.answers[0].text if example.answers else None
        return Asked(self.text_of(example.text, wording, pictures), target, choices=(TRUE, FALSE))

    def measure(self, answers: Sequence[Answered]) -> Evaluation:
        """Return accuracy, and consistency: the share of sentences that are judged rightly for all their pictures."""
        by_name = named(answers)
        truth = {uid: right(each) == TRUE for uid, each in by_name.items()}
        judged = {uid: each.text == TRUE for uid, each in by_name.items()}
        sentences = {uid: str(each.example.more["identifier"]) for uid, each in by_name.items()}
        return evaluation(statement_scores(truth, judged, sentences), answers)

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """Return the lines `identifier,True` or `identifier,False`."""
        rows = [f"{each.example.uid},{each.text == TRUE}" for each in answers]
        return "nlvr.csv", "\n".join(rows) + "\n"
