"""The losses of which a text is said: masked words, answers, matching of text and picture, captions, regions.

Texts and targets are put as in VL-T5 (Cho et al., ICML 2021). A loss is a `Task` whose every row is drawn: which of
an example's texts, which words are hidden, whose text it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from quincunx.errors import DataError
from quincunx.recipes.vision_language.data.record import Example, Picture
from quincunx.recipes.vision_language.pretraining.masking import hide_by_markers, hide_by_mask, picks, spans
from quincunx.recipes.vision_language.pretraining.texts import CAPTIONS, QUESTIONS, Pool, texts_of
from quincunx.recipes.vision_language.tasks.asking import FALSE, TRUE, Asked, Task, Wording
from quincunx.recipes.vision_language.tasks.questions import Gqa, Vqa


@dataclass(frozen=True)
class Loss(Task):
    """One loss of pretraining; subclasses say which examples it fits, and how they are asked."""

    reads: ClassVar[int] = 128
    """More than a text of the usual data sets has: what is cut off could not be restored."""
    says: ClassVar[int] = 128
    needs: ClassVar[str] = "texts about pictures"
    """What a collection must have."""

    def fits(self, example: Example) -> bool:
        """Return whether an example can be learnt from."""
        return bool(texts_of(example))

    def learns(self, example: Example) -> bool:
        """Return whether an example can be learnt from."""
        return self.fits(example)

    def put(self, text: str, wording: Wording, pictures: Sequence[Picture]) -> str:
        """Return what is read: a text, its case as it is to be, with the loss's own words and of what was seen."""
        plain = replace(wording, task_prompts=True, lowercase=False)
        seen = self.text_of("", plain, pictures).removeprefix(self.words).strip()
        parts = [self.words, text, seen.lower() if wording.lowercase else seen]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Captioned(Loss):
    """Base of losses about one text of an example."""

    captions: bool = False
    """Take texts of the task `caption` alone."""
    questions: bool = False
    """Take questions too."""

    def fits(self, example: Example) -> bool:
        """Return whether an example has a text of a kind that is taken."""
        if self.captions and example.task != CAPTIONS:
            return False
        return (self.questions or example.task not in QUESTIONS) and bool(texts_of(example))

    def one(self, example: Example, wording: Wording, draw: np.random.Generator) -> str:
        """Return one of an example's texts, each as likely."""
        texts = texts_of(example, lowercase=wording.lowercase)
        if not texts:
            raise DataError(f"{example.task}, example {example.uid}: it has no text, which the loss {self.name} needs")
        return texts[int(draw.integers(len(texts)))]


@dataclass(frozen=True)
class Spans(Captioned):
    """Masked words, restored span by span: for backbones of T5's kind."""

    name: ClassVar[str] = "lm"
    words: ClassVar[str] = "span prediction:"
    needs: ClassVar[str] = "captions, or other sentences about pictures, of two words or more"

    rate: float = 0.15

    def fits(self, example: Example) -> bool:
        """Return whether every text leaves a word to be seen."""
        return super().fits(example) and all(" " in text for text in texts_of(example))

    def ask(
        self,
        example: Example,
        wording: Wording,
        pictures: Sequence[Picture] = (),
        row: int = 0,
        draw: np.random.Generator | None = None,
    ) -> Asked:
        """Return a text with words hidden, and what is hidden."""
        draw = drawn(draw)
        words = self.one(example, wording, draw).split()
        source, target = self.hide(words, spans(picks(len(words), self.rate, draw)), wording)
        return Asked(self.put(source, wording, pictures), target)

    def hide(self, words: Sequence[str], hidden: Sequence[tuple[int, int]], wording: Wording) -> tuple[str, str]:
        """Return what is read and what is to be said."""
        return hide_by_markers(words, hidden)


@dataclass(frozen=True)
class Denoise(Spans):
    """Masked words, restored by saying the whole text: for backbones of BART's kind."""

    words: ClassVar[str] = "denoise text:"

    def hide(self, words: Sequence[str], hidden: Sequence[tuple[int, int]], wording: Wording) -> tuple[str, str]:
        """Return what is read and what is to be said."""
        return hide_by_mask(words, hidden, wording.mask)


@dataclass(frozen=True)
class Answering(Loss):
    """Questions, each with one answer, drawn by its weight where there are several; all answers weigh the same."""

    name: ClassVar[str] = "qa"
    needs: ClassVar[str] = "questions (vqa, gqa) with answers"

    one_prefix: bool = False
    """All questions begin with `vqa:`, not with their task's name."""
    tasks: Mapping[str, Task] = field(default_factory=lambda: {"vqa": Vqa(), "gqa": Gqa()})

    def fits(self, example: Example) -> bool:
        """Return whether it is a question about a picture whose answer is known."""
        return example.task in self.tasks and bool(texts_of(example)) and self.tasks[example.task].learns(example)

    def ask(
        self,
        example: Example,
        wording: Wording,
        pictures: Sequence[Picture] = (),
        row: int = 0,
        draw: np.random.Generator | None = None,
    ) -> Asked:
        """Return a question with an answer."""
        task = self.tasks[example.task]
        own = replace(wording, task_prompts=not self.one_prefix, prompt=Vqa.words)
        asked = task.ask(example, own, pictures, row, drawn(draw))
        return Asked(asked.source, asked.target)


@dataclass(frozen=True)
class Matching(Captioned):
    """Whether a text belongs to the picture: half of the texts, by chance, are another picture's."""

    name: ClassVar[str] = "itm"
    words: ClassVar[str] = "image text match:"
    needs: ClassVar[str] = "texts of two pictures or more"

    pool: Pool = field(default_factory=lambda: Pool(()))
    """Where the others' texts come from."""

    def ask(
        self,
        example: Example,
        wording: Wording,
        pictures: Sequence[Picture] = (),
        row: int = 0,
        draw: np.random.Generator | None = None,
    ) -> Asked:
        """Return a text, its own or another's, with true or false; DataError where there is no other."""
        draw = drawn(draw)
        if draw.random() < 0.5:
            text, target = self.one(example, wording, draw), TRUE
        else:
            text, target = self.pool.another(example, draw), FALSE
            text = text.lower() if wording.lowercase else text
        return Asked(self.put(text, wording, pictures), target, choices=(TRUE, FALSE))


@dataclass(frozen=True)
class Captioning(Captioned):
    """A sentence about the picture."""

    name: ClassVar[str] = "caption"
    words: ClassVar[str] = "caption:"
    needs: ClassVar[str] = "captions, or other sentences about pictures"

    def ask(
        self,
        example: Example,
        wording: Wording,
        pictures: Sequence[Picture] = (),
        row: int = 0,
        draw: np.random.Generator | None = None,
    ) -> Asked:
        """Return the loss's words, with one of the example's texts to be said."""
        return Asked(self.put("", wording, pictures), self.one(example, wording, drawn(draw)))


def drawn(draw: np.random.Generator | None) -> np.random.Generator:
    """Return a generator: the one given, or one that is the same every time."""
    return np.random.Generator(np.random.Philox(0)) if draw is None else draw
