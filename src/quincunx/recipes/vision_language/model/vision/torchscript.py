"""Tensors out of archives of TorchScript, in which CLIP's weights are published, without running their code.

Such an archive has a table of attributes, written as a small program for a stack machine, beside code and numbers. This
is a machine of its own for the few steps that the table needs: objects are dictionaries, tensors descriptions of where
their numbers are, and any other name or step is an error.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quincunx.errors import UsageError

MOST_BYTES = 1 << 26
"""Of the table; CLIP's are about a hundredth of that."""
DEEPEST = 100
"""Objects within objects."""

_STORAGES: Mapping[str, torch.dtype] = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_LISTS = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist", "restore_type_tag")
_NUMBERS = {b"J": "<i", b"K": "<B", b"M": "<H", b"G": ">d"}
_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False}
_PUT, _GET = {b"q": "<B", b"r": "<I"}, {b"h": "<B", b"j": "<I"}
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A name in the table: never looked up anywhere."""

    module: str
    name: str


@dataclass
class _Object:
    """A module of the network, or another object."""

    state: Mapping[Any, Any] = field(default_factory=dict[Any, Any])


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    key: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def is_archive(path: Path) -> bool:
    """Tell whether a file is an archive of TorchScript."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist())


def read_archive(path: Path) -> dict[str, Tensor]:
    """Return the tensors of an archive by the paths at which its modules have them, on the CPU.

    Raises:
        UsageError: The archive is damaged, or its table has something that is no module, tensor or plain value.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
            if len(names) != 1:
                raise ValueError("it has no table of attributes")
            if archive.getinfo(names[0]).file_size > MOST_BYTES:
                raise ValueError("its table is larger than that of any network")
            root = names[0].partition("/")[0]
            if f"{root}/byteorder" in archive.namelist() and archive.read(f"{root}/byteorder") != b"little":
                raise ValueError("its numbers are written from the largest byte on")
            known: dict[_Storage, Tensor] = {}
            return {
                name: _numbers(each, archive, root, known)
                for name, each in _tensors(_Machine(archive.read(names[0])).run(), "", 0)
            }
    except (ValueError, KeyError, IndexError, TypeError, RuntimeError, struct.error, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is an archive of TorchScript that cannot be read: {error}") from error


class _Machine:
    """Runs a table."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._steps: Mapping[bytes, Callable[[], None]] = {
            b"\x80": self._protocol, b"c": self._name, b"X": self._text, b"(": lambda: self._push(_MARK),
            b"}": lambda: self._push({}), b"]": lambda: self._push([]), b")": lambda: self._push(()),
            b"t": lambda: self._push(tuple(self._marked())), b"u": self._items, b"s": self._item, b"e": self._values,
            b"a": self._value, b"\x81": self._object, b"b": self._build, b"R": self._call, b"Q": self._storage,
            b"\x8a": self._long, b"\x85": lambda: self._tuple(1), b"\x86": lambda: self._tuple(2),
            b"\x87": lambda: self._tuple(3),
        }  # fmt: skip

    def run(self) -> Any:
        while (step := self._take(1)) != b".":
            if step in self._steps:
                self._steps[step]()
            elif step in _CONSTANTS:
                self._push(_CONSTANTS[step])
            elif step in _NUMBERS:
                self._push(self._number(_NUMBERS[step]))
            elif step in _PUT:
                self._memo[self._number(_PUT[step])] = self._stack[-1]
            elif step in _GET:
                self._push(self._memo[self._number(_GET[step])])
            else:
                raise ValueError(f"its table has the step {step!r} at byte {self._at - 1:,}, which is not for tensors")
        return self._stack.pop()

    def _take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise ValueError("its table was cut short")
        self._at += count
        return self._data[self._at - count : self._at]

    def _number(self, kind: str) -> Any:
        return struct.unpack(kind, self._take(struct.calcsize(kind)))[0]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _marked(self) -> list[Any]:
        """Return what was put on the stack since the last mark, and take it and the mark away."""
        start = max(place for place, value in enumerate(self._stack) if value is _MARK)
        found = self._stack[start + 1 :]
        del self._stack[start:]
        return found

    def _protocol(self) -> None:
        if (version := self._take(1)[0]) > 2:
            raise ValueError(f"its table is of form {version}, and TorchScript writes form 2")

    def _line(self) -> str:
        end = self._data.index(b"\n", self._at)
        found = self._data[self._at : end].decode()
        self._at = end + 1
        return found

    def _name(self) -> None:
        module = self._line()
        self._push(_Name(module, self._line()))

    def _text(self) -> None:
        self._push(self._take(self._number("<I")).decode("utf-8", "surrogatepass"))

    def _long(self) -> None:
        self._push(int.from_bytes(self._take(self._number("<B")), "little", signed=True))

    def _tuple(self, count: int) -> None:
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _items(self) -> None:
        found = self._marked()
        self._put(found[::2], found[1::2])

    def _item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._put([key], [value])

    def _put(self, keys: list[Any], values: list[Any]) -> None:
        for key, value in zip(keys, values, strict=True):
            if not isinstance(key, str | int | float):  # hashing tuples within tuples could exhaust the stack
                raise TypeError(f"its table has an attribute named by {type(key).__name__}")
            self._own(dict)[key] = value

    def _values(self) -> None:
        found = self._marked()
        self._own(list).extend(found)

    def _value(self) -> None:
        found = self._stack.pop()
        self._own(list).append(found)

    def _own(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise ValueError(f"its table puts something into {type(self._stack[-1]).__name__}")
        return self._stack[-1]

    def _object(self) -> None:
        self._stack.pop()  # arguments, which modules have none of
        self._push(self._of(self._stack.pop()))

    @staticmethod
    def _of(kind: Any) -> _Object:
        if not isinstance(kind, _Name) or not kind.module.startswith("__torch__"):
            raise ValueError(f"its table makes an object of {_told(kind)}, which is no module of the network")
        return _Object()

    def _build(self) -> None:
        state, made = self._stack.pop(), self._stack[-1]
        if not isinstance(made, _Object):
            raise TypeError(f"its table gives attributes to {type(made).__name__}")
        made.state = state if isinstance(state, dict) else {}

    def _call(self) -> None:
        arguments, called = self._stack.pop(), self._stack.pop()
        if called == _Name("torch._utils", "_rebuild_tensor_v2"):
            storage, offset, size, stride = arguments[:4]
            self._push(_Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride))))
        elif called == _Name("collections", "OrderedDict") and not arguments:
            self._push({})
        elif isinstance(called, _Name) and called.module == "torch.jit._pickle" and called.name in _LISTS:
            self._push(arguments[0])
        else:
            raise ValueError(f"its table calls {_told(called)}, which is not for tensors")

    def _storage(self) -> None:
        word, kind, key, _device, count = self._stack.pop()
        if word != "storage" or not isinstance(kind, _Name) or kind.name not in _STORAGES:
            raise ValueError(f"its table refers to numbers of the kind {_told(kind)}")
        self._push(_Storage(_STORAGES[kind.name], str(key), int(count)))


