"""Tokens as lines to look at: each a column, with what belongs to it below.

token     >  The   bridge  over
position  9  10    11      12
target    T  idge  over    the
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

WIDTH = 100
"""Columns of a line."""


class Words:
    """The words of a vocabulary by id, each in characters that do nothing to a terminal."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._plain = cache(self._decoded)

    def __len__(self) -> int:
        return len(self._tokenizer)

    def __getitem__(self, number: int) -> str:
        """Return a word as it stands in a text; line ends and other controls as escapes."""
        return self._plain(number)

    def cell(self, number: int) -> str:
        """Return a word that stands alone: its spaces can be seen."""
        return self[number].replace(" ", "␣") or "∅"

    def _decoded(self, number: int) -> str:
        return harmless(self._tokenizer.decode([number]))


def harmless(text: str) -> str:
    """Return a text in which no character does anything to a terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def cut(text: str, most: int = WIDTH) -> str:
    """Return a text that is not wider than so many columns, its end left out where it was."""
    if cells(text) <= most:
        return text
    while cells(text) > most - 2:
        text = text[: most - 2] if len(text) > most - 2 else text[:-1]
    return f"{text} …"


def gloss(names: Sequence[str], rows: Sequence[Sequence[str]], width: int = WIDTH) -> list[str]:
    """Return rows of cells under one another, as many columns as fit beside one another, the rest below.

    Args:
        names: Of the rows.
        rows: The cells of each, all of one length.
        width: Columns of a line.
    """
    margin = max(map(len, names)) + 2
    lines: list[str] = []
    block: list[tuple[str, ...]] = []
    sizes: list[int] = []

    def flush() -> None:
        if not block:
            return
        lines.extend([] if not lines else [""])
        for number, name in enumerate(names):
            texts = (_filled(column[number], size) for column, size in zip(block, sizes, strict=True))
            lines.append(f"{name:<{margin}}{'  '.join(texts)}".rstrip())
        block.clear()
        sizes.clear()

    for column in zip(*rows, strict=True):
        size = max(cells(cell) for cell in column)
        if margin + sum(sizes) + 2 * len(sizes) + size > width:
            flush()
        block.append(column)
        sizes.append(size)
    flush()
    return lines


def cells(text: str) -> int:
    """Return the columns that a terminal gives a text: two for wide letters, none for marks on the letter before."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _filled(text: str, size: int) -> str:
    return text + " " * (size - cells(text))
