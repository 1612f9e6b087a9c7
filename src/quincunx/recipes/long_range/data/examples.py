"""Labelled sequences in compact form: one flat array of token ids, because 100,000 lists of a thousand Python integers
would fill the memory that the model needs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.recipes.long_range.data.listops import nesting_depths, root_operators


@dataclass(frozen=True)
class SkippedRow:
    """A row of a data file that was not used."""

    file: str
    line: int
    """Counts from 1, the header being line 1."""
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Examples:
    """N sequences with their labels."""

    flat: NDArray[np.uint8]
    """Token ids of all sequences one after another [T]."""
    offsets: NDArray[np.int64]
    """Where each sequence starts, and the end of the last [N + 1]."""
    labels: NDArray[np.uint8]
    """Class of each sequence [N]."""

    @classmethod
    def of(cls, rows: Sequence[bytes], labels: Sequence[int]) -> Examples:
        """Return examples from the token ids of each sequence, one byte each, and the labels."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return cls(np.frombuffer(b"".join(rows), np.uint8), _offsets(lengths), np.array(labels, np.uint8))

    @classmethod
    def join(cls, parts: Sequence[Examples]) -> Examples:
        """Return the examples of all parts in order."""
        if not parts:
            return cls.of([], [])
        lengths = np.concatenate([part.lengths for part in parts])
        flat = np.concatenate([part.flat for part in parts])
        return cls(flat, _offsets(lengths), np.concatenate([part.labels for part in parts]))

    def __len__(self) -> int:
        return len(self.labels)

    def tokens(self, index: int) -> NDArray[np.uint8]:
        """Return the token ids of one sequence [S], as a view; IndexError beyond the last."""
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        return self.flat[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each sequence [N]."""
        return np.diff(self.offsets)

    def take(self, count: int) -> Examples:
        """Return the first `count` examples, or all where there are fewer."""
        count = min(count, len(self))
        return Examples(self.flat[: self.offsets[count]], self.offsets[: count + 1], self.labels[:count])

    def where(self, mask: NDArray[np.bool_]) -> Examples:
        """Return the examples that the mask [N] marks."""
        return Examples(self.flat[np.repeat(mask, self.lengths)], _offsets(self.lengths[mask]), self.labels[mask])

    def roots(self) -> NDArray[np.int64]:
        """Return each example's outermost operator as an index into `listops.ROOTS` [N]."""
        return root_operators(self.flat, self.offsets)

    def depths(self) -> NDArray[np.int64]:
        """Return how deep each example's operators nest [N]; 0 for a bare digit."""
        return nesting_depths(self.flat, self.offsets)

    def fingerprint(self) -> str:
        """Return a SHA-256 of the content: the same for the same examples, in whatever file they were."""
        digest = hashlib.sha256(b"listops examples 1\n")
        parts: tuple[NDArray[Any], ...] = (self.lengths.astype("<u4"), self.flat, self.labels)
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
