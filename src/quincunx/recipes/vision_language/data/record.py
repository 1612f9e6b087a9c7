"""The one schema of all tasks: pictures with what is known to be in them, and examples that ask something about them.

Everything is read into it and written out of it; what belongs to one task alone is in `Example.more`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels: left, top, right, bottom."""

TASKS = ("vqa", "gqa", "nlvr", "refcoco", "vcr", "caption", "mmt", "cls")


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a picture, and what was seen there."""

    box: Box
    name: str | None = None
    """What it is: a class in words."""
    attribute: str | None = None
    """How it is, in words."""
    confidence: float = 1.0
    """The detector's, between 0 and 1."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: a file, or only its size where its features alone are kept."""

    id: str
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    file: str | None = None
    """Path, relative to the folder of the collection."""
    regions: tuple[Region, ...] = ()
    """In the order of the rows of its region features."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is right to say, and how right."""

    text: str
    weight: float = 1.0
    """Between 0 and 1."""


@dataclass(frozen=True, slots=True)
class Example:
    """Something to learn or to be asked."""

    uid: str
    """Its name, unique within its task and split."""
    task: str
    """One of `TASKS`."""
    pictures: tuple[str, ...] = ()
    """Ids of pictures, in order; none for text alone."""
    text: str = ""
    """The question, statement, expression or sentence; empty where there is none (a caption, a class)."""
    answers: tuple[Answer, ...] = ()
    """What may be said; none in a hidden test split, and where the answer is no text."""
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What belongs to the task alone, by name."""
