"""How an index comes to be and changes: `build`, `add`, `delete`, `compact`, each whole or not at all.

N documents, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError, RunError, UsageError
from quincunx.index.folder import describe, locked, new_folder, read_manifest, write_manifest
from quincunx.index.indexed import Index, mapped
from quincunx.index.kinds import check_available, make
from quincunx.index.options import BLOCK, KINDS, resolve
from quincunx.runs import to_json, write_atomically


class Source(Protocol):
    """Vectors with ids: a `Store`, `Arrays`, or what looks like them."""

    @property
    def ids(self) -> Sequence[str]:
        """Of the documents [N]."""
        ...

    @property
    def made(self) -> Mapping[str, Any]:
        """How the vectors were made; see `Store.made`."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the vectors `[n, D]` of documents `start` to `stop`."""
        ...


@dataclass(frozen=True)
class Arrays:
    """Vectors in memory as a source."""

    ids: Sequence[str]
    vectors: NDArray[np.float32]
    """`[N, D]`."""
    made: Mapping[str, Any]

    def __len__(self) -> int:
        """N."""
        return len(self.vectors)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the vectors `[n, D]` of documents `start` to `stop`."""
        return self.vectors[start:stop]


def build(
    source: Source, folder: str | Path, kind: str = "flat", *, shard_size: int | None = None, **options: int
) -> Index:
    """Make an index and return it.

    Args:
        source: The vectors, which are read block by block.
        folder: Where to; it must not be there yet, or be empty.
        kind: One of `options.KINDS`.
        shard_size: Documents of a part; None: one part. Parts are made one after another, each with a structure of its
            own, so that a part is what must fit into memory at a time; a search goes through all.
        options: The kind's: see `options.OPTIONS`.

    Raises:
        UsageError: No such kind or option, a value out of range, or something is in the folder already.
        MissingExtra: The kind needs faiss, and it is not installed.
        DataError: No documents, an id that stands twice, a number that is not finite.
        RunError: It cannot be written.
    """
    resolved = resolve(kind, options)
    check_available(kind)
    if shard_size is not None and shard_size < 1:
        raise UsageError(f"shard_size is {shard_size}: a part has 1 document or more")
    if len(source) == 0:
        raise DataError(f"{_named(source)} has no documents: there is nothing to index")
    folder = Path(folder).expanduser()
    with new_folder(folder) as unfinished:
        first = np.asarray(source.read(0, 1))
        manifest: dict[str, Any] = {
            "kind": kind,
            "options": resolved,
            "shard_size": shard_size,
            "made": dict(source.made),
            "width": int(first.shape[1]),
            "stores": _stores(source, []),
            "next": 0,
            "removed": None,
            "parts": [],
            "files": {},
        }
        _check_ids(source.ids, {}, _named(source))
        write_manifest(unfinished, _extended(unfinished, manifest, source))
    return Index.open(folder)


def add(folder: str | Path, source: Source, *, replace: bool = False) -> Index:
    """Add documents to an index, as parts of their own, and return it.

    Args:
        folder: The index.
        source: The vectors, made by the same encoder.
        replace: Whether documents whose ids are there already take the place of those; else they are an error.

    Raises:
        UsageError: The vectors do not fit, ids are there already, or another process is changing the index.
        DataError, MissingExtra, RunError: As `build`; the index is as it was.
    """
    with _changing(folder) as index:
        index.check_fits(source.made, _named(source))
        if len(source) == 0:
            raise DataError(f"{_named(source)} has no documents: there is nothing to add")
        ids = list(source.ids)
        _check_ids(ids, {}, _named(source))
        there = [name for name in ids if name in index.numbers]
        if there and not replace:
            raise UsageError(
                f"{_few(there)} of {_named(source)} {'is' if len(there) == 1 else 'are'} in {index.folder} already: "
                "nothing was added. Give --replace (replace=True) to put the new ones in their place"
            )
        manifest = _extended(index.folder, _copy(index), source)
        manifest["stores"] = _stores(source, manifest["stores"])
        if there:
            _remove(index, manifest, [index.numbers[name] for name in there])
        write_manifest(index.folder, manifest, index.manifest)
    return Index.open(folder)


def delete(folder: str | Path, ids: Iterable[str], *, ignore_missing: bool = False) -> Index:
    """Delete documents from an index and return it: they are never found again, and their ids may be added anew.

    Args:
        folder: The index.
        ids: Of the documents; the same id twice counts once.
        ignore_missing: Whether ids that are not there are passed over; else they are an error.

    Raises:
        UsageError: An id is not there, or another process is changing the index.
        RunError: It cannot be written; the index is as it was.
    """
    with _changing(folder) as index:
        wanted = list(dict.fromkeys(ids))
        missing = [name for name in wanted if name not in index.numbers]
        if missing and not ignore_missing:
            raise UsageError(
                f"{_few(missing)} {'is' if len(missing) == 1 else 'are'} not in {index.folder}: nothing was deleted. "
                "Correct the ids, or give --ignore-missing (ignore_missing=True) to pass over them"
            )
        manifest = _copy(index)
        numbers = [index.numbers[name] for name in wanted if name in index.numbers]
        if numbers:
            _remove(index, manifest, numbers)
            write_manifest(index.folder, manifest, index.manifest)
    return Index.open(folder)


def compact(folder: str | Path) -> Index:
    """Make an index's parts anew, without the documents that were deleted and as few as its shard size allows.

    The documents' numbers change, their order does not.

    Raises:
        UsageError: No documents are left, or another process is changing the index.
        MissingExtra, RunError: As `build`; the index is as it was.
    """
    with _changing(folder) as index:
        if len(index) == 0:
            raise UsageError(f"{index.folder} has no documents left: remove the folder, or add documents to it")
        manifest = _copy(index)
        manifest |= {"removed": None, "parts": [], "files": {}}
        write_manifest(index.folder, _extended(index.folder, manifest, _Left(index)), index.manifest)
    return Index.open(folder)


class _Left:
    """The documents of an index that were not deleted, as a source."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.made = index.made
        self.ids = [index.ids[number] for number in index.documents.tolist()]

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        return self.index.vectors(self.index.documents[start:stop])


