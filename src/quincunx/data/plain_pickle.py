"""Reads pickles of plain values without running them, for public data sets that come in no other form.

A pickle is a small program whose calls can be of anything. This is an interpreter of its own for the part that plain
values need: nothing is imported, looked up or called by a name from the file; the few names that arrays and bytes are
written with stand for fixed code below, and every other name is an error that says it.
"""

from __future__ import annotations

import codecs
import math
import struct
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, cast

import numpy as np

from quincunx.errors import DataError

MOST_BYTES = 1 << 30
"""Largest file read unless the caller says otherwise: the values take a few times its size."""

_DTYPES = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"])
_MOST_AXES = 32


class _Name(Enum):
    """What a name in the file stands for."""

    RECONSTRUCT = "numpy's _reconstruct"
    FROM_BUFFER = "numpy's _frombuffer"
    SCALAR = "numpy's scalar"
    NDARRAY = "numpy.ndarray"
    DTYPE = "numpy.dtype"
    ENCODE = "_codecs.encode"
    BYTES = "bytes"


_NAMES: Mapping[tuple[str, str], _Name] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Name.RECONSTRUCT for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Name.SCALAR for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Name.FROM_BUFFER for core in ("core", "_core")},
    ("numpy", "ndarray"): _Name.NDARRAY,
    ("numpy", "dtype"): _Name.DTYPE,
    # Python 3 writes bytes so for protocols 0 to 2: text encoded as Latin-1, or bytes() where there are none.
    ("_codecs", "encode"): _Name.ENCODE,
    ("__builtin__", "bytes"): _Name.BYTES,
    ("builtins", "bytes"): _Name.BYTES,
}

_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False}
_NUMBERS = {b"J": "<i", b"K": "<B", b"M": "<H", b"G": ">d"}
_COUNTED: Mapping[bytes, tuple[str, type]] = {
    b"T": ("<i", bytes),
    b"U": ("<B", bytes),
    b"B": ("<I", bytes),
    b"C": ("<B", bytes),
    b"\x8e": ("<Q", bytes),
    b"\x96": ("<Q", bytearray),
    b"X": ("<I", str),
    b"\x8c": ("<B", str),
    b"\x8d": ("<Q", str),
}
_LONGS = {b"\x8a": "<B", b"\x8b": "<i"}
_LINES = b"ILFSV"
_EMPTY: Mapping[bytes, type] = {b"]": list, b"}": dict, b")": tuple, b"\x8f": set}
_COLLECTED: Mapping[bytes, type] = {b"l": list, b"t": tuple, b"d": dict, b"\x91": frozenset}
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
_PUT = {b"q": "<B", b"r": "<I"}
_GET = {b"h": "<B", b"j": "<I"}
_FOREIGN = {
    **dict.fromkeys((b"i", b"o", b"\x81", b"\x92"), "an object of a class"),
    **dict.fromkeys((b"\x82", b"\x83", b"\x84"), "a registered extension"),
    **dict.fromkeys((b"P", b"Q"), "a reference to something outside the file"),
    **dict.fromkeys((b"\x97", b"\x98"), "a buffer outside the file"),
}
_KEYS = (str, bytes, int, float, bool, type(None))
"""Types of dictionary keys and members of sets: hashing deep tuples could exhaust the machine's stack."""
_LEAVES = (*_KEYS, bytearray, np.ndarray)


class _Refused(ValueError):
    """What the file holds is not plain or not whole; the text says what."""


