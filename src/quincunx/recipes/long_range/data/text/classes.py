"""What the labels of a text file mean as class numbers: decided on the training file, used for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quincunx.errors import DataError
from quincunx.recipes.long_range.data.rows import Label

_MOST = 256
_SHOWN = 12


@dataclass(frozen=True)
class Classes:
    """Whole numbers stand for themselves; words are numbered in sorted order."""

    names: tuple[str, ...] | None
    """The words, by number; None: labels are numbers."""

    @classmethod
    def of(cls, labels: Sequence[Label], where: object) -> Classes:
        """Return what the labels of the training file mean: numbers, if most of them are.

        Raises:
            DataError: They are all of one class, or of more than 256.
        """
        numbers = [number for number in map(whole, labels) if number is not None]
        found = {str(label) for label in labels}
        if len(found) == 1:
            raise DataError(
                f"{where}: every training example is of class {found.pop()}; a classifier needs examples of two"
            )
        if 2 * len(numbers) > len(labels):
            return cls(None)
        if len(found) > _MOST:
            raise DataError(
                f"{where}: the labels are {len(found):,} different words, expected at most {_MOST} classes; is it the "
                "right column?"
            )
        return cls(tuple(sorted(found)))

    def number(self, label: Label) -> int:
        """Return the class of a label; ValueError says what is wrong with it."""
        if self.names is None:
            number = whole(label)
            if number is None or not 0 <= number < _MOST:
                raise ValueError(f"the label is {shown(label)}, expected a class number from 0 on")
            return number
        if str(label) not in self.names:
            raise ValueError(
                f"the label {shown(label)} does not occur in training, which has {self._listed(numbers=False)}"
            )
        return self.names.index(str(label))

    @property
    def said(self) -> list[str]:
        """A sentence on how words are numbered."""
        if self.names is None:
            return []
        return [f"Classes are numbered in sorted order: {self._listed(numbers=True)}."]

    def _listed(self, numbers: bool) -> str:
        parts = [f"{name} = {number}" if numbers else name for number, name in enumerate(self.names or ())]
        return ", ".join(parts[:_SHOWN]) + (f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else "")


def whole(label: Label) -> int | None:
    """Return the whole number that a label is, written as `1` or, as some programs do, as `1.0`; else None."""
    if isinstance(label, int):
        return label
    text = label.strip().removesuffix(".0")
    return int(text) if text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 10 else None


def shown(value: object) -> str:
    """Return a value from a file as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
