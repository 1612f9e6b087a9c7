"""Labelled sequences in compact form: one flat array of symbols, because 100,000 lists of a thousand Python integers
would fill the memory that the model needs. N examples, P sequences in each, T symbols in all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    """N examples of one sequence each, or of a pair, with their labels."""

    flat: NDArray[np.uint8]
    """Symbols of all sequences one after another [T]; may lie in a file (`numpy.memmap`)."""
    offsets: NDArray[np.int64]
    """Where each sequence starts, and the end of the last [N * P + 1]."""
    labels: NDArray[np.uint8]
    """Class of each example [N]."""
    first_id: int = 0
    """Token id of symbol 0: 1 for bytes and grey values, so that id 0 is padding and nothing else."""
    parts: int = 1
    """Sequences in an example, P: 2 for pairs of documents, which follow one another in `flat`."""

    @classmethod
    def of(cls, rows: Sequence[bytes], labels: Sequence[int], *, first_id: int = 0, parts: int = 1) -> Examples:
        """Return examples from the symbols of each sequence [N * P], one byte each, and the labels [N]."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        flat = np.frombuffer(b"".join(rows), np.uint8)
        return cls(flat, _offsets(lengths), np.array(labels, np.uint8), first_id, parts)

    @classmethod
    def join(cls, several: Sequence[Examples]) -> Examples:
        """Return the examples of all given in order; all are of one kind."""
        if not several:
            return cls.of([], [])
        lengths = np.concatenate([np.diff(examples.offsets) for examples in several])
        flat = np.concatenate([examples.flat for examples in several])
        labels = np.concatenate([examples.labels for examples in several])
        return cls(flat, _offsets(lengths), labels, several[0].first_id, several[0].parts)

    @classmethod
    def of_images(cls, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Examples:
        """Return examples of grey images [N, pixels], which are not copied: one token a pixel, row after row."""
        count, pixels = images.shape
        return cls(images.reshape(-1), np.arange(count + 1, dtype=np.int64) * pixels, labels, first_id=1)

    def __len__(self) -> int:
        return len(self.labels)

    def symbols(self, index: int, part: int = 0) -> NDArray[np.uint8]:
        """Return the symbols of one sequence [S], as a view; IndexError beyond the last example."""
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        place = index * self.parts + part
        return self.flat[self.offsets[place] : self.offsets[place + 1]]

    def tokens(self, index: int, part: int = 0) -> NDArray[np.integer]:
        """Return the token ids of one sequence [S]; IndexError beyond the last example."""
        symbols = self.symbols(index, part)
        return symbols if self.first_id == 0 else symbols.astype(np.int64) + self.first_id

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each example [N]; of a pair, those of the longer one."""
        lengths = np.diff(self.offsets)
        return lengths if self.parts == 1 else lengths.reshape(-1, self.parts).max(axis=1, initial=0)

    def take(self, count: int) -> Examples:
        """Return the first `count` examples, or all where there are fewer."""
        count = min(count, len(self))
        ends = self.offsets[: count * self.parts + 1]
        return replace(self, flat=self.flat[: ends[-1]], offsets=ends, labels=self.labels[:count])

    def where(self, mask: NDArray[np.bool_]) -> Examples:
        """Return the examples that the mask [N] marks."""
        lengths = np.diff(self.offsets)
        wanted = np.repeat(mask, self.parts)
        flat = self.flat[np.repeat(wanted, lengths)]
        return replace(self, flat=flat, offsets=_offsets(lengths[wanted]), labels=self.labels[mask])

    def pick(self, indices: NDArray[np.integer]) -> Examples:
        """Return the examples at these places, in this order."""
        if not len(indices):
            return self.take(0)
        places = (np.asarray(indices, np.int64)[:, None] * self.parts + np.arange(self.parts)).ravel()
        pieces = [self.flat[self.offsets[place] : self.offsets[place + 1]] for place in places]
        lengths = np.diff(self.offsets)[places]
        return replace(self, flat=np.concatenate(pieces), offsets=_offsets(lengths), labels=self.labels[indices])

    def fingerprint(self) -> str:
        """Return a SHA-256 of the content: the same for the same examples, in whatever file they were."""
        kind = "listops examples 1" if (self.first_id, self.parts) == (0, 1) else f"{self.first_id} {self.parts}"
        digest = hashlib.sha256(f"{kind}\n".encode())
        columns: tuple[NDArray[Any], ...] = (np.diff(self.offsets).astype("<u4"), self.flat, self.labels)
        for column in columns:
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
