"""Examples of a task by number: drawn as they are asked for, or read from a folder that was written before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quincunx.data.order import counter_hash
from quincunx.errors import DataError, UsageError
from quincunx.recipes.compression.data.tasks.manifest import FILE_NAMES, SET, SPLITS
from quincunx.recipes.compression.data.tasks.task import ANSWER, END, Sample, Task
from quincunx.recipes.compression.data.tasks.tasks import task_named
from quincunx.seeds import address

IGNORED = -100
"""Target where nothing is to be predicted."""


class TaskSettings(Protocol):
    """The section of the config; see `recipes/compression/config_generated.py`."""

    @property
    def name(self) -> str: ...
    @property
    def max_length(self) -> int: ...
    @property
    def train(self) -> int: ...
    @property
    def dev(self) -> int: ...
    @property
    def test_min_length(self) -> int | None: ...
    @property
    def test_max_length(self) -> int: ...
    @property
    def test_per_length(self) -> int: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class TaskExample:
    """An input with its answer.

    As a sequence it is the input, then a place for each symbol of the answer, which is predicted there:

        tokens   4 2 1 ? ? ?        targets  . . . 1 2 4        (a dot is IGNORED)
    """

    task: Task
    input: str
    output: str

    @property
    def slots(self) -> int:
        """Places for the answer, known from the input's length alone; at least as many as the answer has symbols."""
        return self.task.slots(len(self.input))

    @property
    def tokens(self) -> NDArray[np.uint8]:
        """Token ids of the input and the empty places [S]."""
        return self.task.alphabet.encode(self.input + ANSWER * self.slots)

    @property
    def targets(self) -> NDArray[np.int64]:
        """What to predict at each token [S]: the answer in its places, IGNORED elsewhere and after the answer's end."""
        targets = np.full(len(self.input) + self.slots, IGNORED, np.int64)
        targets[len(self.input) : len(self.input) + len(self.output)] = self.task.alphabet.encode(self.output)
        return targets


class Samples(Protocol):
    """Inputs and answers by number."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Sample: ...


@dataclass(frozen=True, eq=False)
class Drawn:
    """Samples that are drawn anew each time, alike each time."""

    task: Task
    asked: NDArray[np.int64]
    """Length that is asked of the task for each example [N]."""
    seed: int

    def __len__(self) -> int:
        return len(self.asked)

    def __getitem__(self, index: int, /) -> Sample:
        return self.task.sample(int(counter_hash(np.array(index), self.seed)), int(self.asked[index]))


@dataclass(frozen=True, eq=False)
class TaskSource:
    """Examples by number: a `quincunx.data.loader.Source`."""

    task: Task
    samples: Samples
    input_lengths: NDArray[np.int64]
    """Symbols of each input [N]."""

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, places for the answer included [N]."""
        kinds, places = np.unique(self.input_lengths, return_inverse=True)
        whole = [length + self.task.slots(length) for length in kinds.tolist()]
        return np.array(whole, np.int64)[places]

    def __len__(self) -> int:
        return len(self.input_lengths)

    def __getitem__(self, index: int) -> TaskExample:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        return TaskExample(self.task, *self.samples[index])


@dataclass(frozen=True)
class TaskSplits:
    """The data of an experiment, and what is to be said about it."""

    task: Task
    sources: Mapping[str, TaskSource]
    """`train`, `dev` and `test` -> examples."""
    fingerprint: str
    """Changes whenever an example may."""
    notes: list[str] = field(default_factory=list[str])
    """Sentences for the terminal and the report."""


def request_of(settings: TaskSettings) -> dict[str, Any]:
    """Return everything that determines the examples; UsageError for settings without meaning."""
    task = task_named(settings.name)
    first = settings.test_min_length or settings.max_length + 1
    for name, value in (("max_length", settings.max_length), ("test_min_length", first)):
        if value < task.shortest:
            raise UsageError(f"{name} is {value}; {task.name} has inputs of {task.shortest} symbols at least")
    if settings.test_max_length < first:
        raise UsageError(f"test_max_length is {settings.test_max_length}; test inputs begin at {first} symbols")
    for name in ("train", "dev", "test_per_length"):
        if getattr(settings, name) < 1:
            raise UsageError(f"{name} is {getattr(settings, name)}; expected at least 1 example")
    return {
        "task": task.name,
        "max_length": settings.max_length,
        "train": settings.train,
        "dev": settings.dev,
        "test_lengths": [first, settings.test_max_length],
        "test_per_length": settings.test_per_length,
        "seed": settings.seed,
    }


