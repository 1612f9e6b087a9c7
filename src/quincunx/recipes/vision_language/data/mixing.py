"""Which task each logical batch, or each example, of an epoch comes from, as an arrangement of the data's order.

A law gives every task its share; an epoch has as many units (batches of one task, or examples of mixed batches) of
each task as its share says, so shares are met exactly, not on average. All of it is a function of (seed, epoch): equal
in every process, and a resumed run meets the epoch that it was begun with. T tasks, their examples numbered one task
after another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quincunx.data.order import Indices, cut, permutation
from quincunx.errors import UsageError
from quincunx.seeds import address

Law = Literal["roundrobin", "round_robin", "balanced", "proportional", "temperature", "weights", "uniform", "annealed"]
Stop = Literal["first_exhausted", "all_exhausted", "updates"]

LAWS: tuple[Law, ...] = (
    "roundrobin",
    "round_robin",
    "balanced",
    "proportional",
    "temperature",
    "weights",
    "uniform",
    "annealed",
)
STOPS: tuple[Stop, ...] = ("first_exhausted", "all_exhausted", "updates")

_SLACK = 1e-9
"""What rounding errors of shares may add to a number of units."""


@dataclass(frozen=True)
class Mixing:
    """The tasks of an epoch; an `Arrangement` of `quincunx.data.order`.

    `roundrobin` is the only law under which an epoch is one pass over everything: every task gives each of its examples
    once, in batches with a short last one, and the batches of all tasks are shuffled. The word is that of VL-T5's
    multitask code, where it means this; it is not in turn.

    Under every other law batches are full, and a task that comes to its end begins again, shuffled anew: no example
    comes again before all of its task have come as often, across epochs too. The shares p are

    - `round_robin`: equal, the tasks strictly in turn;
    - `balanced`: equal; an epoch has as many units of each task as the tasks have on average;
    - `proportional`: by the number of examples;
    - `temperature`: by examples ** (1 / temperature): 1 is proportional, infinity uniform;
    - `weights`: as given; a task of weight 0 never comes;
    - `uniform`: equal;
    - `annealed`: by examples ** a, a going from 1 in the first epoch to 0.2 in the last (Stickland and Murray 2019).

    An epoch lasts, without `stop`, as many units as all tasks have; `first_exhausted`: until the first task has come to
    its end; `all_exhausted`: until the last has; `updates`: `units`.
    """

    sizes: tuple[int, ...]
    """Examples of each task."""
    batch_size: int
    law: Law = "roundrobin"
    stop: Stop | None = None
    temperature: float = 1.0
    weights: tuple[float, ...] | None = None
    units: int | None = None
    """With `stop: updates`, logical batches in an epoch."""
    epochs: float | None = None
    """With `annealed`, over how many epochs shares change; later ones are as the last."""
    mixed: bool = False
    """Whether batches hold examples of several tasks, rather than of one."""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def groups(self) -> tuple[int, ...]:
        """Examples in every epoch, group by group: those that are cut into batches apart."""
        if self.law == "roundrobin":
            return (sum(self.sizes),) if self.mixed else self.sizes
        return (int(self.quotas(0).sum()) * self._unit,)

    @property
    def starts(self) -> Indices:
        """The number of each task's first example, and the end [T + 1]."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    def shares(self, epoch: int = 0) -> NDArray[np.float64]:
        """Return each task's share of an epoch [T]; they sum to 1."""
        sizes = np.array(self.sizes, np.float64)
        if self.law in ("roundrobin", "proportional"):
            raw = sizes
        elif self.law == "temperature":
            raw = (sizes / sizes.max()) ** (1 / self.temperature)
        elif self.law == "weights":
            raw = np.array(self.weights, np.float64)
        elif self.law == "annealed":
            last = max(math.ceil(self.epochs or 1) - 1, 1)
            raw = (sizes / sizes.max()) ** (1 - 0.8 * min(epoch, last) / last)
        else:
            raw = np.ones(len(sizes))
        return raw / raw.sum()

    def quotas(self, epoch: int) -> Indices:
        """Return how many units of each task an epoch has [T]."""
        return _quotas(self, epoch)[0]

    def task_of(self, numbers: Indices) -> Indices:
        """Return the task of each example."""
        return np.searchsorted(self.starts, numbers, side="right") - 1

    def examples(self, seed: int, epoch: int) -> Indices:
        """Return the numbers of an epoch's examples, one task after another."""
        if self.law == "roundrobin":
            return np.arange(sum(self.sizes))
        quotas, before = _quotas(self, epoch)
        stretches = [
            start + _stretch(size, begin * self._unit, count * self._unit, address(seed, "mixing", task))
            for task, (start, size, begin, count) in enumerate(
                zip(self.starts[:-1].tolist(), self.sizes, before.tolist(), quotas.tolist(), strict=True)
            )
        ]
        return np.concatenate(stretches)

    def cut(self, shuffled: Indices, batch_size: int) -> list[Indices]:
        """Return the logical batches of an epoch's examples.

        The order of tasks is drawn from the shuffled numbers themselves, which are a function of seed and epoch. With
        examples sorted by length each task's batches are shuffled too.
        """
        tasks = self.task_of(shuffled)
        if self.mixed and self.law != "round_robin":
            return cut(shuffled, batch_size)
        own = [shuffled[tasks == task] for task in range(len(self.sizes))]
        seed = int.from_bytes(blake2b(shuffled.astype("<i8").tobytes(), digest_size=8).digest(), "little") >> 1
        if self.mixed:
            rows = [cut(numbers, 1) for numbers in own]
            return cut(np.concatenate(_in_turn(rows)), batch_size)
        batches = [
            [made[i] for i in permutation(len(made), address(seed, "within", task))]
            for task, made in enumerate(cut(numbers, batch_size) for numbers in own)
        ]
        if self.law == "round_robin":
            return _in_turn(batches)
        everything = [batch for made in batches for batch in made]
        return [everything[i] for i in permutation(len(everything), address(seed, "tasks"))]

    @property
    def _unit(self) -> int:
        """Examples of a unit."""
        return 1 if self.mixed else self.batch_size

    @property
    def _own_units(self) -> NDArray[np.float64]:
        """Units of a pass over each task [T]."""
        return np.ceil(np.array(self.sizes, np.float64) / self._unit)