class _Dtype:
    """A dtype whose byte order may still follow."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype


class _Blank:
    """An array that was announced and whose content is to follow."""

    def __init__(self) -> None:
        self.memo: list[int] = []
        """Where it was remembered, so that the array can take its place there."""


def read_plain_pickle(path: str | Path, most_bytes: int = MOST_BYTES) -> Any:
    """Return the value that a pickle file holds, if it is plain: None, bool, int, float, str, bytes, bytearray, list,
    tuple, dict, set, frozenset, and numpy arrays and scalars of bool, int, float or complex numbers.

    Protocols 0 to 5. Strings that Python 2 wrote come back as bytes.

    Args:
        path: The file.
        most_bytes: Larger files are refused.

    Raises:
        DataError: The file cannot be read, is too large, is damaged, or holds anything else; the text names it. Nothing
            of the file was run.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > most_bytes:
            raise DataError(f"{path} has {size:,} bytes, expected at most {most_bytes:,}: is it the right file?")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    return parse_plain_pickle(data, str(path))


def parse_plain_pickle(data: bytes, where: str) -> Any:
    """Return the value that a pickle holds; as `read_plain_pickle`, `where` naming the data in errors."""
    reader = _Reader(data)
    try:
        value = reader.run()
        _refuse_unfinished(value)
    except _Refused as error:
        raise DataError(
            f"{where}: byte {reader.start:,} of the pickle: {error}; expected plain containers, numbers, strings and "
            "numpy arrays of numbers only (nothing of the file was run)"
        ) from None
    return value


