"""A shard: vectors of some documents with their ids, one safetensors file, and their texts beside it as JSON lines.

Numbers are read at their places in the file, never the whole of it. N documents of a shard, D width, T bytes in all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError

VECTORS, IDS, ID_OFFSETS, TEXT_OFFSETS = "vectors", "ids", "id_offsets", "text_offsets"
STORED = ("float32", "float16")
"""Forms in which vectors are stored."""

_KINDS = {"F32": "<f4", "F16": "<f2", "U8": "|u1", "I64": "<i8"}
_LONGEST_HEADER = 1 << 20
_AT_ONCE = 1 << 20
_AGAIN = "remove it, and the same `quincunx encode` as before makes it anew"


@dataclass(frozen=True)
class Shard:
    """What a shard holds, in memory."""

    ids: Sequence[str]
    vectors: NDArray[np.floating]
    """`[N, D]`, in the form in which it is stored."""
    texts: Sequence[str] | None = None
    """One for each id; None where texts are not kept."""

    def arrays(self) -> tuple[dict[str, NDArray[Any]], bytes | None]:
        """Return the arrays of the shard's file, and the bytes of the file with its texts."""
        flat, offsets = _joined(text.encode() for text in self.ids)
        found = {
            VECTORS: np.ascontiguousarray(self.vectors),
            IDS: np.frombuffer(flat, np.uint8),
            ID_OFFSETS: offsets,
        }
        if self.texts is None:
            return found, None
        lines = (
            json.dumps({"_id": name, "text": text}, ensure_ascii=False).encode() + b"\n"
            for name, text in zip(self.ids, self.texts, strict=True)
        )
        content, found[TEXT_OFFSETS] = _joined(lines)
        return found, content


def coded(shard: Shard) -> tuple[bytes, bytes | None]:
    """Return the bytes of a shard's file and of its texts' file; the former says what both must hash to."""
    arrays, content = shard.arrays()
    facts = {"rows": str(len(shard.ids)), "hash": digest(arrays)}
    if content is not None:
        facts |= {"texts_bytes": str(len(content)), "texts_hash": blake2b(content, digest_size=16).hexdigest()}
    return _saved(arrays, facts), content


def digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return a hash of arrays with their names, kinds and shapes."""
    made = blake2b(digest_size=16)
    for name, array in sorted(arrays.items()):
        made.update(repr((name, array.dtype.str, array.shape)).encode())
        made.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return made.hexdigest()


@dataclass(frozen=True)
class ShardFile:
    """A shard's file, of which the header has been read."""

    path: Path
    bytes: int
    """Of the whole file."""
    facts: Mapping[str, str]
    places: Mapping[str, tuple[str, tuple[int, ...], int]]
    """Of each array its kind as numpy names it, its shape, and its first byte in the file."""

    @classmethod
    def open(cls, path: Path) -> ShardFile:
        """Read a shard's header.

        Raises:
            DataError: There is no such file, it is shorter or longer than its header says, or the header is damaged.
        """
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                length = int.from_bytes(file.read(8), "little")
                if not 2 <= length <= min(_LONGEST_HEADER, max(size - 8, 0)):
                    raise DataError(f"{path} is no shard, or was cut short ({size:,} bytes): {_AGAIN}")
                header = json.loads(file.read(length))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}; {_AGAIN}") from error
        except ValueError as error:
            raise DataError(f"{path} has a damaged header ({error}): {_AGAIN}") from error
        try:
            facts = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
            places = {name: _place(entry, 8 + length) for name, entry in header.items()}
            end = max(start + _bytes_of(kind, shape) for kind, shape, start in places.values())
            rows = places[VECTORS][1][0], places[ID_OFFSETS][1][0] - 1
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError(f"{path} is no shard of vectors: its header lacks or garbles {error}; {_AGAIN}") from error
        if end != size:
            what = "cut short" if size < end else "added to"
            raise DataError(f"{path} has {size:,} bytes, its header says {end:,}: it was {what}; {_AGAIN}")
        if rows[0] != rows[1] or len(places[VECTORS][1]) != 2:
            raise DataError(f"{path} holds {rows[0]} vectors and {rows[1]} ids: {_AGAIN}")
        return cls(path, size, facts, places)

    @property
    def rows(self) -> int:
        """N."""
        return self.places[VECTORS][1][0]

    @property
    def width(self) -> int:
        """D."""
        return self.places[VECTORS][1][1]

    @property
    def dtype(self) -> str:
        """The form in which vectors are stored."""
        return np.dtype(self.places[VECTORS][0]).name

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows `start` to `stop` of an array, as they are stored.

        Raises:
            DataError: The file was removed or cut since its header was read.
        """
        kind, shape, first = self.places[name]
        stop = shape[0] if stop is None else min(stop, shape[0])
        row = int(np.prod(shape[1:], dtype=np.int64))
        count = max(0, stop - start) * row
        try:
            flat = np.fromfile(self.path, np.dtype(kind), count, offset=first + start * row * np.dtype(kind).itemsize)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}; {_AGAIN}") from error
        if len(flat) != count:
            raise DataError(f"{self.path} was cut short while it was in use: {_AGAIN}")
        return flat.reshape(-1, *shape[1:])

    def ids(self) -> list[str]:
        """Return the ids [N]."""
        flat, offsets = self.read(IDS).tobytes(), self.read(ID_OFFSETS).tolist()
        return [flat[begin:end].decode() for begin, end in pairwise(offsets)]

    def check(self) -> None:
        """Read all of it and compare with the hash in its header; DataError where they differ."""
        found = digest({name: self.read(name) for name in self.places})
        if found != self.facts.get("hash"):
            raise DataError(f"{self.path} holds other bytes than were written ({found}): {_AGAIN}")


def check_file(path: Path, size: int, expected: str | None = None) -> None:
    """Compare a file's size with what it was written with, and its hash where that is given; DataError otherwise."""
    try:
        found = path.stat().st_size
        if found != size:
            what = "cut short" if found < size else "added to"
            raise DataError(f"{path} has {found:,} bytes and was written with {size:,}: it was {what}; {_AGAIN}")
        if expected is None:
            return
        made = blake2b(digest_size=16)
        with path.open("rb") as file:
            while block := file.read(_AT_ONCE):
                made.update(block)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; {_AGAIN}") from error
    if made.hexdigest() != expected:
        raise DataError(f"{path} holds other bytes than were written ({made.hexdigest()}): {_AGAIN}")


def _joined(pieces: Iterable[bytes]) -> tuple[bytes, NDArray[np.int64]]:
    """Return pieces as one, and where each starts and ends [N + 1]."""
    found = list(pieces)
    lengths = np.fromiter(map(len, found), np.int64, len(found))
    return b"".join(found), np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _saved(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> bytes:
    """Return a safetensors file; the same arrays always give the same bytes, which safetensors' own `save` does not."""
    words = {kind: word for word, kind in _KINDS.items()}
    header: dict[str, Any] = {"__metadata__": dict(facts)}
    pieces: list[bytes] = []
    end = 0
    # the widest first, so that each begins at a multiple of its own width
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])):
        pieces.append(array.tobytes())
        start, end = end, end + len(pieces[-1])
        header[name] = {"dtype": words[array.dtype.str], "shape": list(array.shape), "data_offsets": [start, end]}
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    return b"".join([len(content).to_bytes(8, "little"), content, *pieces])


def _place(entry: Mapping[str, Any], first: int) -> tuple[str, tuple[int, ...], int]:
    kind, shape = _KINDS[entry["dtype"]], tuple(int(size) for size in entry["shape"])
    start, end = entry["data_offsets"]
    if min((*shape, int(start))) < 0 or end - start != _bytes_of(kind, shape):
        raise ValueError(f"offsets {start} to {end} of an array of shape {shape}")
    return kind, shape, first + int(start)


def _bytes_of(kind: str, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
