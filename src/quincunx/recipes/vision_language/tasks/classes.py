"""What a picture shows, as one of a few classes whose words are said."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quincunx.metrics.measured import mean
from quincunx.metrics.record import Evaluation, Table
from quincunx.recipes.vision_language.data.record import Example, Picture
from quincunx.recipes.vision_language.tasks.asking import (
    Answered,
    Asked,
    Task,
    Wording,
    evaluation,
    right,
)


@dataclass(frozen=True)
class Classification(Task):
    """The class of a picture, said in words."""

    name: ClassVar[str] = "cls"
    words: ClassVar[str] = "cls:"

    def ask(
        self,
        example: Example,
        wording: Wording,
        pictures: Sequence[Picture] = (),
        row: int = 0,
        draw: np.random.Generator | None = None,
    ) -> Asked:
        """Return the words before a text, with the class."""
        target = self.target_of(example.answers[0].text, wording) if example.answers else None
        return Asked(self.text_of(example.text, wording, pictures), target)

    def measure(self, answers: Sequence[Answered]) -> Evaluation:
        """Return how many classes are said word for word, and how many whatever the case of letters; by class too."""
        names = [each.example.uid for each in answers]
        known = [right(each) for each in answers]
        exact = [each.text == true for each, true in zip(answers, known, strict=True)]
        folded = [_folded(each.text) == _folded(true) for each, true in zip(answers, known, strict=True)]
        groups: dict[str, list[bool]] = {}
        for true, hit in zip(known, folded, strict=True):
            groups.setdefault(true, []).append(hit)
        rows = [[name, len(hits), round(float(np.mean(hits)), 4)] for name, hits in sorted(groups.items())]
        table = Table("Accuracy by class", ["class", "pictures", "accuracy"], rows)
        return evaluation({"accuracy": mean(names, folded), "exact": mean(names, exact)}, answers, tables=[table])

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """Return a table of pictures and classes."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["uid", "picture", "class"])
        writer.writerows([each.example.uid, each.example.pictures[0], each.text] for each in answers)
        return "classes.csv", file.getvalue()


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