class _Reader:
    """The state of reading one pickle: a stack, a memo, and the stacks set aside at each mark."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.start = 0
        """Where the present operation starts."""
        self.stack: list[Any] = []
        self.aside: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Return what the pickle holds."""
        while True:
            self.start = self.at
            operation = self.take(1)
            if operation == b".":
                return self.pop()
            try:
                self.do(operation)
            except (ValueError, OverflowError, struct.error) as error:  # numbers, text or shapes that are none
                raise error if isinstance(error, _Refused) else _Refused(f"damaged ({str(error)[:200]})") from None

    def do(self, operation: bytes) -> None:
        """Do one operation."""
        if operation in b"(021\x80\x95":
            self.arrange(operation)
        elif operation in b"aesu\x90":
            self.fill(operation)
        elif operation in b"pqr\x94ghj":
            self.remember(operation)
        elif operation in b"c\x93Rb":
            self.build(operation)
        elif operation in _FOREIGN:
            raise _Refused(_FOREIGN[operation])
        else:
            value = self.value(operation)
            self.stack.append(value)

    def value(self, operation: bytes) -> Any:
        """Return the constant, number, string or container that an operation puts on the stack."""
        if operation in _CONSTANTS:
            return _CONSTANTS[operation]
        if operation in _NUMBERS:
            return self.number(_NUMBERS[operation])
        if operation in _COUNTED:
            return self.counted(*_COUNTED[operation])
        if operation in _LONGS:
            return int.from_bytes(self.take(self.number(_LONGS[operation])), "little", signed=True)
        if operation in _LINES:
            return _from_line(operation, self.line())
        if operation in _EMPTY:
            return _EMPTY[operation]()
        if operation in _TUPLES:
            return tuple(reversed([self.pop() for _ in range(_TUPLES[operation])]))
        if operation in _COLLECTED:
            return _container(_COLLECTED[operation], self.collected())
        raise _Refused(f"{operation!r} is no operation of a pickle")

    # The bytes of the file

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if not 0 <= count <= len(self.data) - self.at:
            raise _Refused("the file ends early, or is no pickle")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        """Return the next number."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def counted(self, form: str, kind: type) -> bytes | bytearray | str:
        """Return bytes or text, whose length comes first."""
        content = self.take(self.number(form))
        return content.decode("utf-8", "surrogatepass") if kind is str else kind(content)

    def line(self) -> bytes:
        """Return what comes before the next line end."""
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise _Refused("the file ends early, or is no pickle")
        content = self.take(end - self.at)
        self.at += 1
        return content

    # The stack

    def pop(self) -> Any:
        """Return the top value and take it off."""
        if not self.stack:
            raise _Refused("damaged (a value is missing)")
        return self.stack.pop()

    def collected(self) -> list[Any]:
        """Return the values since the last mark and take them off."""
        if not self.aside:
            raise _Refused("damaged (a mark is missing)")
        values, self.stack = self.stack, self.aside.pop()
        return values

    def arrange(self, operation: bytes) -> None:
        """Set marks, drop and double values, read headers."""
        if operation == b"(":
            self.aside.append(self.stack)
            self.stack = []
        elif operation == b"0":
            self.pop()
        elif operation == b"1":
            self.collected()
        elif operation == b"2":
            top = self.pop()
            self.stack += [top, top]
        elif operation == b"\x80":
            if (protocol := self.number("<B")) > 5:
                raise _Refused(f"protocol {protocol}, expected 0 to 5")
        else:
            self.take(8)  # the length of a frame, which helps only those who read in pieces

    def fill(self, operation: bytes) -> None:
        """Put values into the container below them."""
        if operation == b"a":
            items = [self.pop()]
        elif operation == b"s":
            items = [self.pop(), self.pop()][::-1]
        else:
            items = self.collected()
        kind = {b"a": list, b"e": list, b"s": dict, b"u": dict, b"\x90": set}[operation]
        container = self.pop()
        if type(container) is not kind:
            raise _Refused(f"damaged (a {kind.__name__} is missing)")
        if kind is list:
            container.extend(items)
        else:
            container.update(_container(kind, items))
        self.stack.append(container)

    def remember(self, operation: bytes) -> None:
        """Put the top value into the memo, or a value of the memo on the stack."""
        if operation in b"pqr\x94":
            key = len(self.memo) if operation == b"\x94" else self.index(operation, _PUT)
            top = self.pop()
            self.memo[key] = top
            self.stack.append(top)
            if isinstance(top, _Blank):
                top.memo.append(key)
            return
        key = self.index(operation, _GET)
        if key not in self.memo:
            raise _Refused(f"damaged (nothing was remembered as {key})")
        self.stack.append(self.memo[key])

    def index(self, operation: bytes, forms: Mapping[bytes, str]) -> int:
        """Return a place in the memo."""
        return self.number(forms[operation]) if operation in forms else int(self.line())

    # Names, and what is made of them

    def build(self, operation: bytes) -> None:
        """Read a name, make a value with it, or complete one."""
        if operation in b"c\x93":
            if operation == b"c":
                module, name = self.line().decode(), self.line().decode()
            else:
                name, module = _text(self.pop()), _text(self.pop())
            if (module, name) not in _NAMES:
                raise _Refused(f"it asks for {f'{module}.{name}'[:200]!r}")
            self.stack.append(_NAMES[module, name])
            return
        argument, target = self.pop(), self.pop()
        if type(argument) is not tuple:
            raise _Refused("damaged (arguments are missing)")
        if operation == b"R":
            self.stack.append(_made(target, argument))
        elif isinstance(target, _Dtype):
            target.dtype = _ordered(target.dtype, argument)
            self.stack.append(target)
        elif isinstance(target, _Blank):
            array = _completed(argument)
            for key in target.memo:
                if self.memo[key] is target:
                    self.memo[key] = array
            self.stack.append(array)
        else:
            raise _Refused(f"it sets the state of {_described(target)}")


def _from_line(operation: bytes, content: bytes) -> Any:
    """Return a value of protocol 0, written as text."""
    if operation == b"I":
        return content == b"01" if content in (b"00", b"01") else int(content)
    if operation == b"L":
        return int(content.removesuffix(b"L"))
    if operation == b"F":
        return float(content)
    if operation == b"V":
        return content.decode("raw-unicode-escape")
    content = content.strip()
    if len(content) < 2 or content[:1] != content[-1:] or content[:1] not in b"'\"":
        raise _Refused("damaged (a string without quotes)")
    return cast(bytes, codecs.escape_decode(content[1:-1])[0])


def _container(kind: type, items: list[Any]) -> Any:
    """Return a container of these items, keys and values of a dictionary taking turns."""
    if kind in (list, tuple):
        return kind(items)
    keys = items[::2] if kind is dict else items
    for key in keys:
        if type(key) not in _KEYS:
            raise _Refused(f"a {kind.__name__} holds {_described(key)} as a {'key' if kind is dict else 'member'}")
    return dict(zip(keys, items[1::2], strict=True)) if kind is dict else kind(items)


def _made(name: Any, arguments: tuple[Any, ...]) -> Any:
    """Return what a name makes of its arguments."""
    match name, arguments:
        case _Name.RECONSTRUCT, (_Name.NDARRAY, tuple(), _):
            return _Blank()
        case _Name.FROM_BUFFER, (data, _Dtype() as kind, shape, order):
            return _array(data, kind, shape, _text(order))
        case _Name.SCALAR, (_Dtype() as kind, data):
            return _array(data, kind, (1,), "C")[0]
        case _Name.DTYPE, (code, *flags) if len(flags) <= 2:
            if _text(code) not in _DTYPES:
                raise _Refused(f"an array of type {_text(code)[:200]!r}")
            return _Dtype(np.dtype(_text(code)))
        case _Name.ENCODE, (str(text), encoding) if _text(encoding) in ("latin1", "latin-1"):
            return text.encode("latin-1")
        case _Name.BYTES, ():
            return b""
        case _:
            raise _Refused(f"it calls {_described(name)} as plain values never do")


def _ordered(dtype: np.dtype[Any], state: tuple[Any, ...]) -> np.dtype[Any]:
    """Return a dtype with the byte order that its state gives; fields and shapes are refused."""
    if not 5 <= len(state) <= 8 or any(part is not None for part in state[2:5]):
        raise _Refused("an array of records, expected numbers")
    order = _text(state[1])
    if order not in ("|", "=", "<", ">"):
        raise _Refused("damaged (a byte order that is none)")
    return dtype.newbyteorder(order)


def _completed(state: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    match state:
        case (_, shape, _Dtype() as kind, bool() | 0 | 1 as fortran, data):
            return _array(data, kind, shape, "F" if fortran else "C")
        case _:
            raise _Refused("damaged (the state of an array)")


def _array(data: Any, kind: _Dtype, shape: Any, order: str) -> np.ndarray[Any, Any]:
    """Return the array that bytes hold, as a view of them."""
    if type(data) not in (bytes, bytearray) or order not in ("C", "F"):
        raise _Refused(f"an array made of {_described(data)}")
    if (
        type(shape) is not tuple
        or len(shape) > _MOST_AXES
        or any(type(n) is not int or not 0 <= n < 1 << 63 for n in shape)
    ):
        raise _Refused("damaged (the shape of an array)")
    needed = math.prod(shape) * kind.dtype.itemsize
    if needed != len(data):
        raise _Refused(f"an array of {needed:,} bytes has {len(data):,}"[:200])
    if not needed:
        return np.empty(shape, kind.dtype)
    return np.frombuffer(data, kind.dtype).reshape(shape, order="F" if order == "F" else "C")


def _text(value: Any) -> str:
    """Return a short word that Python 2 wrote as bytes and Python 3 as text."""
    if type(value) is bytes:
        return value.decode("latin-1")
    if type(value) is not str:
        raise _Refused(f"damaged ({_described(value)} where a word was expected)")
    return value


def _described(value: Any) -> str:
    return str(value.value) if isinstance(value, _Name) else f"a value of type {type(value).__name__.lstrip('_')}"


def _refuse_unfinished(value: Any) -> None:
    """Refuse names, dtypes and announced arrays that were left in the result; containers may hold themselves."""
    waiting, seen = [value], set[int]()
    while waiting:
        each = waiting.pop()
        if type(each) in _LEAVES or isinstance(each, np.generic):
            continue
        if type(each) not in (list, tuple, dict, set, frozenset):
            raise _Refused(f"it holds {_described(each)} as a value")
        if id(each) not in seen:
            seen.add(id(each))
            parts: Iterable[Any] = each.values() if isinstance(each, dict) else each
            waiting.extend(parts)
