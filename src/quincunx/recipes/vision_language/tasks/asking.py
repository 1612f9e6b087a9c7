"""How an example is put to a model: what it reads, what it is to say, and how what it says is found.

A task is one small class: its text, its target, how its loss is averaged, how its answers are found and measured, and
the file that its leaderboard takes. All random choices come from a generator that the caller has addressed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from quincunx.errors import DataError
from quincunx.metrics.record import Evaluation
from quincunx.recipes.vision_language.data.record import Example, Picture

By = Literal["examples", "tokens"]
"""What a loss is a mean over: examples, each by the mean of its tokens; or all tokens of the batch alike."""
Found = Literal["generated", "chosen", "judged"]
"""How an answer is found: generated word by word; the likeliest of a few words; by how much likelier `true` is than
`false`."""
TRUE, FALSE = "true", "false"
SAMPLES = 8
"""Answers that a report shows."""


@dataclass(frozen=True)
class Wording:
    """How texts are put, the same for all tasks."""

    task_prompts: bool = False
    """Begin with the task's own words."""
    prompt: str = "vqa: "
    """Before questions, and the whole text of a caption, where tasks have no words of their own."""
    post_prompt: str = ""
    """After questions."""
    caption: Literal["span", "denoise", "mask"] | None = None
    """What a caption is asked for by."""
    empty: bool = False
    """Captions are asked for by no text."""
    lowercase: bool = False
    tags: bool = False
    """Name what was seen, after the text."""
    mask: str = "<mask>"
    """The tokenizer's mask."""
    span: str = "<extra_id_0>"
    """The tokenizer's word for a masked span."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One row of a batch: what is read, and what is to be said."""

    source: str
    target: str | None = None
    """None where nothing is known to be right."""
    weight: float = 1.0
    """Of the row's loss."""
    choices: tuple[str, ...] = ()
    """Words of which one is chosen, each a single token."""
    order: tuple[int, ...] | None = None
    """Numbers of the picture's regions in the order in which they are shown; None: their own."""


@dataclass(frozen=True)
class Answered:
    """What a model made of an example."""

    example: Example
    text: str = ""
    """What was generated or chosen."""
    scores: tuple[float, ...] = ()
    """For rows that are judged: how much likelier `true` is than `false`, of each row."""
    picture: Picture | None = None
    """The first of the example's pictures."""


@dataclass(frozen=True)
class Task:
    """What one task is; subclasses say how an example is asked and answers are measured."""

    name: ClassVar[str]
    words: ClassVar[str] = ""
    """The task's own words before a text."""
    is_question: ClassVar[bool] = False
    """`prompt` and `post_prompt` go round its texts."""
    by: ClassVar[By] = "examples"
    found: ClassVar[Found] = "generated"
    reads: ClassVar[int] = 20
    """Tokens of a text that is read, at most."""
    says: ClassVar[int] = 20
    """Tokens of an answer, at most."""
    searches: ClassVar[bool] = False
    """Answers are searched for with beams."""
    main: ClassVar[str] = "accuracy"
    """The measure that stands for the task."""

    def rows(self, example: Example) -> int:
        """Return in how many rows of a batch an example is asked."""
        return 1

    def learns(self, example: Example) -> bool:
        """Return whether training can use an example: whether it is known what is right."""
        return bool(example.answers)

    def ask(
        self,
        example: Example,
        wording: Wording,
        pictures: Sequence[Picture] = (),
        row: int = 0,
        draw: np.random.Generator | None = None,
    ) -> Asked:
        """Return a row of an example.

        Args:
            example: Of this task.
            wording: How texts are put.
            pictures: The example's.
            row: Which of its rows.
            draw: Makes the random choices of training; None at evaluation, where there are none.
        """
        raise TypeError(f"{type(self).__name__} must define ask")

    def measure(self, answers: Sequence[Answered]) -> Evaluation:
        """Return what the answers are worth; DataError where some example does not say what is right."""
        raise TypeError(f"{type(self).__name__} must define measure")

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """Return the file that the task's leaderboard takes: its name and its text."""
        raise TypeError(f"{type(self).__name__} must define submission")

    def text_of(self, text: str, wording: Wording, pictures: Sequence[Picture] = ()) -> str:
        """Return what is read: a text with the words before it, after it, and of what was seen."""
        parts = [self._before(wording), text, wording.post_prompt if self.is_question else ""]
        if wording.tags:
            names = dict.fromkeys(region.name for picture in pictures for region in picture.regions if region.name)
            parts.append(f"tags: {' '.join(names)}" if names else "")
        found = " ".join(part.strip() for part in parts if part.strip())
        if not wording.lowercase:
            return found
        # the tokenizer's own words stay as they are, else they would be none of its own
        return found.lower().replace(wording.mask.lower(), wording.mask).replace(wording.span.lower(), wording.span)

    def target_of(self, text: str, wording: Wording) -> str:
        """Return what is to be said."""
        return text.lower() if wording.lowercase else text

    def _before(self, wording: Wording) -> str:
        if wording.task_prompts:
            return self.words
        return wording.prompt if self.is_question else ""


def named(answers: Sequence[Answered]) -> dict[str, Answered]:
    """Return answers by the names of their examples."""
    return {answer.example.uid: answer for answer in answers}


def texts(answers: Sequence[Answered]) -> dict[str, str]:
    """Return what was said, by the names of the examples."""
    return {answer.example.uid: answer.text for answer in answers}


def right(answer: Answered) -> str:
    """Return the one right answer of an example; DataError where there is none."""
    if not answer.example.answers:
        raise DataError(
            f"{answer.example.task}, example {answer.example.uid}: it does not say what is right, so nothing can be "
            "measured; leave its split out of data.dev and data.test (data.hidden predicts it)"
        )
    return answer.example.answers[0].text


def evaluation(measures: Mapping[str, Any], shown: Sequence[Answered], **more: Any) -> Evaluation:
    """Return measures by name (each a `Measured`) as an evaluation, with a few answers as samples.

    `more` are further arguments of `Evaluation`.
    """
    scalars: dict[str, float] = {}
    values: dict[str, dict[str, float]] = {}
    notes: list[str] = list(more.pop("notes", ()))
    for name, measured in measures.items():
        scalars[name] = measured.value
        values[name] = measured.by_name
    first = next(iter(measures), None)
    if first is not None and len(measures[first].names) > 1:
        interval = measures[first].interval()
        notes.append(f"{first} {interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]")
    samples = [sample(answer) for answer in shown[:SAMPLES]]
    return Evaluation(scalars, samples=samples, notes=notes, values=values, **more)


def sample(answer: Answered) -> dict[str, Any]:
    """Return an answer as a report shows it."""
    example = answer.example
    known = [each.text for each in example.answers[:3]]
    shown = {"uid": example.uid, "pictures": list(example.pictures), "text": example.text}
    return {**shown, "answer": answer.text, "right": known}
