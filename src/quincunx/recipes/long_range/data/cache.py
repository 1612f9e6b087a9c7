"""Sets that took time to make, kept as one file each in the cache folder and mapped into memory when used again."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.data.partial import finish, partial_file
from quincunx.errors import DataError
from quincunx.recipes.long_range.data.examples import Examples
from quincunx.recipes.long_range.data.splits import SPLITS

_COLUMNS = ("tokens", "offsets", "labels")
_MAPPED_FROM = 1 << 26
"""Arrays of at least so many bytes are mapped rather than read."""


@dataclass(frozen=True)
class Kept:
    """A set from the cache."""

    splits: Mapping[str, Examples]
    made: bool
    """Whether it was made now."""
    path: Path
    """Its file."""
    notes: list[str]
    """Sentences on what happened."""
    about: Mapping[str, Any]
    """What was found out in making it."""

    @property
    def came(self) -> str:
        """Where it came from, in words."""
        return f"generated and kept in the cache ({self.path})" if self.made else f"taken from the cache ({self.path})"


Made = tuple[Mapping[str, Examples], Mapping[str, Any]]
"""The three splits, and what was found out in making them: plain JSON values."""


def kept(name: str, request: Mapping[str, Any], folder: Path, make: Callable[[], Made], *, first_id: int = 0) -> Kept:
    """Return the set that a request determines, from the cache or made now and kept there.

    Two processes that want the same set make it once: the second waits for the first.

    Args:
        name: First word of the file's name.
        request: Everything that determines the set, as plain JSON values.
        folder: The cache.
        make: Makes the set.
        first_id: As in `Examples`; sets of pairs are not kept.

    Raises:
        DataError: The cache cannot be written.
    """
    asked = dict(request)
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{name}-{key}.npz"
    notes: list[str] = []
    found = _read(path, asked, notes, first_id)
    if found is not None:
        return Kept(found[0], False, path, notes, found[1])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(path, wait=True) as file:
            found = _read(path, asked, [], first_id)
            if found is not None:
                return Kept(found[0], False, path, notes, found[1])
            splits, about = make()
            np.savez(file, allow_pickle=False, **_as_arrays(splits, {"request": asked, "about": dict(about)}))
            finish(file, path)
            return Kept(splits, True, path, notes, about)
    except OSError as error:
        raise DataError(
            f"cannot keep prepared data in {path.parent}: {error.strerror or error}; "
            "name another folder by data.cache or the environment variable QUINCUNX_CACHE"
        ) from error


def _as_arrays(splits: Mapping[str, Examples], head: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"head": np.frombuffer(json.dumps(head).encode(), np.uint8)}
    for split, examples in splits.items():
        columns = (examples.flat, examples.offsets, examples.labels)
        arrays.update({f"{split}_{name}": column for name, column in zip(_COLUMNS, columns, strict=True)})
    return arrays


def _read(path: Path, request: Mapping[str, Any], notes: list[str], first_id: int) -> Made | None:
    """Return the kept set, None where there is none or where its checksums fail (then noted)."""
    try:
        with zipfile.ZipFile(path) as archive:
            head = json.loads(_array(path, archive, "head").tobytes())
            splits = {
                split: Examples(*(_array(path, archive, f"{split}_{name}") for name in _COLUMNS), first_id=first_id)
                for split in SPLITS
            }
        if head["request"] == request:
            return splits, head["about"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    notes.append(f"{path} is damaged; it is made anew.")
    return None


def _array(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Return one array of an uncompressed archive, its checksum compared; large ones are mapped from the file."""
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as member:
        version = np.lib.format.read_magic(member)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(member)
        start = member.tell()
        if dtype.hasobject or entry.file_size != start + int(np.prod(shape)) * dtype.itemsize:
            raise ValueError(f"{name} is not a plain array")
        if entry.file_size < _MAPPED_FROM or entry.compress_type != zipfile.ZIP_STORED:
            return np.frombuffer(member.read(), dtype).reshape(shape)
    # a local header is 30 bytes, then its name and extra field, whose lengths it holds
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)
        sizes = file.read(4)
    data = entry.header_offset + 30 + int.from_bytes(sizes[:2], "little") + int.from_bytes(sizes[2:], "little")
    whole = np.memmap(path, np.uint8, "r", data, (entry.file_size,))
    checksum = 0
    for place in range(0, len(whole), _MAPPED_FROM):
        checksum = zlib.crc32(whole[place : place + _MAPPED_FROM].data, checksum)
    if checksum != entry.CRC:
        raise ValueError(f"{name} has another checksum than the archive says")
    return np.memmap(path, dtype, "r", data + start, shape)
