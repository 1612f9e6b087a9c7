"""Questions with four answers and four reasons to choose from: VCR (Zellers et al. 2019).

Each answer, and each reason for the right answer, is a row of its own that is judged true or false.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quincunx.errors import DataError
from quincunx.metrics.reasoning import vcr_scores
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
)

CHOICES = 4


@dataclass(frozen=True)
class Vcr(Task):
    """A question's answers, and the reasons for the right one, each judged for itself."""

    name: ClassVar[str] = "vcr"
    words: ClassVar[str] = "vcr"
    found: ClassVar[Found] = "judged"
    reads: ClassVar[int] = 100
    says: ClassVar[int] = 4
    main: ClassVar[str] = "both"

    def rows(self, example: Example) -> int:
        """Return 4, or 8 where there are reasons too."""
        return CHOICES * (1 + ("rationales" in example.more))

    def learns(self, example: Example) -> bool:
        """Return whether the right answer is known, and the right reason where there are reasons."""
        return "label" in example.more and ("rationales" not in example.more or "rationale_label" in example.more)

    def ask(
        self,
        example: Example,
        wording: Wording,
        pictures: Sequence[Picture] = (),
        row: int = 0,
        draw: np.random.Generator | None = None,
    ) -> Asked:
        """Return row 0 to 3, an answer, or 4 to 7, a reason for the right answer, with true or false."""
        more, number = example.more, row % CHOICES
        if row < CHOICES:
            text = f"question: {example.text} answer: {more['choices'][number]}"
            label, kind = more.get("label"), "qa:"
        else:
            answer = more["choices"][more["label"]] if "label" in more else ""
            text = f"question: {example.text} answer: {answer} rationale: {more['rationales'][number]}"
            label, kind = more.get("rationale_label"), "qar:"
        words = f"{kind} {text}" if wording.task_prompts else text
        target = None if label is None else TRUE if label == number else FALSE
        return Asked(self.text_of(words, wording, pictures), target, choices=(TRUE, FALSE))

    def measure(self, answers: Sequence[Answered]) -> Evaluation:
        """Return the accuracies of answers (`answer`, Q->A), of reasons given the right answer (`rationale`, QA->R) and
        of the two together (`both`, Q->AR), which is the first where there are no reasons."""
        truth: dict[str, tuple[int, int]] = {}
        found: dict[str, tuple[int, int]] = {}
        for uid, each in named(answers).items():
            more = each.example.more
            if not self.learns(each.example) or len(each.scores) != self.rows(each.example):
                raise DataError(f"vcr, example {uid}: it needs label, and rationale_label where there are rationales")
            groups = np.array(each.scores).reshape(-1, CHOICES)
            chosen = [int(group.argmax()) for group in groups]
            truth[uid] = (int(more["label"]), int(more["rationale_label"]) if len(chosen) > 1 else 0)
            found[uid] = (chosen[0], chosen[1] if len(chosen) > 1 else 0)
        measures = vcr_scores(truth, found)
        if all(len(each.scores) == CHOICES for each in answers):
            del measures["rationale"]
        return evaluation({self.main: measures[self.main], **measures}, answers)

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """Return the probabilities of answers and reasons, one question a line."""
        head = [f"answer_{i}" for i in range(CHOICES)] + [f"rationale_{i}" for i in range(CHOICES)]
        lines = [",".join(["annot_id", *head])]
        for each in answers:
            groups = np.array(each.scores).reshape(-1, CHOICES)
            shares = np.exp(groups - groups.max(1, keepdims=True))
            shares /= shares.sum(1, keepdims=True)
            values = [f"{value:.6f}" for value in shares.reshape(-1)]
            lines.append(",".join([each.example.uid, *values]))
        return "vcr.csv", "\n".join(lines) + "\n"
