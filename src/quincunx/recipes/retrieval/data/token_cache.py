"""Token ids of many texts in one file: written as they come, whole or absent, checked and mapped when read.

N texts, T tokens in all. The file is an uncompressed zip archive of three members, whose checksums are the archive's
own: `tokens` (T little-endian int32), `counts` (N little-endian int32) and `head` (JSON: what was asked for).
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from quincunx.data.order import Indices
from quincunx.data.partial import finish, partial_file
from quincunx.errors import DataError
from quincunx.recipes.retrieval.data.ragged import offsets_of

FORMAT = 1
"""Raised when the same request would be answered with other bytes."""
_CHECKED_AT_ONCE = 1 << 24

Tokens = NDArray[np.int32]


class TokenFile:
    """The token ids of N texts, mapped from a file; a copy in another process maps the same file."""

    def __init__(self, path: Path, start: int, counts: NDArray[np.int32]) -> None:
        """Map the tokens that begin at byte `start`; `counts [N]` are the tokens of each text."""
        self.path = path
        self.start = start
        self.counts = counts
        self.offsets: Indices = offsets_of(counts)
        size = int(self.offsets[-1])
        # an array that is no memmap itself is cut into views much faster
        self.flat: Tokens = np.asarray(np.memmap(path, "<i4", "r", start, (size,))) if size else np.zeros(0, np.int32)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: int) -> Tokens:
        """Return the tokens of one text, as a view."""
        return self.flat[self.offsets[index] : self.offsets[index + 1]]

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenFile, (self.path, self.start, self.counts)


def kept_tokens(
    name: str,
    request: Mapping[str, Any],
    folder: Path,
    make: Callable[[], Iterable[Sequence[Tokens]]],
    notes: list[str],
) -> TokenFile:
    """Return the tokens that a request determines, from the cache or made now and kept there.

    Two processes that want the same make them once: the second waits for the first.

    Args:
        name: First word of the file's name.
        request: Everything that determines the tokens, as plain JSON values.
        folder: The cache.
        make: Gives the tokens of one text after another, in blocks; only a block is held in memory.
        notes: Sentences on what happened are added.

    Raises:
        DataError: The cache cannot be written.
    """
    asked = json.loads(json.dumps({"format": FORMAT, **request}))
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{name}-{key}.tokens"
    found = _read(path, asked, notes)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial_file(path, wait=True) as file:
            found = _read(path, asked, [])
            if found is not None:
                return found
            _write(file, asked, make())
            finish(file, path)
    except OSError as error:
        raise DataError(
            f"cannot keep tokens in {folder}: {error.strerror or error}; name another folder by data.cache or the "
            "environment variable QUINCUNX_CACHE, or tokenize lazily"
        ) from error
    found = _read(path, asked, notes)
    if found is None:
        raise DataError(f"{path} was written and cannot be read back: the disk under the cache folder is not sound")
    return found


def _write(file: IO[bytes], request: Mapping[str, Any], blocks: Iterable[Sequence[Tokens]]) -> None:
    counts: list[NDArray[np.int32]] = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("tokens", "w", force_zip64=True) as member:
            for block in blocks:
                counts.append(np.fromiter(map(len, block), "<i4", len(block)))
                if counts[-1].any():
                    member.write(np.concatenate(block).astype("<i4", copy=False).tobytes())
        with archive.open("counts", "w", force_zip64=True) as member:
            member.write(np.concatenate([np.zeros(0, "<i4"), *counts]).tobytes())
        archive.writestr("head", json.dumps({"request": request}))


def _read(path: Path, request: Mapping[str, Any], notes: list[str]) -> TokenFile | None:
    """Return the kept tokens, None where there are none or where they are not whole (then noted)."""
    try:
        with zipfile.ZipFile(path) as archive:
            head = json.loads(archive.read("head"))
            counts = np.frombuffer(archive.read("counts"), "<i4")
            entry = archive.getinfo("tokens")
        if head["request"] == request and entry.compress_type == zipfile.ZIP_STORED:
            if entry.file_size != 4 * int(counts.sum(dtype=np.int64)):
                raise ValueError("there are not as many tokens as were counted")
            start = _start(path, entry)
            _compare_checksum(path, start, entry)
            return TokenFile(path, start, counts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError):
        pass
    notes.append(f"{path} is damaged; the texts are tokenized anew.")
    return None


def _start(path: Path, entry: zipfile.ZipInfo) -> int:
    """Return the byte at which a member's content begins: behind a header of 30 bytes, its name and extra field."""
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)
        sizes = file.read(4)
    return entry.header_offset + 30 + int.from_bytes(sizes[:2], "little") + int.from_bytes(sizes[2:], "little")


def _compare_checksum(path: Path, start: int, entry: zipfile.ZipInfo) -> None:
    checksum, left = 0, entry.file_size
    with path.open("rb") as file:
        file.seek(start)
        while left:
            block = file.read(min(left, _CHECKED_AT_ONCE))
            if not block:
                raise EOFError
            checksum = zlib.crc32(block, checksum)
            left -= len(block)
    if checksum != entry.CRC:
        raise ValueError("the tokens have another checksum than the archive says")
