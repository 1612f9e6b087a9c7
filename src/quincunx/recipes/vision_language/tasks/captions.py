"""Captions of pictures (Chen et al. 2015), and translations of sentences about pictures (Elliott et al. 2016)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quincunx.metrics.caption import score_captions
from quincunx.metrics.record import Evaluation
from quincunx.metrics.translation import translation_scores
from quincunx.recipes.vision_language.data.record import Example, Picture
from quincunx.recipes.vision_language.tasks.asking import (
    Answered,
    Asked,
    By,
    Task,
    Wording,
    evaluation,
    named,
    right,
    texts,
)


@dataclass(frozen=True)
class Caption(Task):
    """A sentence that says what a picture shows; one of several references is learnt."""

    name: ClassVar[str] = "caption"
    words: ClassVar[str] = "caption:"
    by: ClassVar[By] = "tokens"
    reads: ClassVar[int] = 40
    says: ClassVar[int] = 40
    searches: ClassVar[bool] = True
    main: ClassVar[str] = "cider"

    def ask(
        self,
        example: Example,
        wording: Wording,
        pictures: Sequence[Picture] = (),
        row: int = 0,
        draw: np.random.Generator | None = None,
    ) -> Asked:
        """Return what a caption is asked for by; in training with one of the references, each as likely."""
        known = _references(example)
        target = None
        if known:
            target = self.target_of(known[0 if draw is None else int(draw.integers(len(known)))], wording)
        return Asked(self._source(example, wording, pictures), target)

    def learns(self, example: Example) -> bool:
        """Return whether there are references."""
        return bool(_references(example))

    def measure(self, answers: Sequence[Answered]) -> Evaluation:
        """Return BLEU, ROUGE-L, CIDEr and CIDEr-D, and METEOR-lite, CIDEr first."""
        known = {uid: _references(each.example) or [right(each)] for uid, each in named(answers).items()}
        measures = score_captions(known, texts(answers))
        return evaluation({self.main: measures[self.main], **measures}, answers)

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """Return the list of captions, by picture, that COCO's server takes."""
        rows = [
            {"image_id": int(name) if (name := each.example.pictures[0]).isdecimal() else name, "caption": each.text}
            for each in answers
        ]
        return "captions.json", json.dumps(rows)

    def _source(self, example: Example, wording: Wording, pictures: Sequence[Picture]) -> str:
        if wording.empty:
            return ""
        own = {"span": f"span prediction: {wording.span}", "denoise": f"denoise: {wording.mask}", "mask": wording.mask}
        if wording.caption is not None:
            return self.text_of(own[wording.caption], wording, pictures)
        if wording.task_prompts:
            return self.text_of(example.text, wording, pictures)
        return self.text_of(f"{wording.prompt} {example.text}", wording, pictures)


@dataclass(frozen=True)
class Translation(Task):
    """A sentence about a picture, in another language."""

    name: ClassVar[str] = "mmt"
    words: ClassVar[str] = "translate:"
    by: ClassVar[By] = "tokens"
    reads: ClassVar[int] = 40
    says: ClassVar[int] = 40
    searches: ClassVar[bool] = True
    main: ClassVar[str] = "bleu"

    def ask(
        self,
        example: Example,
        wording: Wording,
        pictures: Sequence[Picture] = (),
        row: int = 0,
        draw: np.random.Generator | None = None,
    ) -> Asked:
        """Return the sentence with its translation."""
        target = self.target_of(example.answers[0].text, wording) if example.answers else None
        return Asked(self.text_of(example.text, wording, pictures), target)

    def measure(self, answers: Sequence[Answered]) -> Evaluation:
        """Return BLEU and chrF."""
        for each in answers:
            right(each)
        known = {uid: [answer.text for answer in each.example.answers] for uid, each in named(answers).items()}
        return evaluation(translation_scores(known, texts(answers)), answers)

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """Return the translations, one a line."""
        return "translations.txt", "".join(f"{' '.join(each.text.split())}\n" for each in answers)


def _references(example: Example) -> list[str]:
    return [str(text) for text in example.more.get("references") or ()] or [answer.text for answer in example.answers]
