"""The objects of a file of JSON lines, read when they are asked for: eight bytes a line are kept, not the line.

A collection of a million questions then costs megabytes, in every worker process alike. N objects.
"""

from __future__ import annotations

import json
import os
import weakref
from array import array
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError

_BOM = b"\xef\xbb\xbf"
_MOST_SHOWN = 20


class Problems:
    """What is wrong with the lines of a file, gathered so that all of it can be mended at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._first: list[str] = []

    def add(self, line: int, reason: str) -> None:
        """Note that a line, from 1, is wrong."""
        self.count += 1
        if len(self._first) < _MOST_SHOWN:
            self._first.append(f"\n  {self.path}:{line}: {reason}")

    def settle(self, expected: str) -> None:
        """Raise DataError with the first of them, if there are any."""
        if self.count:
            rest = self.count - len(self._first)
            more = f"\n  and {rest:,} more" if rest else ""
            raise DataError(
                f"{self.path}: {self.count:,} bad line{'s' * (self.count > 1)}:{''.join(self._first)}{more}\n"
                f"Expected {expected}."
            )


class Lines:
    """The N objects of a file, by number; may be pickled and taken through a fork."""

    def __init__(self, path: Path, starts: NDArray[np.int64], fingerprint: str) -> None:
        """Take where each object starts, and the end of the last one [N + 1], and the file's SHA-256."""
        self.path = path
        self.starts = starts
        self.fingerprint = fingerprint
        self._descriptor: int | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return an object; IndexError beyond the last, DataError where the file is no longer what was read."""
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"object {index} of the {len(self):,} of {self.path}")
        start, end = self.starts[place : place + 2].tolist()
        # a read with its own offset: processes that share the descriptor do not disturb one another
        content = os.pread(self._opened(), end - start, start)
        try:
            return json.loads(content.removeprefix(_BOM))
        except ValueError:
            raise DataError(f"{self.path} was changed while it was in use; start again") from None

    def line(self, index: int) -> int:
        """Return the number of the line, from 1, on which an object stands."""
        before = self.path.read_bytes()[: int(self.starts[index])]
        return before.count(b"\n") + 1

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_descriptor": None}

    def _opened(self) -> int:
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self.path, os.O_RDONLY)
            except OSError as error:
                raise DataError(f"{self.path} cannot be read any longer: {error.strerror}") from None
            weakref.finalize(self, os.close, self._descriptor)
            if os.fstat(self._descriptor).st_size < self.starts[-1]:
                raise DataError(f"{self.path} is shorter than when it was first read; start again")
        return self._descriptor


def read_lines(path: Path, check: Callable[[int, Mapping[str, Any]], None], problems: Problems) -> Lines:
    """Read a file once from end to end.

    Args:
        path: JSON Lines in UTF-8; empty lines are passed over.
        check: Called with the number of the line and its object; what it raises as ValueError is noted.
        problems: Gathers what is wrong, for the caller to settle.

    Returns:
        The objects of the file; only of use where nothing was wrong.

    Raises:
        DataError: The file cannot be read.
    """
    starts, end = array("q"), 0
    digest = sha256()
    for number, start, content in _lines(path):
        digest.update(content)
        end = start + len(content)
        if not content.strip():
            continue
        starts.append(start)
        try:
            check(number, _object(content))
        except ValueError as error:
            problems.add(number, str(error))
    starts.append(end)
    return Lines(path, np.array(starts, np.int64), digest.hexdigest())


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line from 1, object) of a file of JSON lines.

    Raises:
        DataError: The file cannot be read, or a line is no JSON object; the text names it.
    """
    for number, _, content in _lines(path):
        if content.strip():
            try:
                yield number, _object(content)
            except ValueError as error:
                raise DataError(f"{path}:{number}: {error}; expected JSON lines, one object a line") from None


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield (number from 1, first byte, content with its end) for every line."""
    try:
        with path.open("rb") as file:
            start = 0
            for number, content in enumerate(file, start=1):
                yield number, start, content
                start += len(content)
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise DataError(f"{path} {reason}") from None


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content.removeprefix(_BOM).decode())
    except UnicodeDecodeError:
        raise ValueError("bytes that are no UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no sound JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)}; expected an object")  # noqa: TRY004 - a bad line
    return value


def shown(value: object) -> str:
    """Return a value from a file as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
