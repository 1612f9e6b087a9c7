"""The values of stores of features: arrays as npz, npy, msgpack with numpy's arrays, JSON or bare numbers.

None of them is run: pickles, and arrays of objects, are refused. What a value holds is told by how it begins.
"""

from __future__ import annotations

import io
import json
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError, UsageError

MOST_BYTES = 1 << 30
"""Most bytes that a compressed value may become."""
FEATURES = "features"
"""The name of what a value is that holds one array alone."""

Fields = Mapping[str, Callable[[], Any]]
"""Name -> what returns an array, a number or a text."""

_DEEPEST = 16
_REMEDY = "write it again with numpy.savez, a field for each array"


class Raw(NamedTuple):
    """How bare numbers are read."""

    kind: np.dtype[Any]
    width: int
    """F."""


def parse_raw(text: str) -> Raw:
    """Return what `float32,2048` says: the type of bare numbers and how many are a row; UsageError for another form."""
    kind, _, width = text.partition(",")
    if kind not in ("float16", "float32", "float64") or not width.strip().isdecimal() or not int(width):
        raise UsageError(f"bare numbers are said by type and width, such as float32,2048; found {text!r}")
    return Raw(np.dtype(kind).newbyteorder("<"), int(width))


def fields_of(value: bytes, where: str, raw: Raw | None = None) -> Fields:
    """Return what a value holds, each field read when it is asked for; one array alone is called `features`.

    Args:
        value: As it is stored.
        where: Its place, for messages.
        raw: Values are bare numbers; None: in one of the forms that say themselves what they are.

    Raises:
        DataError: It is none of these, a pickle or cut short; the text says where.
    """
    if raw is not None:
        row = raw.kind.itemsize * raw.width
        if not value or len(value) % row:
            raise DataError(f"{where}: {len(value):,} bytes; expected a multiple of {row:,}: rows of {raw.width:,}")
        return {FEATURES: lambda: np.frombuffer(value, raw.kind).reshape(-1, raw.width)}
    if value.startswith(b"PK\x03\x04"):
        return _npz(value, where)
    if value.startswith(b"\x93NUMPY"):
        return {FEATURES: lambda: _npy(value, where)}
    if value[:1] == b"\x80" and value[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise DataError(f"{where}: a pickle, which is not read, as it could run anything; {_REMEDY}")
    if value[:1] and (0x81 <= value[0] <= 0x8F or value[0] in (0xDE, 0xDF)):
        return _mapping(_unpacked(value, where), where)
    if value.lstrip()[:1] in (b"{", b"["):
        return _mapping(_json(value, where), where)
    raise DataError(
        f"{where}: begins with {value[:4].hex(' ') or 'nothing'}: no npz, npy, msgpack or JSON; {_REMEDY}, or say what "
        "bare numbers are by --raw, such as --raw float32,2048"
    )


def _mapping(found: Any, where: str) -> Fields:
    if isinstance(found, list):
        found = {FEATURES: found}
    if not isinstance(found, dict):
        raise DataError(f"{where}: {type(found).__name__}; expected an object of fields, or rows of features")
    return {name: lambda each=each: each for name, each in found.items()}


def _json(value: bytes, where: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: no sound JSON ({error})") from None


def _npz(value: bytes, where: str) -> Fields:
    try:
        archive = zipfile.ZipFile(io.BytesIO(value))
    except (zipfile.BadZipFile, ValueError) as error:
        raise DataError(f"{where}: no sound npz ({error})") from None
    if other := next((name for name in archive.namelist() if not name.endswith(".npy")), None):
        raise DataError(f"{where}: {other}: no array, so this is no npz (torch.save is not read); {_REMEDY}")

    def read(info: zipfile.ZipInfo) -> NDArray[Any]:
        place = f"{where}: {info.filename.removesuffix('.npy')}"
        if info.file_size > MOST_BYTES:
            raise DataError(f"{place}: {info.file_size:,} bytes; expected at most {MOST_BYTES:,}")
        try:
            return _npy(archive.read(info), place)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError) as error:
            raise DataError(f"{place}: no sound npz ({error})") from None

    return {info.filename.removesuffix(".npy"): lambda info=info: read(info) for info in archive.infolist()}


def _npy(value: bytes, where: str) -> NDArray[Any]:
    """Return an array of numbers; its size is that of what is there, whatever its head says."""
    stream = io.BytesIO(value)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, kind = head(stream)
    except (ValueError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise DataError(f"{where}: no sound npy ({error})") from None
    found = _array(value[stream.tell() :], kind, shape[::-1] if columns_first else shape, where)
    return found.T if columns_first else found


def _array(content: bytes, kind: np.dtype[Any], shape: tuple[int, ...], where: str) -> NDArray[Any]:
    if kind.kind not in "iufbUS":
        raise DataError(f"{where}: {kind}: arrays of objects are pickles, which are not read; {_REMEDY}")
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if min(shape, default=0) < 0 or not kind.itemsize or count * kind.itemsize != len(content):
        raise DataError(f"{where}: {len(content):,} bytes; expected {kind} of shape {list(shape)}")
    return np.frombuffer(content, kind).reshape(shape)


def _unpacked(value: bytes, where: str) -> Any:
    """Return what a value of msgpack holds, numpy's arrays in the form of msgpack-numpy; texts stay bytes."""
    reader = _Packed(value, where)
    try:
        found = reader.item(0)
    except (struct.error, IndexError):
        raise DataError(f"{where}: msgpack that was cut short after {len(value):,} bytes") from None
    if reader.at != len(value):
        raise DataError(f"{where}: {len(value) - reader.at:,} bytes behind the end of msgpack")
    return found


_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"}
_NUMBERS |= {0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_LENGTHS = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
"""Of bytes and texts."""
_COUNTS = {0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"}
"""Of lists and mappings."""


class _Packed:
    """A place in bytes of msgpack."""

    def __init__(self, value: bytes, where: str) -> None:
        self.value = value
        self.where = where
        self.at = 0

    def item(self, depth: int) -> Any:
        """Return the item that begins here."""
        if depth > _DEEPEST:
            raise DataError(f"{self.where}: msgpack within msgpack more than {_DEEPEST} deep")
        first = self.value[self.at]
        self.at += 1
        if first <= 0x7F or first >= 0xE0:
            return first if first <= 0x7F else first - 256
        if first <= 0x8F:
            return self._object(first & 0x0F, depth)
        if first <= 0x9F:
            return [self.item(depth + 1) for _ in range(first & 0x0F)]
        if first <= 0xBF:
            return self._bytes(first & 0x1F)
        if first in (0xC0, 0xC2, 0xC3):
            return None if first == 0xC0 else first == 0xC3
        if first in _NUMBERS:
            return self._number(_NUMBERS[first])
        if first in _LENGTHS:
            return self._bytes(int(self._number(_LENGTHS[first])))
        if first in _COUNTS:
            count = int(self._number(_COUNTS[first]))
            is_list = first <= 0xDD
            return [self.item(depth + 1) for _ in range(count)] if is_list else self._object(count, depth)
        raise DataError(f"{self.where}: byte {self.at - 1:,} of msgpack: an extension (0x{first:02x}); {_REMEDY}")

    def _number(self, form: str) -> int | float:
        (found,) = struct.unpack_from(form, self.value, self.at)
        self.at += struct.calcsize(form)
        return found

    def _bytes(self, length: int) -> bytes:
        found = self.value[self.at : self.at + length]
        if len(found) < length:
            raise IndexError
        self.at += length
        return found

    def _object(self, count: int, depth: int) -> Any:
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self.item(depth + 1)
            if not isinstance(key, bytes):
                raise DataError(f"{self.where}: msgpack: a key that is no text")
            found[key.decode("utf-8", "replace")] = self.item(depth + 1)
        return self._numpy(found) if "nd" in found else found

    def _numpy(self, found: Mapping[str, Any]) -> Any:
        """Return the array, or the number of numpy's, that a mapping describes."""
        kind, content, shape = found.get("type"), found.get("data"), found.get("shape", []) if found["nd"] else []
        sides = isinstance(shape, list) and all(type(side) is int for side in shape)
        if not isinstance(kind, bytes) or not isinstance(content, bytes) or not sides:
            raise DataError(f"{self.where}: msgpack: an array without type, shape and data; {_REMEDY}")
        if not re.fullmatch(rb"[<>|=]?[biufSU]\d{1,4}", kind):
            raise DataError(f"{self.where}: msgpack: an array of {kind[:40]!r}; expected one of numbers; {_REMEDY}")
        try:
            form = np.dtype(kind.decode())
        except TypeError:
            raise DataError(f"{self.where}: msgpack: an array of {kind!r}, which there is not; {_REMEDY}") from None
        made = _array(content, form, tuple(shape), self.where)
        return made if found["nd"] else made.item()
