"""How the examples of one or several sets make up an epoch, and which of them a batch: mixed, of one set, or without
repeated texts. All of it is a function of (seed, epoch), so that a resumed run meets the batches it was begun with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quincunx.data.order import Indices, cut, permutation
from quincunx.errors import UsageError
from quincunx.recipes.retrieval.data.ragged import Ragged, offsets_of
from quincunx.seeds import address


@dataclass(frozen=True)
class Mixture:
    """How many examples of each set an epoch has.

    A set of `anchors` anchors of which an epoch has fewer gives other ones the next time: no anchor comes again before
    each has come as often. Of a set of which an epoch has more, anchors come several times, each alike up to one.
    """

    anchors: tuple[int, ...]
    """Anchors of each set."""
    counts: tuple[int, ...]
    """Examples of each set in every epoch."""

    @classmethod
    def of(cls, anchors: Sequence[int], weights: Sequence[float] | None = None) -> Mixture:
        """Return the mixture of sets of so many anchors.

        Args:
            anchors: Of each set.
            weights: How often each anchor of a set comes in an epoch: 2 twice, 0.5 every other epoch. A set has at
                least one example an epoch. None: 1 for all.

        Raises:
            UsageError: Another number of weights than of sets, or a weight that is not a number above 0.
        """
        weights = [1.0] * len(anchors) if weights is None else weights
        if len(weights) != len(anchors):
            raise UsageError(f"there are {len(weights)} weights for {len(anchors)} sets; give one a set")
        if not all(0 < weight < float("inf") for weight in weights):
            raise UsageError(f"weights of sets are above 0, found {', '.join(map(str, weights))}")
        counts = [max(1, math.floor(count * weight + 0.5)) for count, weight in zip(anchors, weights, strict=True)]
        return cls(tuple(anchors), tuple(counts))

    @property
    def groups(self) -> tuple[int, ...]:
        """All examples of an epoch, as one group."""
        return (sum(self.counts),)

    @property
    def starts(self) -> Indices:
        """The number of each set's first anchor, and the end of the last set [sets + 1]."""
        return offsets_of(np.array(self.anchors))

    def examples(self, seed: int, epoch: int) -> Indices:
        """Return the numbers of the anchors that make up an epoch (from 0)."""
        chosen = [
            start + self._of(number, address(seed, "mixture", number), epoch)
            for number, start in enumerate(self.starts[:-1].tolist())
        ]
        return np.concatenate(chosen)

    def cut(self, shuffled: Indices, batch_size: int) -> list[Indices]:
        """Return the batches of the examples as they come, whatever set they are of."""
        return cut(shuffled, batch_size)

    def _of(self, number: int, seed: int, epoch: int) -> Indices:
        """Return an epoch's stretch of one permutation of the set after another."""
        size, count = self.anchors[number], self.counts[number]
        if size == count:
            return np.arange(size)
        begin, end = epoch * count, (epoch + 1) * count
        rounds = range(begin // size, -(-end // size))
        drawn = np.concatenate([permutation(size, address(seed, passed)) for passed in rounds])
        return drawn[begin - rounds.start * size :][:count]


@dataclass(frozen=True, eq=False)
class NoDuplicates:
    """Batches in which no text occurs twice, as far as that can be had.

    The epoch's shuffled examples are taken one by one; one that shares a text with the batch that is being filled is
    set aside and tried again for the next. Every batch but the last is full, so their number is known ahead: where
    `look_ahead` examples are aside, or none are left to come, those longest aside fill the batch up, whatever texts
    they share; the loss masks these.
    """

    mixture: Mixture
    texts: Ragged
    """Numbers of the texts of each anchor."""
    look_ahead: int = 1000

    @property
    def groups(self) -> tuple[int, ...]:
        """All examples of an epoch, as one group."""
        return self.mixture.groups

    def examples(self, seed: int, epoch: int) -> Indices:
        """Return the numbers of the anchors that make up an epoch."""
        return self.mixture.examples(seed, epoch)

    def cut(self, shuffled: Indices, batch_size: int) -> list[Indices]:
        """Return the batches."""
        coming = iter(self._with_texts(shuffled))
        aside: list[tuple[int, list[int]]] = []
        batches: list[Indices] = []
        left = len(shuffled)
        while left:
            size = min(batch_size, left)
            batch: list[int] = []
            seen: set[int] = set()
            waiting: list[tuple[int, list[int]]] = []
            for place, entry in enumerate(aside):
                if len(batch) == size:
                    waiting += aside[place:]
                    break
                _place(entry, batch, seen, waiting)
            while len(batch) < size and len(waiting) < self.look_ahead:
                entry = next(coming, None)
                if entry is None:
                    break
                _place(entry, batch, seen, waiting)
            missing = size - len(batch)
            batch += [number for number, _ in waiting[:missing]]
            aside = waiting[missing:]
            # where nothing may be set aside there is nothing to fill up with either
            batch += [number for number, _ in (next(coming) for _ in range(size - len(batch)))]
            batches.append(np.array(batch, np.int64))
            left -= size
        return batches

    def repeats(self, batches: Sequence[Indices]) -> int:
        """Return how many examples share a text with one before them in their batch."""
        count = 0
        for batch in batches:
            seen: set[int] = set()
            for _, texts in self._with_texts(batch):
                count += not seen.isdisjoint(texts)
                seen.update(texts)
        return count

    def _with_texts(self, numbers: Indices) -> list[tuple[int, list[int]]]:
        own = self.texts.pick(numbers)
        values, ends = own.values.tolist(), own.offsets.tolist()
        return [(number, values[ends[i] : ends[i + 1]]) for i, number in enumerate(numbers.tolist())]


@dataclass(frozen=True, eq=False)
class SameDataset:
    """Batches of examples of one set each; every set has a short last batch of its own.

    Batches stand where their first example stands in the epoch's shuffled order, so that the sets alternate.
    """

    mixture: Mixture
    within: NoDuplicates | None = None
    """How the examples of each set are cut; None: as they come."""

    @property
    def groups(self) -> tuple[int, ...]:
        """Examples of each set in an epoch."""
        return self.mixture.counts

    def examples(self, seed: int, epoch: int) -> Indices:
        """Return the numbers of the anchors that make up an epoch."""
        return self.mixture.examples(seed, epoch)

    def cut(self, shuffled: Indices, batch_size: int) -> list[Indices]:
        """Return the batches."""
        sets = np.searchsorted(self.mixture.starts, shuffled, side="right") - 1
        divide = cut if self.within is None else self.within.cut
        batches: list[Indices] = []
        places: list[int] = []
        for number in range(len(self.groups)):
            own = np.flatnonzero(sets == number)
            made = divide(shuffled[own], batch_size)
            batches += made
            places += own[np.arange(len(made)) * batch_size].tolist()
        return [batches[i] for i in np.argsort(places, kind="stable")]


def _place(
    entry: tuple[int, list[int]], batch: list[int], seen: set[int], waiting: list[tuple[int, list[int]]]
) -> None:
    """Put an example into the batch, or with those that wait where it shares a text."""
    number, texts = entry
    if seen.isdisjoint(texts):
        batch.append(number)
        seen.update(texts)
    else:
        waiting.append(entry)