def _tensors(value: Any, path: str, depth: int) -> Iterator[tuple[str, _Tensor]]:
    """Yield the tensors that an object has, by their paths."""
    if depth > DEEPEST:
        raise ValueError(f"its modules lie more than {DEEPEST} deep")
    if isinstance(value, _Tensor):
        yield path, value
    elif isinstance(value, _Object):
        for name, each in value.state.items():
            yield from _tensors(each, f"{path}.{name}" if path else str(name), depth + 1)


def _numbers(tensor: _Tensor, archive: zipfile.ZipFile, root: str, known: dict[_Storage, Tensor]) -> Tensor:
    """Return a tensor, its numbers read from the archive."""
    storage = tensor.storage
    if not isinstance(storage, _Storage):
        raise TypeError("a tensor of it has no numbers")
    if storage not in known:
        place = f"{root}/data/{storage.key}"
        size = storage.count * storage.dtype.itemsize
        if (there := archive.getinfo(place).file_size) != size:
            raise ValueError(f"{place} has {there:,} bytes, expected {size:,}")
        content = bytearray(archive.read(place))
        empty = torch.empty(0, dtype=storage.dtype)
        known[storage] = torch.frombuffer(content, dtype=storage.dtype) if content else empty
    if min((*tensor.size, *tensor.stride, tensor.offset), default=0) < 0:
        raise ValueError("a tensor of it has a size below 0")
    if math.prod(tensor.size) > storage.count:
        raise ValueError("a tensor of it has more numbers than are stored")
    return known[storage].as_strided(tensor.size, tensor.stride, tensor.offset).clone()


def _told(value: Any) -> str:
    return f"{value.module}.{value.name}" if isinstance(value, _Name) else type(value).__name__
