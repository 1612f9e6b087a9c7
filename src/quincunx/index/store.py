"""A store: vectors of a corpus on disk with the documents' ids and texts, in shards; opened once all are there.

Nothing but sizes is held in memory; what is read is read at its place. N documents, D width.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError, UsageError
from quincunx.index.filling import FORMAT, MANIFEST, PLAN, read_plan, shard_name, texts_path
from quincunx.index.shards import STORED, TEXT_OFFSETS, VECTORS, ShardFile, check_file

FIT = ("weights", "tokenizer", "similarity", "dimension")
"""What two sets of vectors must have in common to be compared."""

_NAME = re.compile(r"shard-[0-9]{5,}\.(safetensors|jsonl)")
_KEPT = 4
"""Shards of which ids and places of texts are held, the latest."""


class Store:
    """Vectors of a corpus with ids, and texts where they were kept.

    Attributes:
        folder: Where it is.
        made: How the vectors were made: `weights`, `tokenizer`, `side`, `prompt`, `max_length`, `truncate`, `pooling`,
            `similarity` (`cosine`: they have length 1; `dot`), `dimension`, `dtype`, `precision`, `backend`, `mode`.
        corpus: What they were made of: its name, form and size.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Take a manifest that was found sound; `Store.open` makes sure of that."""
        self.folder = folder
        self.made: Mapping[str, Any] = manifest["made"]
        self.corpus: Mapping[str, Any] = manifest["corpus"]
        self.has_texts: bool = manifest["texts"]
        self._entries: Sequence[Mapping[str, Any]] = manifest["shards"]
        self._starts: list[int] = [0, *np.cumsum([entry["rows"] for entry in self._entries]).tolist()]
        self._files: dict[int, ShardFile] = {}
        self._ids: OrderedDict[int, list[str]] = OrderedDict()
        self._places: OrderedDict[int, NDArray[np.int64]] = OrderedDict()

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = False) -> Store:
        """Return the store of a folder.

        Args:
            folder: What `quincunx encode` wrote.
            verify: Read all of it and compare with the hashes that it was written with; without, sizes are compared.

        Raises:
            UsageError: There is no store, or one that is not whole yet.
            DataError: The manifest is damaged or points outside the folder; a shard is missing, cut or changed.
        """
        folder = Path(folder).expanduser()
        path = folder / MANIFEST
        if not path.exists():
            raise _absent(folder)
        manifest = _read(path)
        store = cls(folder, manifest)
        for entry in manifest["shards"]:
            check_file(folder / entry["file"], entry["bytes"])
            if store.has_texts:
                check_file(folder / entry["texts"]["file"], entry["texts"]["bytes"])
        if verify:
            store.verify()
        return store

    def verify(self) -> None:
        """Read every shard and compare it with the hash it was written with; DataError names one that differs."""
        for number, entry in enumerate(self._entries):
            file = self._file(number)
            expected = {"rows": str(entry["rows"]), "hash": entry["hash"]}
            if self.has_texts:
                kept = entry["texts"]
                expected |= {"texts_bytes": str(kept["bytes"]), "texts_hash": kept["hash"]}
            if file.facts != expected:
                raise DataError(f"{file.path} has another header than the manifest of {self.folder} says")
            file.check()
            if self.has_texts:
                check_file(self.folder / entry["texts"]["file"], entry["texts"]["bytes"], entry["texts"]["hash"])

    def __len__(self) -> int:
        """N."""
        return self._starts[-1]

    @property
    def width(self) -> int:
        """D."""
        return int(self.made["dimension"])

    @property
    def ids(self) -> Ids:
        """The documents' ids [N], read as they are asked for; best in their order."""
        return Ids(self)

    @property
    def bytes(self) -> int:
        """What the vectors and ids take on disk."""
        return sum(entry["bytes"] for entry in self._entries)

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Return the vectors `[n, D]` of the documents from `start` to `stop`, as float32; as slices are cut."""
        start, stop, _ = slice(start, stop).indices(len(self))
        found = np.empty((max(0, stop - start), self.width), np.float32)
        at = 0
        for number, low, high in self._spans(start, stop):
            found[at : at + high - low] = self._file(number).read(VECTORS, low, high)
            at += high - low
        return found

    def blocks(self, rows: int = 65_536) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (number of the first, vectors `[n, D]`) for all documents in order, at most `rows` at once."""
        if rows < 1:
            raise ValueError(f"blocks of {rows} rows: expected 1 or more")
        for start in range(0, len(self), rows):
            yield start, self.read(start, start + rows)

    def text(self, index: int) -> str:
        """Return a document's text; IndexError beyond the last, UsageError where texts were not kept."""
        number, row = self._place(index)
        begin, end = self._offsets(number)[row : row + 2].tolist()
        path = self._texts(number)
        try:
            with path.open("rb") as file:
                file.seek(begin)
                line = file.read(end - begin)
            return json.loads(line)["text"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path} has no text at byte {begin:,} ({error}): the store is damaged") from error

    def texts(self) -> Iterator[str]:
        """Yield the documents' texts in order; UsageError where they were not kept, DataError for a damaged line."""
        for number, entry in enumerate(self._entries):
            path, count = self._texts(number), 0
            try:
                with path.open("rb") as file:
                    for line in file:
                        yield json.loads(line)["text"]
                        count += 1
            except (OSError, ValueError, KeyError) as error:
                raise DataError(f"{path}:{count + 1}: no text ({error}): the store is damaged") from error
            if count != entry["rows"]:
                raise DataError(f"{path} has {count:,} texts for {entry['rows']:,} documents: the store is damaged")

    def _file(self, number: int) -> ShardFile:
        if number not in self._files:
            entry = self._entries[number]
            file = ShardFile.open(self.folder / entry["file"])
            if (file.rows, file.width, file.dtype) != (entry["rows"], self.width, self.made["dtype"]):
                raise DataError(
                    f"{file.path} holds {file.rows:,} vectors of width {file.width} as {file.dtype}; the manifest says "
                    f"{entry['rows']:,} of {self.width} as {self.made['dtype']}: it is of another store"
                )
            self._files[number] = file
        return self._files[number]

    def _place(self, index: int) -> tuple[int, int]:
        """Return the shard of a document and its row there; IndexError beyond the last."""
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        return number, place - self._starts[number]

    def _spans(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield (shard, first row, last row + 1) of what lies between two documents."""
        for number, (low, high) in enumerate(pairwise(self._starts)):
            if max(low, start) < min(high, stop):
                yield number, max(low, start) - low, min(high, stop) - low

    def _ids_of(self, number: int) -> list[str]:
        return _kept(self._ids, number, lambda: self._file(number).ids())

    def _offsets(self, number: int) -> NDArray[np.int64]:
        self._texts(number)
        return _kept(self._places, number, lambda: self._file(number).read(TEXT_OFFSETS))

    def _texts(self, number: int) -> Path:
        if not self.has_texts:
            raise UsageError(f"{self.folder} was made with --no-texts: its texts are not there; encode without that")
        return self.folder / self._entries[number]["texts"]["file"]


class Ids(Sequence[str]):
    """The ids of a store's documents, in their order."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        number, row = self._store._place(index)
        return self._store._ids_of(number)[row]

    def __iter__(self) -> Iterator[str]:
        for number in range(len(self._store._entries)):
            yield from self._store._ids_of(number)


def misfits(made: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return what keeps two sets of vectors from being compared, in words; nothing where they fit one another."""
    return [f"{name} {made.get(name)} and {other.get(name)}" for name in FIT if made.get(name) != other.get(name)]


def _kept(held: OrderedDict[int, Any], number: int, read: Any) -> Any:
    if number not in held:
        held[number] = read()
        if len(held) > _KEPT:
            held.popitem(last=False)
    return held[number]


def _absent(folder: Path) -> UsageError:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        return UsageError(f"{folder} {what}; expected a folder that `quincunx encode` wrote")
    if (folder / PLAN).exists():
        plan = read_plan(folder / PLAN)
        there = sum((folder / shard_name(number)).exists() for number in range(len(plan.parts)))
        return UsageError(
            f"{folder} is not whole yet: {there} of {len(plan.parts)} shards are there. Run the same `quincunx encode` "
            "again, which makes the others"
        )
    return UsageError(f"{folder} holds no store: there is no {MANIFEST}; `quincunx encode` makes one")


def _read(path: Path) -> Mapping[str, Any]:
    """Return a manifest of which every entry is known to be there and of its kind."""
    read_plan(path)  # what it has in common with a plan
    manifest = json.loads(path.read_bytes())
    damage = f"{path} is damaged"
    try:
        if manifest["format"] != FORMAT or manifest["made"]["dtype"] not in STORED:
            raise DataError(f"{damage}: {manifest['made']['dtype']!r} is no form of vectors")
        for number, entry in enumerate(manifest["shards"]):
            names = [entry["file"], *([entry["texts"]["file"]] if manifest["texts"] else [])]
            for name in names:
                if not isinstance(name, str) or not _NAME.fullmatch(name):
                    raise DataError(
                        f"{path} names {name!r} as a file of shard {number}: outside its folder, or no shard's name. "
                        "It is not as `quincunx encode` wrote it, and nothing is read"
                    )
            expected = [shard_name(number), *([texts_path(Path(shard_name(number))).name] if manifest["texts"] else [])]
            if names != expected or min(entry["rows"], entry["bytes"]) < 0:
                raise DataError(f"{damage}: shard {number} is {names}, expected {expected}")
        rows = sum(entry["rows"] for entry in manifest["shards"])
        if rows != manifest["count"] or not int(manifest["made"]["dimension"]) > 0:
            raise DataError(f"{damage}: its shards have {rows:,} documents, and it says {manifest['count']:,}")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{damage} ({type(error).__name__}: {error})") from error
    return manifest