def _check(mixing: Mixing) -> None:
    """Raise UsageError for settings that contradict one another."""
    tasks, law, stop = len(mixing.sizes), mixing.law, mixing.stop
    if not tasks or min(mixing.sizes) < 1 or mixing.batch_size < 1:
        raise UsageError(f"every task and every batch needs an example, found tasks of {list(mixing.sizes)} examples")
    if law not in LAWS or (stop is not None and stop not in STOPS):
        raise UsageError(f"there is no mixing {law} until {stop}; expected {', '.join(LAWS)}; {', '.join(STOPS)}")
    if law == "roundrobin" and stop is not None:
        raise UsageError("roundrobin is one pass over all tasks and takes no stop; proportional does")
    if law == "annealed" and (stop in ("first_exhausted", "all_exhausted") or not mixing.epochs):
        raise UsageError("annealed shares change from epoch to epoch: it needs epochs, and no stop but updates")
    if (law == "weights") != (mixing.weights is not None):
        raise UsageError("weights belong to the law weights, one a task")
    if mixing.weights is not None and (
        len(mixing.weights) != tasks
        or not all(0 <= weight < float("inf") for weight in mixing.weights)
        or not any(mixing.weights)
    ):
        raise UsageError(f"expected {tasks} weights, one a task, not all of them 0, found {list(mixing.weights)}")
    if not mixing.temperature > 0:
        raise UsageError(f"the temperature is above 0, found {mixing.temperature}")
    if (stop == "updates") != (mixing.units is not None) or (mixing.units is not None and mixing.units < 1):
        raise UsageError("stop updates needs the number of logical batches of an epoch, 1 or more, and no other does")


def _length(mixing: Mixing) -> int:
    """Return the units of an epoch of a fixed length."""
    own = mixing._own_units
    if mixing.units is not None:
        return mixing.units * (mixing.batch_size if mixing.mixed else 1)
    if mixing.law == "balanced":
        return len(own) * round(float(own.mean()))
    length = int(own.sum())
    # in turn every task comes as often
    return -(-length // len(own)) * len(own) if mixing.law == "round_robin" else length


@lru_cache(maxsize=64)
def _quotas(mixing: Mixing, epoch: int) -> tuple[Indices, Indices]:
    """Return the units of each task in an epoch, and in all epochs before it [T]."""
    own, shares = mixing._own_units, mixing.shares(epoch)
    if mixing.stop in ("first_exhausted", "all_exhausted"):
        coming = shares > 0
        passes = own[coming] / shares[coming]
        if mixing.stop == "all_exhausted":
            quotas = np.ceil(shares * passes.max() - _SLACK)
        else:
            quotas = np.maximum(np.floor(shares * passes.min() + _SLACK), 1)
        found = np.where(coming, quotas, 0).astype(np.int64)
        return found, found * epoch
    length = _length(mixing)
    before = np.zeros(len(own), np.int64)
    due = np.zeros(len(own))
    found = before
    for number in range(epoch + 1):
        before = before + found
        due += mixing.shares(number) * length
        # what is owed since the first epoch, so that a share of less than a unit an epoch comes to its turn
        found = _rounded(due - before, length)
    return found, before


def _rounded(wanted: NDArray[np.float64], total: int) -> Indices:
    """Return whole numbers, none below 0, that sum to a total and are next to those wanted."""
    floors = np.maximum(np.floor(wanted + _SLACK), 0).astype(np.int64)
    missing = total - int(floors.sum())
    rest = wanted - floors
    for _ in range(missing):
        first = int(rest.argmax())
        floors[first] += 1
        rest[first] -= 1
    for _ in range(-missing):
        last = int(np.where(floors > 0, rest, np.inf).argmin())
        floors[last] -= 1
        rest[last] += 1
    return floors


def _stretch(size: int, begin: int, count: int, seed: int) -> Indices:
    """Return a stretch of one permutation of a task after another."""
    rounds = range(begin // size, -(-(begin + count) // size))
    if not count:
        return np.zeros(0, np.int64)
    drawn = np.concatenate([permutation(size, address(seed, passed)) for passed in rounds])
    return drawn[begin - rounds.start * size :][:count]


def _in_turn(batches: Sequence[Sequence[Indices]]) -> list[Indices]:
    """Return one batch of each task, then another of each; those that have none left are passed over."""
    longest = max(map(len, batches))
    return [made[number] for number in range(longest) for made in batches if number < len(made)]
