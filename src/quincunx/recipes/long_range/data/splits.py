"""The three splits of an experiment, and what every task's loader does alike: counts, carving, checks.

A loader is `load(settings, limit, explicit, on_progress) -> Splits`; `TASKS` in `quincunx.recipes.long_range.tasks`
says where each task's is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Protocol

import numpy as np

from quincunx.data.order import permutation
from quincunx.errors import DataError
from quincunx.recipes.long_range.data.examples import Examples, SkippedRow
from quincunx.recipes.long_range.tasks import TASKS
from quincunx.seeds import address

SPLITS = ("train", "dev", "test")

Progress = Callable[[int, int], None]
"""Called with the number of examples done and wanted."""


class DataSettings(Protocol):
    """The `data` section of the config, as far as loaders need it."""

    @property
    def path(self) -> str | None: ...
    @property
    def cache(self) -> str | None: ...
    @property
    def train(self) -> int | None: ...
    @property
    def dev(self) -> int | None: ...
    @property
    def test(self) -> int | None: ...
    @property
    def dev_from(self) -> str: ...
    @property
    def min_length(self) -> int: ...
    @property
    def max_length(self) -> int: ...
    @property
    def max_depth(self) -> int: ...
    @property
    def max_arguments(self) -> int: ...
    @property
    def resolution(self) -> int: ...
    @property
    def contour_length(self) -> int | None: ...
    @property
    def distractors(self) -> int | None: ...
    @property
    def seed(self) -> int: ...


Place = Callable[[int], str]
"""Example number -> where it came from (file and row), for messages."""


@dataclass(frozen=True)
class Splits:
    """The data of an experiment, and what is to be said about it."""

    train: Examples
    dev: Examples
    test: Examples
    notes: list[str] = field(default_factory=list)
    """Sentences for the terminal and the report."""
    skipped: list[SkippedRow] = field(default_factory=list)
    """Rows of the files that were not used."""
    places: Mapping[str, Place] = field(default_factory=dict[str, Place])
    """By split: where an example came from."""
    fingerprints: Mapping[str, str] = field(default_factory=dict[str, str])
    """Split -> SHA-256 of the examples in use."""

    @classmethod
    def from_parts(
        cls, parts: Mapping[str, Examples], notes: Sequence[str] = (), skipped: Sequence[SkippedRow] = ()
    ) -> Splits:
        """Return splits from a mapping with the keys of SPLITS."""
        return cls(parts["train"], parts["dev"], parts["test"], list(notes), list(skipped))

    def of(self, split: str) -> Examples:
        """Return the examples of `train`, `dev` or `test`."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[split]

    def place(self, split: str, index: int) -> str:
        """Return where an example came from."""
        place = self.places.get(split)
        return place(index) if place else f"{split} example {index + 1}"


def load_splits(
    task: str,
    data: DataSettings,
    limit: int | None = None,
    explicit: Collection[str] = (),
    on_progress: Progress | None = None,
) -> Splits:
    """Return the splits that the `data` section describes for a task.

    Args:
        task: A word of `TASKS`.
        data: The section.
        limit: At most so many examples of each split.
        explicit: Dotted paths of the keys that were set.
        on_progress: Told how preparing data goes on.

    Raises:
        DataError: Files missing, not readable, or holding fewer rows than a count that was set; generation impossible;
            cache not writable.
    """
    module, function = TASKS[task].loader.split(":")
    splits: Splits = getattr(import_module(module), function)(data, limit, explicit, on_progress)
    return replace(splits, fingerprints={split: splits.of(split).fingerprint() for split in SPLITS})


def check(splits: Splits, classes: int, max_length: int, overlong: str) -> list[str]:
    """Return sentences on sequences that will be cut, by split.

    Raises:
        DataError: A label that is no class; with `overlong` `error`, a sequence of more than `max_length` tokens.
    """
    notes: list[str] = []
    for split in SPLITS:
        examples = splits.of(split)
        beyond = np.flatnonzero(examples.labels >= classes)
        if len(beyond):
            raise DataError(
                f"{splits.place(split, int(beyond[0]))}: the label is {examples.labels[beyond[0]]}, but "
                f"encoder.num_classes is {classes}: labels go from 0 to {classes - 1}"
            )
        lengths = examples.lengths
        long = np.flatnonzero(lengths > max_length)
        if not len(long):
            continue
        where = f"{splits.place(split, int(long[0]))} has {lengths[long[0]]:,} tokens"
        if overlong == "error":
            raise DataError(
                f"{where}, encoder.max_seq_len is {max_length:,} ({len(long):,} of {len(examples):,} examples are too "
                "long): raise encoder.max_seq_len, or set data.overlong=truncate to cut them"
            )
        notes.append(f"{len(long):,} of {len(examples):,} {split} examples are cut to {max_length:,} tokens.")
    return notes


def counted(
    found: int, split: str, wanted: int | None, limit: int | None, explicit: Collection[str], where: str
) -> tuple[int, str | None]:
    """Return how many of the examples found in a file are used, and a sentence where that is not all or not enough.

    DataError when a count that was set exceeds what is there.
    """
    if wanted is not None and found < wanted:
        if f"data.{split}" in explicit:
            raise DataError(f"{where} has {found:,} rows, data.{split} asks for {wanted:,}; lower data.{split}")
        return min(found, limit or found), f"{where} has {found:,} rows: all are used (data.{split} is unset)."
    count = min(number for number in (found, wanted, limit) if number is not None)
    return count, f"{where}: the first {count:,} rows are used." if count < found else None


def carve(train: Examples, count: int, seed: int, name: str) -> tuple[Examples, Examples, np.ndarray, np.ndarray]:
    """Return training examples without `count` of them, those, and both parts' places in the whole, ascending.

    Which ones is a permutation by (seed, name): the same on every platform. DataError when nothing would be left.
    """
    if not 0 < count < len(train):
        raise DataError(f"cannot set {count:,} of {len(train):,} training examples apart as {name}: set data.{name}")
    order = permutation(len(train), address(seed, "carve", name))
    chosen, rest = np.sort(order[:count]), np.sort(order[count:])
    return train.pick(rest), train.pick(chosen), rest, chosen
