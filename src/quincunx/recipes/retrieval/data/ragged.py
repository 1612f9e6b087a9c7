"""Rows of different lengths in one flat array, and addressed draws from them.

A rows, R values in all, D values drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quincunx.data.order import Indices, counter_hash

Drawing = Literal["first", "random", "window"]


@dataclass(frozen=True, eq=False)
class Ragged:
    """A rows of numbers, with a score beside each number where there are scores."""

    offsets: Indices
    """Where each row starts, and the end of the last [A + 1]."""
    values: Indices
    """The rows' numbers [R]."""
    scores: NDArray[np.float32] | None = None
    """[R]."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> Indices:
        """Numbers in each row [A]."""
        return np.diff(self.offsets)

    def row(self, index: int) -> Indices:
        """Return one row, as a view."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def pick(self, rows: Indices) -> Ragged:
        """Return some rows, in this order."""
        _, places = self.all(rows)
        offsets = offsets_of(self.counts[rows])
        return Ragged(offsets, self.values[places], None if self.scores is None else self.scores[places])

    def all(self, rows: Indices) -> tuple[Indices, Indices]:
        """Return everything in these rows: which of `rows` each value is of [D], and its place in `values` [D]."""
        starts = self.offsets[rows]
        return spans(starts, self.offsets[rows + 1] - starts)

    def draw(self, rows: Indices, count: int | None, how: Drawing, seed: int) -> tuple[Indices, Indices]:
        """Return `count` values of each row, all of them where it has fewer or where `count` is None.

        What is drawn from a row depends on (seed, row) and nothing else. Within a row the values stay in their order.

        Args:
            rows: [A'] int64.
            count: Values of each row.
            how: The `first`; a `random` subset, every one alike probable; or a `window` of neighbours that begins
                anywhere.
            seed: Of this draw.

        Returns:
            As `all`.

        Source: a random subset by Floyd's algorithm (Bentley and Floyd 1987, A sample of brilliance), whose cost does
        not depend on the length of the row.
        """
        if count is None:
            return self.all(rows)
        available = self.offsets[rows + 1] - self.offsets[rows]
        taken = np.minimum(available, count)
        owners, steps = spans(np.zeros_like(taken), taken)
        choice = np.flatnonzero(available > count)
        if how == "random" and count and len(choice):
            chosen = np.tile(np.arange(count), (len(rows), 1))
            chosen[choice] = _subsets(available[choice], count, counter_hash(rows[choice], seed))
            steps = chosen[owners, steps]
        elif how == "window" and len(choice):
            first = np.zeros_like(taken)
            begins = (available - taken)[choice] + 1
            first[choice] = counter_hash(rows[choice], seed) % begins.astype(np.uint64)
            steps = steps + first[owners]
        return owners, self.offsets[rows][owners] + steps


def joined(parts: Sequence[Ragged], starts: Sequence[int]) -> Ragged:
    """Return the rows of several one after another; `starts` is added to the numbers of each part.

    Where one part has scores all have, NaN in the others.
    """
    ends = np.cumsum([0, *(len(part.values) for part in parts)])
    offsets = [part.offsets[1:] + end for part, end in zip(parts, ends[:-1], strict=True)]
    values = [part.values + start for part, start in zip(parts, starts, strict=True)]
    scores = [np.full(len(part.values), np.nan, np.float32) if part.scores is None else part.scores for part in parts]
    return Ragged(
        np.concatenate([np.zeros(1, np.int64), *offsets]),
        np.concatenate([np.zeros(0, np.int64), *values]),
        np.concatenate(scores) if any(part.scores is not None for part in parts) else None,
    )


def offsets_of(counts: NDArray[np.integer]) -> Indices:
    """Return where each row of so many values starts, and the end of the last."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def spans(starts: Indices, counts: Indices) -> tuple[Indices, Indices]:
    """Return the numbers `start, start + 1, ...` of every span, and before them which span each is of."""
    owners = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    return owners, starts[owners] + within


def _subsets(available: Indices, count: int, seeds: NDArray[np.uint64]) -> Indices:
    """Return `count` different numbers below each of `available` [A], ascending [A, count]."""
    chosen = np.full((len(available), count), -1, np.int64)
    for step in range(count):
        last = available - count + step
        drawn = (counter_hash(np.array([step]), seeds) % (last + 1).astype(np.uint64)).astype(np.int64)
        taken = (chosen[:, :step] == drawn[:, None]).any(axis=1)
        chosen[:, step] = np.where(taken, last, drawn)
    return np.sort(chosen, axis=1)
