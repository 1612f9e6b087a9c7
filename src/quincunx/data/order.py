"""Which examples make up which logical batch: a pure function of (seed, epoch).

Nothing is consumed and nothing is skipped: the batches of any epoch can be asked for in any order, in any process, and
a resumed run reads its position off the update number. Permutations sort counter hashes (splitmix64), so they are the
same with every library version and platform.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quincunx.config.schema import count_batches
from quincunx.seeds import address

Indices = NDArray[np.int64]


def counter_hash(numbers: NDArray[np.integer], seed: int | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the splitmix64 hash (Steele, Lea and Flood 2014) of a seed and each number, from 0; seeds may broadcast.

    The hashes of one seed serve as the seeds of another round: so a draw has an address of several numbers.
    """
    with np.errstate(over="ignore"):
        steps = numbers.astype(np.uint64) + np.uint64(1)
        state = np.asarray(seed, np.uint64) + steps * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


def permutation(count: int, seed: int) -> Indices:
    """Return a permutation of `0 .. count-1`, the same for the same seed everywhere.

    The numbers are sorted by their hashes.
    """
    return np.argsort(counter_hash(np.arange(count), seed), kind="stable").astype(np.int64)


class Arrangement(Protocol):
    """Which examples make up an epoch, and which of them a batch; pure, so that any epoch can be asked for anywhere."""

    @property
    def groups(self) -> Sequence[int]:
        """Examples in every epoch, group by group: groups are cut into batches apart, each with a short last one."""
        ...

    def examples(self, seed: int, epoch: int) -> Indices:
        """Return the numbers of an epoch's examples, in any order, repeats included."""
        ...

    def cut(self, shuffled: Indices, batch_size: int) -> list[Indices]:
        """Return an epoch's examples, given in shuffled order, as its batches: as many as the groups make."""
        ...


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
        arrangement: Arrangement | None = None,
        flows: bool = False,
    ) -> None:
        """Arrange `count` examples in logical batches of `batch_size`.

        With `lengths` (tokens of each example) the examples of every `window` batches are sorted by length before they
        are cut, and the batches shuffled: batches of like lengths, every example once an epoch. `overfit` repeats the
        first logical batch for ever. An `arrangement` says which examples an epoch has (`count` of them) and cuts them.
        `flows` lets an update go on with the next epoch's batches where an epoch ends within it, so that every update
        has `accumulation` of them; else the last update of an epoch may have fewer.
        """
        if count < 1:
            raise ValueError("there are no training examples to put in order")
        self._groups = (count,) if arrangement is None else tuple(arrangement.groups)
        if sum(self._groups) != count:
            raise ValueError(f"the arrangement has {sum(self._groups)} examples an epoch, expected {count}")
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.window = window
        self.accumulation = accumulation
        self.overfit = overfit
        self.arrangement = arrangement
        self.flows = flows
        self._lengths = None if lengths is None else np.asarray(lengths)
        self._cached: tuple[int, list[Indices]] | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Logical batches in an epoch, short last ones included."""
        return count_batches(self._groups, self.batch_size)

    @property
    def updates_per_epoch(self) -> int:
        """Updates in an epoch, the last one of which may have fewer logical batches; where none flows into the next."""
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
        if self.flows:
            numbers = range(update * self.accumulation, (update + 1) * self.accumulation)
            return [self.epoch(epoch)[place] for epoch, place in (divmod(n, self.batches_per_epoch) for n in numbers)]
        epoch, within = divmod(update, self.updates_per_epoch)
        start = within * self.accumulation
        return self.epoch(epoch)[start : start + self.accumulation]

    def _arrange(self, epoch: int) -> list[Indices]:
        shuffled = permutation(self.count, address(self.seed, "examples", epoch))
        if self.arrangement is not None:
            shuffled = self.arrangement.examples(self.seed, epoch)[shuffled]
        if self._lengths is None:
            return self._cut(shuffled)
        stride = self.window * self.batch_size
        parts = [shuffled[start : start + stride] for start in range(0, self.count, stride)]
        batches = self._cut(np.concatenate([part[np.argsort(self._lengths[part], kind="stable")] for part in parts]))
        return [batches[i] for i in permutation(len(batches), address(self.seed, "batches", epoch))]

    def _cut(self, indices: Indices) -> list[Indices]:
        if self.arrangement is None:
            return cut(indices, self.batch_size)
        batches = self.arrangement.cut(indices, self.batch_size)
        if len(batches) != self.batches_per_epoch:
            raise ValueError(f"the arrangement made {len(batches)} batches, expected {self.batches_per_epoch}")
        return batches


def cut(indices: Indices, batch_size: int) -> list[Indices]:
    """Return the numbers as they come in batches, the last one short."""
    return [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
