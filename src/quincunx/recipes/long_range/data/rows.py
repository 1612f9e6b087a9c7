"""The rows of one file of texts while they are read: bytes in one growing array, where each row lies, which are bad."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError
from quincunx.recipes.long_range.data.examples import Examples, SkippedRow

TOLERATED_SHARE = 0.01
TOLERATED_ROWS = 10
"""From this many bad rows on, `TOLERATED_SHARE` must not be exceeded."""

Label = int | str
_WORDS = {
    "train": ("train", "training"),
    "dev": ("dev", "val", "valid", "validation", "eval"),
    "test": ("test", "testing"),
}


class Rows:
    """Rows of `parts` texts and a label each. A label is what the file says, until `examples` numbers it."""

    def __init__(self, source: Path, parts: int = 1) -> None:
        self.source = source
        self.parts = parts
        self.labels: list[Label] = []
        self.bad: list[SkippedRow] = []
        self.notes: list[str] = []
        """Sentences on what was decided while reading."""
        self._flat = bytearray()
        self._lengths = array("q")
        self._lines = array("q")
        self._files: list[Path] = []
        self._order: list[int] = []
        """Of each bad row, the number of rows before it: sorts those found early and late."""

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, line: int, label: Label, *texts: bytes, file: Path | None = None) -> None:
        """Keep a row: where it lies (of a file of its own, which), its label as the file says it, its texts."""
        for text in texts:
            self._flat += text
            self._lengths.append(len(text))
        self.labels.append(label)
        self._lines.append(line)
        if file is not None:
            self._files.append(file)

    def skip(self, line: int, reason: str, file: Path | None = None) -> None:
        """Leave a row out."""
        self.bad.append(SkippedRow(str(file or self.source), line, reason))
        self._order.append(len(self))

    def place(self, index: int) -> str:
        """Return the file and row of a kept row."""
        return str(self._files[index]) if self._files else f"{self.source}:{self._lines[index]}"

    def examples(self, number: Callable[[Label], int], expected: str) -> Examples:
        """Return the sound rows; rows whose label has no number become bad ones.

        Args:
            number: Label -> class; ValueError says what is wrong with it.
            expected: What a sound row holds, for the error.

        Raises:
            DataError: No sound row, or bad rows that are at least 10 and more than 1 %; the text shows the first five.
        """
        numbers, sound = np.zeros(len(self), np.uint8), np.ones(len(self), bool)
        for index, label in enumerate(self.labels):
            try:
                numbers[index] = number(label)
            except ValueError as error:
                sound[index] = False
                file = self._files[index] if self._files else self.source
                self.bad.append(SkippedRow(str(file), self._lines[index], str(error)))
                self._order.append(index)
        self.bad = [self.bad[at] for at in np.argsort(self._order, kind="stable")]
        kept = int(sound.sum())
        shown = "".join(f"\n  {row}" for row in self.bad[:5])
        if not kept:
            raise DataError(f"{self.source} has no usable row{':' if shown else f'; expected {expected}'}{shown}")
        total = kept + len(self.bad)
        if len(self.bad) >= TOLERATED_ROWS and len(self.bad) > TOLERATED_SHARE * total:
            raise DataError(
                f"{len(self.bad):,} of {total:,} rows of {self.source} are bad, more than {TOLERATED_SHARE:.0%}; the "
                f"first:{shown}\nExpected {expected}."
            )
        offsets = np.concatenate([[0], np.cumsum(np.frombuffer(self._lengths, np.int64))])
        whole = Examples(np.frombuffer(self._flat, np.uint8), offsets, numbers, 1, self.parts)
        if kept == len(self):
            return whole
        self._lines = array("q", [self._lines[index] for index in np.flatnonzero(sound)])
        self._files = [self._files[index] for index in np.flatnonzero(sound)] if self._files else []
        return whole.where(sound)

    @property
    def said(self) -> list[str]:
        """Sentences on what was decided, bad rows included."""
        if not self.bad:
            return self.notes
        count = f"{len(self.bad):,} bad row{'s' if len(self.bad) > 1 else ''}"
        return [*self.notes, f"{self.source}: {count} left out; the first: {self.bad[0]}"]


def split_of(name: str) -> str | None:
    """Return the split that a file's or folder's name ends in, as a word of its own; None where it names none."""
    words = "".join(letter if letter.isalpha() else " " for letter in name.lower()).split()
    return next((split for split, known in _WORDS.items() if words and words[-1] in known), None)


def by_split(paths: Sequence[Path]) -> dict[str, Path]:
    """Return which path is which split's, by the ends of their names without suffix.

    DataError when two are of one split.
    """
    found: dict[str, Path] = {}
    for path in paths:
        split = split_of(path.stem)
        if split is None:
            continue
        if split in found:
            raise DataError(
                f"{path.parent} holds {found[split].name} and {path.name}, both of which end in the name of the "
                f"{split} split; keep one of them in the folder"
            )
        found[split] = path
    return {split: found[split] for split in _WORDS if split in found}


def listed(folder: Path) -> str:
    """Return the first few names that a folder holds, for errors."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    return ", ".join(names[:6]) + (f" and {len(names) - 6:,} more" if len(names) > 6 else "") if names else "nothing"


def beginning(symbols: NDArray[np.uint8]) -> str:
    """Return the first 200 characters of the text that bytes hold; what is no UTF-8 shows as such."""
    return symbols[:800].tobytes().decode("utf-8", "replace")[:200]