def drawn(request: Mapping[str, Any]) -> dict[str, TaskSource]:
    """Return the examples that `request_of` describes, by split.

    Lengths of `train` and `dev` are drawn alike from the task's shortest to `max_length`; `test` has
    `test_per_length` examples of each length in its range, one length after another.
    """
    task = task_named(request["task"])
    sources: dict[str, TaskSource] = {}
    for split in SPLITS:
        seed = address(request["seed"], "tasks", task.name, split)
        if split == "test":
            first, last = request["test_lengths"]
            asked = np.repeat(np.arange(first, last + 1), request["test_per_length"])
        else:
            count, most = request[split], request["max_length"]
            hashes = counter_hash(np.arange(count), address(seed, "length"))
            asked = task.shortest + (hashes % np.uint64(most - task.shortest + 1)).astype(np.int64)
        lengths = asked - (asked % 2 == 0) if task.odd else asked
        sources[split] = TaskSource(task, Drawn(task, asked, seed), lengths)
    return sources


def load(settings: TaskSettings, *, path: str | None = None, limit: int | None = None) -> TaskSplits:
    """Return the splits that a config section describes.

    Args:
        settings: The section; but for `name` without effect where `path` is given.
        path: Folder of a set that was written before.
        limit: At most so many examples of each split; of `test`, so many spread evenly over its lengths.

    Raises:
        UsageError: Settings without meaning, or a task that there is not.
        DataError: Files missing or bad.
    """
    if path is not None:
        return read(Path(path).expanduser(), settings.name, limit)
    request = request_of(settings)
    sources = {split: _limited(source, limit) for split, source in drawn(request).items()}
    task = task_named(settings.name)
    first, last = request["test_lengths"]
    note = (
        f"{task.name} ({task.level}) by rule, seed {settings.seed}: inputs of {task.shortest} to {settings.max_length} "
        f"symbols in train and dev, {first} to {last} in test; chance {task.chance:.0%}."
    )
    return TaskSplits(task, sources, _hash(json.dumps([request, limit], sort_keys=True)), [note])


def read(folder: Path, name: str, limit: int | None = None) -> TaskSplits:
    """Return the splits in a folder, whose rows are `{"input": text, "output": text}`.

    Raises:
        UsageError: A task that there is not, or another one than the manifest says.
        DataError: Files missing, not as the manifest says, or with rows that the task does not know.
    """
    task = task_named(name)
    manifest = SET.read(folder)
    if manifest and manifest.task != task.name:
        raise UsageError(f"{folder} holds the task {manifest.task}, not {task.name}")
    if manifest and (damage := SET.damage(folder, manifest.files, content=True)):
        raise DataError(f"{damage[0]}; generate the set again, or delete the manifest to read the files as they are")
    if missing := [file for file in FILE_NAMES.values() if not (folder / file).is_file()]:
        raise DataError(f"{folder} holds no {' and no '.join(missing)}; expected the set of a task")
    digest, sources = hashlib.sha256(), dict[str, TaskSource]()
    for split, file in FILE_NAMES.items():
        samples = _rows(folder / file, task)
        digest.update(json.dumps(samples).encode())
        lengths = np.array([len(sample.input) for sample in samples], np.int64)
        sources[split] = _limited(TaskSource(task, samples, lengths), limit)
    sizes = ", ".join(f"{split} {len(source):,}" for split, source in sources.items())
    return TaskSplits(task, sources, _hash(f"{digest.hexdigest()} {limit}"), [f"{folder}: {task.name}, {sizes}."])


def _rows(path: Path, task: Task) -> list[Sample]:
    samples: list[Sample] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                samples.append(_sample(json.loads(line), task))
            except (ValueError, DataError) as error:
                raise DataError(f"{path}:{number}: {error}") from None
    if not samples:
        raise DataError(f"{path} holds no rows")
    return samples


def _sample(row: Any, task: Task) -> Sample:
    """Return a row of a file as a sample, its form checked."""
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("input", "output")):
        raise DataError('expected {"input": text, "output": text}')
    sample = Sample(str(row["input"]), str(row["output"]))
    for name, text, symbols in (
        ("input", sample.input, task.input_symbols),
        ("output", sample.output, task.output_symbols),
    ):
        if not text or not set(text) <= set(symbols):
            raise DataError(f"the {name} of {task.name} is made of the symbols {symbols}, found {text[:60]!r}")
    most = task.slots(len(sample.input))
    whole = sample.output.find(END) == len(sample.output) - 1 if task.ends else len(sample.output) == most
    if not whole or len(sample.output) > most:
        what = f"up to {most} symbols that close with {END}" if task.ends else f"{most} symbols"
        raise DataError(f"expected an output of {what}, found {sample.output[:60]!r}")
    return sample


@dataclass(frozen=True, eq=False)
class _Chosen:
    """Some of other samples."""

    samples: Samples
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int, /) -> Sample:
        return self.samples[self.places[index]]


def _limited(source: TaskSource, limit: int | None) -> TaskSource:
    """Return at most so many examples, spread evenly, so that every length of a test is among them."""
    if limit is None or limit >= len(source):
        return source
    places = np.arange(limit) * len(source) // limit
    return TaskSource(source.task, _Chosen(source.samples, places.tolist()), source.input_lengths[places])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
