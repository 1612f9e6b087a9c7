"""Which examples make up which logical batch: a pure function of (seed, epoch).

Nothing is consumed and nothing is skipped: the batches of any epoch can be asked for in any order, in any process, and
a resumed run reads its position off the update number. Permutations sort counter hashes (splitmix64), so they are the
same with every library version and platform.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quincunx.seeds import address

Indices = NDArray[np.int64]


def permutation(count: int, seed: int) -> Indices:
    """Return a permutation of `0 .. count-1`, the same for the same seed everywhere.

    The numbers are sorted by the splitmix64 hash (Steele, Lea and Flood 2014) of seed and number.
    """
    with np.errstate(over="ignore"):
        state = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return np.argsort(state, kind="stable").astype(np.int64)


class Order:
    """The logical batches of every epoch."""

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        *,
        lengths: Sequence[int] | NDArray[np.integer] | None = None,
        window: int = 50,
        accumulation: int = 1,
        overfit: bool = False,
    ) -> None:
        """Arrange `count` examples in logical batches of `batch_size`.

        With `lengths` (tokens of each example) the examples of every `window` batches are sorted by length before they
        are cut, and the batches shuffled: batches of like lengths, every example once an epoch. `overfit` repeats the
        first logical batch for ever.
        """
        if count < 1:
            raise ValueError("there are no training examples to put in order")
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.window = window
        self.accumulation = accumulation
        self.overfit = overfit
        self._lengths = None if lengths is None else np.asarray(lengths)
        self._cached: tuple[int, list[Indices]] | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Logical batches in an epoch, the short last one included."""
        return -(-self.count // self.batch_size)

    @property
    def updates_per_epoch(self) -> int:
        """Updates in an epoch; the last one may have fewer logical batches."""
        return -(-self.batches_per_epoch // self.accumulation)

    def epoch(self, epoch: int) -> list[Indices]:
        """Return the logical batches of an epoch (from 0), each an array of example numbers."""
        if self._cached is None or self._cached[0] != epoch:
            self._cached = (epoch, self._arrange(epoch))
        return self._cached[1]

    def update(self, update: int) -> list[Indices]:
        """Return the logical batches of an update (from 0)."""
        if self.overfit:
            return [self.epoch(0)[0]] * self.accumulation
        epoch, within = divmod(update, self.updates_per_epoch)
        start = within * self.accumulation
        return self.epoch(epoch)[start : start + self.accumulation]

    def _arrange(self, epoch: int) -> list[Indices]:
        shuffled = permutation(self.count, address(self.seed, "examples", epoch))
        if self._lengths is None:
            return self._cut(shuffled)
        batches: list[Indices] = []
        stride = self.window * self.batch_size
        for start in range(0, self.count, stride):
            part = shuffled[start : start + stride]
            batches.extend(self._cut(part[np.argsort(self._lengths[part], kind="stable")]))
        return [batches[i] for i in permutation(len(batches), address(self.seed, "batches", epoch))]

    def _cut(self, indices: Indices) -> list[Indices]:
        return [indices[start : start + self.batch_size] for start in range(0, len(indices), self.batch_size)]
