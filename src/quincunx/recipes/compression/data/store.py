"""Token ids of all documents of the three splits, in files that are written once and mapped into memory.

N documents of P parts each, T tokens in all. A store is a folder: for each split `tokens` (T ids in 16 bits where the
vocabulary allows it, else in 32), `ends` (where each part ends, N * P int64) and `labels` (N int16), all little-endian.
`manifest.json` says what was asked for and what the files must be; it is written last, so that without it there is no
store.
"""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from quincunx.data.partial import finish, partial_file
from quincunx.errors import DataError
from quincunx.recipes.compression.data.documents import SPLITS

FORMAT = 1
"""Raised whenever the same request would be answered with other files."""
MANIFEST = "manifest.json"

_CHECKED_AT_ONCE = 1 << 24
_NARROW = 1 << 16

Encoded = tuple[int, int, list[NDArray[np.int32]]]
"""A document: the place of its split in `SPLITS`, its label, the ids [S] of each of its parts."""


class Tokens:
    """The documents of one split; a copy in another process maps the same file."""

    def __init__(
        self, path: Path, dtype: str, ends: NDArray[np.int64], labels: NDArray[np.int16], parts: int = 1
    ) -> None:
        """Map the ids in a file.

        Args:
            path: The file of ids.
            dtype: What they are written as.
            ends: Where each part ends [N * P].
            labels: [N].
            parts: P.
        """
        self.path = path
        self.dtype = dtype
        self.ends = ends
        self.labels = labels
        self.parts = parts
        self.offsets: NDArray[np.int64] = np.concatenate([np.zeros(1, np.int64), ends])
        """Where each part starts, and the end of the last [N * P + 1]."""
        size = int(self.offsets[-1])
        # an array that is no memmap itself is cut into views much faster
        self.flat: NDArray[np.integer] = np.asarray(np.memmap(path, dtype, "r", 0, (size,)) if size else [], dtype)

    def __len__(self) -> int:
        return len(self.labels)

    def between(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the ids from one place to another [stop - start]."""
        return self.flat[start:stop].astype(np.int64)

    def part(self, document: int, part: int = 0) -> NDArray[np.int64]:
        """Return the ids of one part of a document [S]."""
        place = document * self.parts + part
        return self.between(int(self.offsets[place]), int(self.offsets[place + 1]))

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokens, (self.path, self.dtype, self.ends, self.labels, self.parts)


@dataclass(frozen=True)
class Store:
    """What a folder holds."""

    splits: Mapping[str, Tokens]
    """The documents of each split; one may have none."""
    about: Mapping[str, Any]
    """What was found out in making it."""
    key: str
    """A hash of what was asked for."""
    path: Path
    made: bool
    """Whether it was made now."""


@dataclass(frozen=True)
class Made:
    """What a new store gets."""

    documents: Iterable[Encoded]
    """In order; taken as they come."""
    about: Mapping[str, Any]
    """What was found out, as plain JSON values."""


def kept_store(
    request: Mapping[str, Any],
    folder: Path,
    make: Callable[[], Made],
    notes: list[str],
    *,
    vocabulary: int,
    parts: int = 1,
) -> Store:
    """Return the store that a request determines, from the cache or made now and kept there.

    Two processes that want the same store make it once: the second waits for the first. What an interrupted one left is
    replaced.

    Args:
        request: Everything that determines the store, as plain JSON values.
        folder: The cache.
        make: Gives the documents.
        notes: Sentences on what happened are added.
        vocabulary: Ids are smaller than this.
        parts: Of each document.

    Raises:
        DataError: The cache cannot be written, and whatever `make` raises.
    """
    dtype = "<u2" if vocabulary <= _NARROW else "<i4"
    asked = json.loads(json.dumps({**request, "format": FORMAT, "dtype": dtype, "parts": parts}))
    key = blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=16).hexdigest()
    place = folder / f"tokens-{key[:16]}"
    manifest = place / MANIFEST
    if found := _read(place, asked, key, notes):
        return found
    try:
        place.mkdir(parents=True, exist_ok=True)
        with partial_file(manifest, wait=True) as file:
            if found := _read(place, asked, key, []):
                return found
            manifest.unlink(missing_ok=True)  # a damaged store is none while it is made anew
            made = make()
            files = _write(place, made.documents, dtype)
            content = {"request": asked, "about": dict(made.about), "files": files}
            file.write(json.dumps(content, indent=1).encode())
            finish(file, manifest)
    except OSError as error:
        raise DataError(
            f"cannot keep tokens in {place}: {error.strerror or error}; name another folder by data.cache or the "
            "environment variable QUINCUNX_CACHE"
        ) from error
    found = _read(place, asked, key, notes, made=True)
    if found is None:
        raise DataError(f"{place} was written and cannot be read back: the disk under the cache folder is not sound")
    return found


class _Writer:
    """One split on its way into its files."""

    def __init__(self, file: IO[bytes], dtype: str) -> None:
        self.file = file
        self.dtype = np.dtype(dtype)
        self.ends, self.labels = array("q"), array("h")
        self.size = 0
        self.checksum = 0

    def add(self, label: int, parts: Iterable[NDArray[np.int32]]) -> None:
        """Append a document."""
        for ids in parts:
            data = ids.astype(self.dtype).tobytes()
            self.file.write(data)
            self.checksum = zlib.crc32(data, self.checksum)
            self.size += len(ids)
            self.ends.append(self.size)
        self.labels.append(label)


def _write(place: Path, documents: Iterable[Encoded], dtype: str) -> dict[str, dict[str, int]]:
    """Write the files of all splits and return what each must be."""
    files: dict[str, dict[str, int]] = {}
    with ExitStack() as stack:
        paths = [place / f"{split}.tokens" for split in SPLITS]
        writers = [_Writer(stack.enter_context(partial_file(path, wait=True)), dtype) for path in paths]
        for split, label, parts in documents:
            writers[split].add(label, parts)
        for split, path, writer in zip(SPLITS, paths, writers, strict=True):
            finish(writer.file, path)
            files[path.name] = {"bytes": writer.size * writer.dtype.itemsize, "crc32": writer.checksum}
            small = {"ends": (writer.ends, "<i8"), "labels": (writer.labels, "<i2")}
            for name, (values, kind) in small.items():
                data = np.array(values, kind).tobytes()
                target = place / f"{split}.{name}"
                with partial_file(target, wait=True) as file:
                    file.write(data)
                    finish(file, target)
                files[target.name] = {"bytes": len(data), "crc32": zlib.crc32(data)}
    return files


def _read(place: Path, request: Mapping[str, Any], key: str, notes: list[str], *, made: bool = False) -> Store | None:
    """Return the store in a folder, None where there is none or where it is not whole (then noted)."""
    try:
        content = json.loads((place / MANIFEST).read_bytes())
        if content["request"] != request:
            raise ValueError("another request")
        for name, facts in content["files"].items():
            _compare(place / name, facts)
        splits = {split: _split(place, split, request) for split in SPLITS}
        return Store(splits, content["about"], key, place, made)
    except FileNotFoundError as error:
        if Path(str(error.filename)).name == MANIFEST:
            return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    notes.append(f"{place} is damaged; the texts are encoded anew.")
    return None


def _split(place: Path, split: str, request: Mapping[str, Any]) -> Tokens:
    ends = np.fromfile(place / f"{split}.ends", "<i8")
    labels = np.fromfile(place / f"{split}.labels", "<i2")
    path, parts = place / f"{split}.tokens", request["parts"]
    width = np.dtype(request["dtype"]).itemsize
    if len(ends) != parts * len(labels) or path.stat().st_size != width * int(ends[-1] if len(ends) else 0):
        raise ValueError("the files do not fit together")
    return Tokens(path, request["dtype"], ends, labels, parts)


def _compare(path: Path, facts: Mapping[str, int]) -> None:
    """Raise ValueError where a file is not what the manifest says."""
    checksum = size = 0
    with path.open("rb") as file:
        while block := file.read(_CHECKED_AT_ONCE):
            checksum = zlib.crc32(block, checksum)
            size += len(block)
    if {"bytes": size, "crc32": checksum} != facts:
        raise ValueError(f"{path} has another content")