@contextmanager
def _changing(folder: str | Path) -> Iterator[Index]:
    """Yield an index that no other process changes meanwhile."""
    folder = Path(folder).expanduser()
    read_manifest(folder)  # says what is wrong with a folder that holds no index
    with locked(folder, f"another process is changing {folder}"):
        try:
            yield Index.open(folder)
        except OSError as error:
            raise RunError(f"{folder} cannot be written: {error.strerror or error}; it is as it was") from error


def _extended(folder: Path, manifest: dict[str, Any], source: Source) -> dict[str, Any]:
    """Return a manifest that names a source's documents as well, once their parts are written."""
    ids = list(source.ids)
    size = manifest["shard_size"] or len(ids)
    parts, files, number = list(manifest["parts"]), dict(manifest["files"]), manifest["next"]
    for start in range(0, len(ids), size):
        stop = min(len(ids), start + size)
        entry = _write_part(folder, number, manifest, source, start, ids[start:stop])
        parts.append(entry)
        files |= describe(folder, [entry[name] for name in ("vectors", "ids", "codes") if entry[name]])
        number += 1
    return {**manifest, "parts": parts, "files": files, "next": number}


def _write_part(
    folder: Path, number: int, manifest: Mapping[str, Any], source: Source, start: int, ids: list[str]
) -> dict[str, Any]:
    count, width = len(ids), manifest["width"]
    kind = manifest["kind"] if count >= KINDS[manifest["kind"]].least else "flat"
    entry: dict[str, Any] = {
        "count": count,
        "kind": kind,
        "vectors": f"vectors-{number:05}.npy",
        "ids": f"ids-{number:05}.json",
        "codes": None if kind in ("exact", "flat") else f"{kind}-{number:05}.{_ending(kind)}",
    }
    with (folder / entry["vectors"]).open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, width)}
        np.lib.format.write_array_header_1_0(file, header)
        entry["longest"] = _copy_vectors(file, manifest, source, start, ids)
    write_atomically(folder / entry["ids"], to_json(ids))
    if entry["codes"]:
        vectors = mapped(folder / entry["vectors"], (count, width))
        make(kind, vectors, manifest["options"]).save(folder / entry["codes"])
    return entry


def _copy_vectors(
    file: IO[bytes], manifest: Mapping[str, Any], source: Source, start: int, ids: Sequence[str]
) -> float:
    """Append a source's vectors from `start` on, one for each id, and return a bound of their lengths."""
    longest = 0.0
    for at in range(0, len(ids), BLOCK):
        stop = min(len(ids), at + BLOCK)
        block = np.asarray(source.read(start + at, start + stop), np.float32)
        if block.shape != (stop - at, manifest["width"]):
            raise DataError(
                f"{_named(source)} gave vectors {list(block.shape)}, expected {[stop - at, manifest['width']]}"
            )
        bad = np.flatnonzero(~np.isfinite(block).all(1))
        if len(bad):
            raise DataError(
                f"the vector of document {ids[at + bad[0]]!r} (row {start + at + bad[0]:,} of {_named(source)}) has a "
                "number that is not finite: encode the corpus anew, with precision float32 if it was another"
            )
        file.write(np.ascontiguousarray(block, "<f4").tobytes())
        longest = max(longest, float(np.einsum("nd,nd->n", block, block, dtype=np.float64).max()))
    return math.nextafter(math.sqrt(longest), math.inf)


def _remove(index: Index, manifest: dict[str, Any], numbers: Sequence[int]) -> None:
    """Note documents in a manifest as deleted."""
    before = np.concatenate([part.start + np.flatnonzero(part.removed) for part in index.parts])
    name = f"removed-{manifest['next']:05}.npy"
    np.save(index.folder / name, np.union1d(before, np.array(numbers, np.int64)), allow_pickle=False)
    if manifest["removed"] is not None:
        del manifest["files"][manifest["removed"]]
    manifest["removed"] = name
    manifest["files"] |= describe(index.folder, [name])
    manifest["next"] += 1


def _check_ids(ids: Sequence[str], seen: dict[str, int], where: str) -> None:
    for row, name in enumerate(ids):
        if not isinstance(name, str):
            raise DataError(f"id {name!r} (row {row:,} of {where}) is no text: ids are strings, '7' and not 7")
        if seen.setdefault(name, row) != row:
            raise DataError(
                f"id {name!r} stands twice in {where}, at rows {seen[name]:,} and {row:,} (from 0): give each document "
                "an id of its own"
            )


def _stores(source: Source, known: Sequence[str]) -> list[str]:
    folder = getattr(source, "folder", None)
    return list(dict.fromkeys([*known, *([] if folder is None else [str(Path(folder).absolute())])]))


def _copy(index: Index) -> dict[str, Any]:
    return {**index.manifest, "files": dict(index.manifest["files"])}


def _ending(kind: str) -> str:
    return "faiss" if KINDS[kind].faiss else "safetensors"


def _named(source: Source) -> str:
    return str(getattr(source, "folder", "the source"))


def _few(names: Sequence[str], shown: int = 3) -> str:
    """Return the first names and how many there are beyond them."""
    text = ", ".join(repr(name) for name in names[:shown])
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return f"{'id' if len(names) == 1 else 'ids'} {text}{more}"
