"""A collection folder: pictures, and examples of one or several tasks that ask about them.

    pictures.jsonl          one picture a line
    <task>/<split>.jsonl    one example a line; splits are called as their files
    features/<name>.arrow   stored features, by picture id

Reading checks every line once and keeps places, not objects. P pictures, E examples.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from hashlib import blake2b, sha256
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray

from quincunx.data.partial import BeingWritten, finish, partial_file
from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.lines import Lines, Problems, json_lines, read_lines
from quincunx.recipes.vision_language.data.record import TASKS, Example, Picture
from quincunx.recipes.vision_language.data.rows import (
    example_of,
    known_example,
    picture_of,
    row_of_example,
    row_of_picture,
)
from quincunx.recipes.vision_language.data.task_keys import boxes_asked, check_within
from quincunx.runs.files import to_json

PICTURES = "pictures.jsonl"
FEATURES = "features"

_MOST_SHOWN = 20
_SPLIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_EXPECTED_PICTURES = 'one picture a line: {"id": ..., "width": ..., "height": ..., "file": ..., "regions": [...]}'
_EXPECTED_EXAMPLES = 'one example a line: {"uid": ..., "pictures": [ids], "text": ..., "answers": [...], ...}'

Tasks = Mapping[tuple[str, str], Iterable[Example]]
"""(task, split) -> its examples."""


class NoSuchSplit(DataError):
    """The collection is there, but not this split of this task."""


class Names:
    """Ids and where they are: sixteen bytes an id. Two ids with one hash of 64 bits are taken for the same."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]

    def places(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return where each id stands, given its hash; -1 where it does not."""
        if not len(self._sorted):
            return np.full(len(hashes), -1, np.int64)
        found = np.minimum(np.searchsorted(self._sorted, hashes), len(self._sorted) - 1)
        return np.where(self._sorted[found] == hashes, self._order[found], -1)

    def place(self, name: str) -> int:
        """Return where an id stands; -1 where it does not."""
        key = np.uint64(_hash(name))
        found = int(np.searchsorted(self._sorted, key))
        return int(self._order[found]) if found < len(self._sorted) and self._sorted[found] == key else -1

    def repeats(self) -> list[tuple[int, int]]:
        """Return (place of the first, place of a later one) for every id that occurs again."""
        same = np.flatnonzero(self._sorted[1:] == self._sorted[:-1]) + 1
        firsts = np.searchsorted(self._sorted, self._sorted[same])
        return sorted(zip(self._order[firsts].tolist(), self._order[same].tolist(), strict=True), key=lambda p: p[1])


class Pictures(Mapping[str, Picture]):
    """The pictures of a collection by id, in the order of the file."""

    def __init__(self, path: Path) -> None:
        """Read and check `pictures.jsonl`; DataError names every bad line."""
        hashes, sizes, regions = array("Q"), array("i"), array("i")

        def check(number: int, row: Mapping[str, Any]) -> None:
            hashes.append(_hash(str(row.get("id"))))
            sizes.extend((0, 0))
            regions.append(0)
            picture = picture_of(row)
            sizes[-2:] = array("i", (picture.width, picture.height))
            regions[-1] = len(picture.regions)

        problems = Problems(path)
        self._lines = read_lines(path, check, problems)
        self._names = Names(np.array(hashes, np.uint64))
        problems.settle(_EXPECTED_PICTURES)
        _refuse_repeats(self._names, self._lines, "id")
        self.sizes = np.array(sizes, np.int32).reshape(-1, 2)
        """Width and height of each picture [P, 2], in pixels."""
        self.regions = np.array(regions, np.int32)
        """How many regions each picture has [P]."""
        self.fingerprint = self._lines.fingerprint
        """SHA-256 of the file."""

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[str]:
        return (str(self._lines[i]["id"]) for i in range(len(self)))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.place(name) >= 0

    def __getitem__(self, name: str) -> Picture:
        """Return the picture with this id; KeyError where there is none."""
        place = self.place(name)
        if place < 0:
            raise KeyError(name)
        return self.at(place)

    def at(self, place: int) -> Picture:
        """Return the picture on this place of the file, from 0."""
        return picture_of(self._lines[place])

    def file_at(self, place: int) -> tuple[str, str | None]:
        """Return the id and the file of the picture on this place, without looking at its regions."""
        row = self._lines[place]
        return str(row["id"]), row.get("file")

    def places_of(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Return the places of pictures, given their ids; -1 where there is none."""
        return self.places(np.array([_hash(name) for name in names], np.uint64))

    def place(self, name: str) -> int:
        """Return the place of a picture in the file, from 0; -1 for an id that is not there."""
        return self._names.place(name)

    def places(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the places of pictures, given the hashes of their ids; -1 where there is none."""
        return self._names.places(hashes)


class Examples(Sequence[Example]):
    """The E examples of one split of one task, checked, in the order of the file."""

    def __init__(self, path: Path, task: str, pictures: Pictures) -> None:
        """Read and check a file of examples; DataError names every bad line."""
        uids, asked, ends = array("Q"), array("Q"), array("q", [0])

        def check(number: int, row: Mapping[str, Any]) -> None:
            uids.append(_hash(str(row.get("uid"))))
            try:
                example = example_of(row, task)
                asked.extend(_hash(name) for name in example.pictures)
                _check_pictures(example, pictures)
            finally:
                ends.append(len(asked))

        problems = Problems(path)
        self.task = task
        self.path = path
        self._lines = read_lines(path, check, problems)
        problems.settle(_EXPECTED_EXAMPLES)
        _refuse_repeats(Names(np.array(uids, np.uint64)), self._lines, "uid")
        self.fingerprint = self._lines.fingerprint
        """SHA-256 of the file."""
        self.picture_places = pictures.places(np.array(asked, np.uint64))
        """The places of all examples' pictures in the collection's file, one example's after another's."""
        self.picture_offsets = np.array(ends, np.int64)
        """Where each example's begin in `picture_places`, and the end [E + 1]."""

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return known_example(self._lines[index], self.task)


class Collection:
    """A collection folder; examples are read when they are asked for."""

    def __init__(self, folder: str | Path) -> None:
        """Open a folder and read its pictures.

        Raises:
            DataError: There is no such folder, it holds no `pictures.jsonl`, or that has bad lines.
        """
        self.folder = Path(folder).expanduser()
        if not (self.folder / PICTURES).is_file():
            what = "holds no" if self.folder.is_dir() else "is no folder with a"
            raise DataError(
                f"{self.folder} {what} {PICTURES}; expected a collection: {PICTURES} and <task>/<split>.jsonl, as "
                "quincunx data shapeworld and quincunx data import write them"
            )

    @cached_property
    def pictures(self) -> Pictures:
        """The pictures by id."""
        return Pictures(self.folder / PICTURES)

    @cached_property
    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Task -> the splits that there are of it, of the tasks that there are."""
        found = {task: sorted(path.stem for path in (self.folder / task).glob("*.jsonl")) for task in TASKS}
        return {task: tuple(splits) for task, splits in found.items() if splits}

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The names of the stored features that there are."""
        return tuple(sorted(path.stem for path in (self.folder / FEATURES).glob("*.arrow")))

    def feature_file(self, name: str) -> Path:
        """Return where stored features of this name belong."""
        return self.folder / FEATURES / f"{name}.arrow"

    def examples(self, task: str, split: str) -> Examples:
        """Return the examples of a split of a task.

        Raises:
            UsageError: A task that is none.
            NoSuchSplit: The collection has no such split of it; the text says what it has.
            DataError: The file has bad lines, or asks about pictures that are not there.
        """
        check_task_and_split(task, split)
        path = self.folder / task / f"{split}.jsonl"
        if not path.is_file():
            there = "; ".join(f"{name}: {', '.join(splits)}" for name, splits in self.splits.items())
            raise NoSuchSplit(f"{self.folder} has no split {split} of {task}; there are: {there or 'no tasks at all'}")
        return Examples(path, task, self.pictures)

    def file_of(self, picture: Picture | str) -> Path:
        """Return the file of a picture.

        Raises:
            DataError: There is no such picture, it has no file, or its file is not there.
        """
        found = self.pictures.get(picture) if isinstance(picture, str) else picture
        listed = self.folder / PICTURES
        if found is None:
            raise DataError(f"{listed} has no picture {picture}")
        if found.file is None:
            raise DataError(f"{listed}: picture {found.id} has no file, only features can be had of it")
        path = self.folder / found.file
        if not path.is_file():
            raise DataError(f"{listed}: the file of picture {found.id}, {path}, does not exist")
        return path

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what the collection says: its pictures, tasks and splits, without pixels and features."""
        digest = sha256(self.pictures.fingerprint.encode())
        for task, splits in self.splits.items():
            for split in splits:
                content = sha256((self.folder / task / f"{split}.jsonl").read_bytes()).hexdigest()
                digest.update(f"\n{task}/{split} {content}".encode())
        return digest.hexdigest()


def check_task_and_split(task: str, split: str) -> None:
    """Raise UsageError for a task that is none, or a split whose name could be no file's."""
    if task not in TASKS:
        raise UsageError(f"there is no task {task}; expected one of {', '.join(TASKS)}")
    if not _SPLIT.fullmatch(split):
        raise UsageError(f"a split cannot be called {split!r}; expected letters, digits, _ . or -")


def write_collection(folder: str | Path, pictures: Iterable[Picture], tasks: Tasks, *, add: bool = False) -> int:
    """Write a collection folder, each file whole or not at all, pictures first; return how many pictures it has.

    Args:
        folder: Made if missing.
        pictures: Taken one by one, each id once.
        tasks: Examples by task and split, taken one by one; the splits must be new.
        add: The folder may hold a collection: its pictures stay, those given again are completed by what they lack.

    Raises:
        UsageError: The folder holds a collection and nothing is to be added, or it has such a split already.
        DataError: A picture or example that could not be read back, an id that comes twice, a picture of another size
            than before, a folder that cannot be written. The files of splits before the bad one are there, whole.
    """
    folder = Path(folder).expanduser()
    for task, split in tasks:
        check_task_and_split(task, split)
        if (path := folder / task / f"{split}.jsonl").exists():
            raise UsageError(f"{path} is already there; choose another folder or split, or delete that file")
    present = (folder / PICTURES).exists()
    if present and not add:
        raise UsageError(f"{folder} already holds a collection; choose another folder")
    before = Collection(folder).pictures if present else None
    count = _write_pictures(folder / PICTURES, pictures, before)
    written = Pictures(folder / PICTURES)
    for (task, split), examples in tasks.items():
        _write_examples(folder / task / f"{split}.jsonl", task, examples, written)
    return count


def _write_pictures(path: Path, pictures: Iterable[Picture], before: Pictures | None) -> int:
    """Write those given, completed by what was known of them, then those known that were not given."""
    given = set[str]()
    with _whole(path) as file:
        for picture in pictures:
            if picture.id in given:
                raise DataError(f"{path}: picture {picture.id} is to be written twice")
            given.add(picture.id)
            known = before.get(picture.id) if before is not None else None
            file.write(_picture_line(picture if known is None else _completed(known, picture, path), path))
        count = len(given)
        if before is not None:
            for row in json_lines(path):
                if str(row[1]["id"]) not in given:
                    file.write(to_json(row[1]) + b"\n")
                    count += 1
    return count


def _write_examples(path: Path, task: str, examples: Iterable[Example], pictures: Pictures) -> None:
    seen = set[int]()
    with _whole(path) as file:
        for number, example in enumerate(examples, start=1):
            try:
                if example.task != task:
                    raise ValueError(f"task: {example.task}; expected {task}")
                _check_pictures(example_of(row_of_example(example), task), pictures)
            except ValueError as error:
                raise DataError(f"{path}: example {number}, {example.uid}: {error}") from None
            if (key := _hash(example.uid)) in seen:
                raise DataError(f"{path}: example {number}: uid {example.uid} was there before")
            seen.add(key)
            file.write(to_json(row_of_example(example)) + b"\n")


def _picture_line(picture: Picture, path: Path) -> bytes:
    row = row_of_picture(picture)
    try:
        picture_of(row)
    except ValueError as error:
        raise DataError(f"{path}: picture {picture.id}: {error}") from None
    return to_json(row) + b"\n"


def _completed(known: Picture, given: Picture, path: Path) -> Picture:
    """Return what both say of a picture, the earlier where they differ."""
    if (known.width, known.height) != (given.width, given.height):
        raise DataError(
            f"{path}: picture {known.id} has {known.width} x {known.height} pixels there, and {given.width} x "
            f"{given.height} where it is added; is it another picture?"
        )
    return Picture(known.id, known.width, known.height, known.file or given.file, known.regions or given.regions)


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that stands under its name once it is whole; DataError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(path, wait=False) as file:
            yield file
            finish(file, path)
    except BeingWritten:
        raise DataError(f"another process is writing {path}; wait for it, or choose another folder") from None
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from None


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _refuse_repeats(names: Names, lines: Lines, key: str) -> None:
    repeats = names.repeats()
    shown = "".join(
        f"\n  {lines.path}:{lines.line(again)}: {key}: {lines[again].get(key)} was there before, on line "
        f"{lines.line(first)}"
        for first, again in repeats[:_MOST_SHOWN]
    )
    if repeats:
        raise DataError(f"{lines.path}: {len(repeats):,} of the {key}s come again:{shown}\nExpected each once.")


def _check_pictures(example: Example, pictures: Pictures) -> None:
    """Raise ValueError where a picture is not in the collection, or a box reaches out of it."""
    for i, name in enumerate(example.pictures):
        if name not in pictures:
            raise ValueError(f"pictures[{i}]: there is no picture {name} in {PICTURES}")
    if example.task == "refcoco":
        width, height = pictures.sizes[pictures.place(example.pictures[0])].tolist()
        for key, box in boxes_asked(example):
            check_within(box, width, height, key)
