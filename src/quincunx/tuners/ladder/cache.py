"""States of frozen layers on disk, by example: files that only grow, mapped into memory, one record an example.

A process writes files of its own, first a record's numbers, then a line that says where they are: a kill leaves no line
for half a record, and several processes fill one folder. N layers, S positions of the example, D width.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import secrets
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quincunx.errors import RunError
from quincunx.runs.files import LineFile, read_json, remove_quietly, to_json

log = logging.getLogger("quincunx")

HEADER, FORMAT = "cache.json", 1
STORED: Mapping[str, torch.dtype] = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_BITS: Mapping[torch.dtype, torch.dtype] = {
    torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16,
}  # fmt: skip
"""As whole numbers of the same size, which numpy has all of."""
_ALIGNED = 64
_GIB = 2**30


@dataclass(frozen=True)
class Record:
    """What is kept of an example."""

    length: int
    """S."""
    kinds: tuple[str, ...]
    """Types of the states as they were computed, one a layer."""
    outputs: int
    """How many values a layer returns, 0 for a bare tensor."""
    stamp: NDArray[np.float32]
    """What the states were made of, in a few numbers."""
    bits: NDArray[Any]
    """The states `[N, S, D]` as whole numbers, mapped from the file."""


@dataclass
class _Place:
    file: str
    line: Mapping[str, Any]
    sound: bool = False
    """Whether its bytes are known to be those that were written."""


class ActivationCache:
    """A folder of states of frozen layers.

    Args:
        folder: Where; it is made where it is missing.
        fingerprint: Of all that the states depend on beside the example.
        dtype: How numbers are stored: float32, float16 or bfloat16.
        limit: Bytes that the records of the folder may take together; None: as many as the disk has.
        made_of: What to say of the model in an error, in a few words.

    Raises:
        RunError: The folder holds the states of another model, or cannot be written.
    """

    def __init__(
        self, folder: Path, fingerprint: str, *, dtype: str = "float32", limit: int | None = None, made_of: str = ""
    ) -> None:
        self.folder, self.dtype, self.limit = folder, STORED[dtype], limit
        self.full = False
        """Nothing more is written: the limit was met, or the disk is full."""
        # part of every file's name, so that two models that open an empty folder at once are still kept apart
        self._prefix = fingerprint[:16]
        self._places: dict[str, list[_Place]] = {}
        self._read: dict[str, int] = {}
        self._maps: dict[str, mmap.mmap] = {}
        self._writer: _Writer | None = None
        claim(folder, {"format": FORMAT, "fingerprint": fingerprint, "dtype": dtype, "made_of": made_of})
        self._refresh()

    def records(self, key: str) -> Iterator[Record]:
        """Yield what is kept by a key, whole, the latest first: several where its inputs changed, or two wrote it."""
        if key not in self._places:
            self._refresh()
        for place in reversed(self._places.get(key, [])):
            record = self._record(key, place)
            if record is not None:
                yield record

    def put(self, key: str, states: Tensor, kinds: Sequence[str], outputs: int, stamp: NDArray[np.float32]) -> None:
        """Keep an example's states `[N, S, D]`, or do nothing where there is no more room; said once."""
        if self.full:
            return
        layers, length, width = states.shape
        content = states.detach().to("cpu", self.dtype).contiguous().view(_BITS[self.dtype]).numpy().tobytes()
        content = stamp.astype("<f4").tobytes() + content
        if self.limit is not None and self._size() + len(content) > self.limit:
            self._stop(f"it has reached its limit of {self.limit / _GIB:.3g} GiB")
            return
        line = {
            "key": key, "layers": layers, "length": length, "width": width, "stamp": int(stamp.size),
            "kinds": list(kinds), "outputs": outputs, "bytes": len(content), "crc": zlib.crc32(content),
        }  # fmt: skip
        try:
            if self._writer is None or self._writer.process != os.getpid():
                self._writer = _Writer(self.folder, self._prefix)
            self._writer.append(line, content)
        except (OSError, RunError) as error:
            self._stop(str(error))
            return
        self._add(_Place(self._writer.name, line)).sound = True

    def release(self) -> None:
        """Let go of the pages that were read: the system keeps them as long as it has room, not this process."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for known in self._maps.values():
                known.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Close the files; what is read already stays usable."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._maps.clear()

    def _record(self, key: str, place: _Place) -> Record | None:
        line = place.line
        content = self._bytes(place.file, line["offset"], line["bytes"])
        if content is None:
            return self._lost(key, place, "it was cut short")
        if not place.sound:
            if zlib.crc32(content.data) != line["crc"]:
                return self._lost(key, place, "it holds other bytes than were written")
            place.sound = True
        head = 4 * line["stamp"]
        bits = content[head:].view(_numpy(self.dtype)).reshape(line["layers"], line["length"], line["width"])
        return Record(line["length"], tuple(line["kinds"]), line["outputs"], content[:head].view("<f4"), bits)

    def _bytes(self, name: str, start: int, count: int) -> NDArray[np.uint8] | None:
        """Return a part of a file, mapped; None where the file ends before it does."""
        known = self._maps.get(name)
        if count and (known is None or len(known) < start + count):
            path = self.folder / f"{name}.bin"
            if not path.is_file() or path.stat().st_size < start + count:
                return None
            with path.open("rb") as file:
                known = self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.empty(0, np.uint8) if known is None or not count else np.frombuffer(known, np.uint8, count, start)

    def _lost(self, key: str, place: _Place, why: str) -> None:
        log.warning("%s/%s.bin: %s; what is missing is computed again", self.folder, place.file, why)
        self._places[key] = [each for each in self._places[key] if each is not place]

    def _add(self, place: _Place) -> _Place:
        self._places.setdefault(place.line["key"], []).append(place)
        return place

    def _refresh(self) -> None:
        """Take in what has been written since, by whomever."""
        for path in sorted(self.folder.glob(f"{self._prefix}-*.jsonl")):
            name, done = path.stem, self._read.get(path.stem, 0)
            if path.stat().st_size <= done:
                continue
            with path.open("rb") as file:
                file.seek(done)
                text = file.read()
            whole = text.rfind(b"\n") + 1
            self._read[name] = done + whole
            own = self._writer is not None and self._writer.name == name
            for row in text[:whole].splitlines() if not own else ():
                line = _line(row)
                if line is not None:
                    self._add(_Place(name, line))

    def _size(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob(f"{self._prefix}-*.bin"))

    def _stop(self, why: str) -> None:
        self.full = True
        log.warning(
            "%s keeps no more states of frozen layers: %s. %d examples are kept, the others are computed each time; "
            "raise cache_limit, choose cache_dtype: float16, or make room",
            self.folder, why, len(self._places),
        )  # fmt: skip


class _Writer:
    """The files of one process."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.process = os.getpid()
        self.name = f"{prefix}-{self.process}-{secrets.token_hex(4)}"
        self._file = (folder / f"{self.name}.bin").open("xb", buffering=0)
        self._lines = LineFile(folder / f"{self.name}.jsonl")

    def append(self, line: dict[str, Any], content: bytes) -> None:
        """Write a record, then the line that makes it one."""
        start = -(-self._file.tell() // _ALIGNED) * _ALIGNED
        self._file.seek(start)
        rest = memoryview(content)
        while rest:
            rest = rest[self._file.write(rest) :]
        line["offset"] = start
        self._lines.append(line)

    def close(self) -> None:
        """Bring everything to the disk."""
        os.fsync(self._file.fileno())
        self._file.close()
        self._lines.close()


def claim(folder: Path, header: Mapping[str, Any]) -> None:
    """Say in a folder what its files are of, or find that it says the same already.

    Raises:
        RunError: It says something else, or cannot be written.
    """
    path = folder / HEADER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            written = folder / f".{HEADER}.{secrets.token_hex(4)}"
            written.write_bytes(to_json(header, indent=2) + b"\n")
            try:
                os.link(written, path)  # unlike a rename, it leaves alone what another process was first to write
            except FileExistsError:
                pass
            finally:
                remove_quietly(written)
    except OSError as error:
        raise RunError(f"{folder} cannot keep states of frozen layers: {error.strerror or error}") from error
    found = read_json(path)
    if found != dict(header):
        raise RunError(
            f"{folder} keeps states of {_said(found)}, and these are of {_said(header)}: name another folder in cache, "
            "or remove this one"
        )


def _said(header: Any) -> str:
    if not isinstance(header, Mapping) or header.get("format") != FORMAT:
        return "an unknown form"
    return f"{header.get('made_of')} as {header.get('dtype')} (fingerprint {str(header.get('fingerprint'))[:16]})"


def _line(row: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(row)
        wanted = ("offset", "bytes", "crc", "layers", "length", "width", "stamp", "outputs")
        return line if isinstance(line["key"], str) and all(type(line[name]) is int for name in wanted) else None
    except (ValueError, KeyError, TypeError):
        return None


def _numpy(dtype: torch.dtype) -> str:
    return "<i4" if dtype == torch.float32 else "<i2"


def as_bits(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor's numbers as whole numbers of the same size, in the same memory."""
    return tensor.view(_BITS[tensor.dtype]).numpy()
