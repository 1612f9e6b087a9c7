"""The passage of a text that answers a query, and which of its words to show in bold.

A text is cut into pieces at the ends of sentences and lines; a passage is some pieces in a row, about WIDTH characters.
The one that holds most of the query's words is shown, rare words of the text counting more than frequent ones; or the
one that a given function scores highest.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quincunx.index.lexical import PART, WORD, words

WIDTH = 240
"""Characters of a passage, more or less."""
END = re.compile(r"(?<=[.!?…。！？])[\"')\]»”’]*\s+|\n+")
"""What stands between two pieces."""

Scores = Callable[[Sequence[str]], NDArray[np.floating]]
"""Returns how well each passage answers the query `[n]`."""


@dataclass(frozen=True)
class Passage:
    """A part of a text."""

    text: str
    start: int
    """Its first character's place in the whole text."""
    marks: Sequence[tuple[int, int]]
    """Where the query's words are in the passage: first character and the one after the last, in order."""
    before: bool
    """Whether the text goes on before it."""
    after: bool
    """Whether it goes on after it."""


def best_passage(text: str, query: str, *, width: int = WIDTH, scores: Scores | None = None) -> Passage:
    """Return the passage of a text that is shown for a query; the first of equals.

    Args:
        text: The whole text.
        query: What was asked.
        width: Characters of a passage; a piece that is longer is cut.
        scores: Scores passages; None: by the words of the query alone.
    """
    spans = _windows(text, width)
    asked = set(words(query))
    best = 0
    if len(spans) > 1:
        parts = [text[start:stop] for start, stop in spans]
        values = _by_words(parts, asked) if scores is None else np.asarray(scores(parts))
        best = int(values.argmax())
    start, stop = spans[best]
    shown = text[start:stop]
    return Passage(shown, start, marks(shown, asked), bool(text[:start].strip()), bool(text[stop:].strip()))


def marks(text: str, asked: set[str]) -> list[tuple[int, int]]:
    """Return where words that were asked for stand in a text; of a name such as `readFile`, its parts too."""
    found: list[tuple[int, int]] = []
    for match in WORD.finditer(text):
        if match.group().lower() in asked:
            spans = [match.span()]
        elif match.group().isascii():
            at = match.start()
            parts = PART.finditer(match.group())
            spans = [(at + part.start(), at + part.end()) for part in parts if part.group().lower() in asked]
        else:
            continue
        for start, stop in spans:
            if found and found[-1][1] == start:  # neighbours within a name are shown as one
                start = found.pop()[0]  # noqa: PLW2901
            found.append((start, stop))
    return found


def _by_words(parts: Sequence[str], asked: set[str]) -> NDArray[np.float64]:
    """Return the sum over distinct words asked for in each part, a word of n of N parts counting log(1 + N / n)."""
    held = [asked.intersection(words(part)) for part in parts]
    holding = Counter(word for some in held for word in some)
    worth = {word: math.log1p(len(parts) / count) for word, count in holding.items()}
    return np.array([sum(worth[word] for word in sorted(some)) for some in held])


def _windows(text: str, width: int) -> list[tuple[int, int]]:
    """Return the places of all passages, each beginning at a piece and as long as the width allows."""
    pieces = _pieces(text, width)
    found: list[tuple[int, int]] = []
    for first, (start, stop) in enumerate(pieces):
        for _, further in pieces[first + 1 :]:
            if further - start > width:
                break
            stop = further  # noqa: PLW2901 - grows while there is room
        if not found or stop > found[-1][1]:  # what ends where the one before ends is a part of it
            found.append((start, stop))
    return found or [(0, 0)]


def _pieces(text: str, width: int) -> list[tuple[int, int]]:
    """Return the places of sentences and lines without the space around them, long ones cut between words."""
    found: list[tuple[int, int]] = []
    at = 0
    for stop, following in [*((match.start(), match.end()) for match in END.finditer(text)), (len(text), len(text))]:
        found += _cut(text, at, stop, width)
        at = following
    return found


def _cut(text: str, start: int, stop: int, width: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while True:
        while start < stop and text[start].isspace():
            start += 1
        if stop - start <= width:
            stop = start + len(text[start:stop].rstrip())
            return [*found, (start, stop)] if start < stop else found
        space = text.rfind(" ", start + 1, start + width)
        end = space if space > start else start + width
        found.append((start, start + len(text[start:end].rstrip())))
        start = end
