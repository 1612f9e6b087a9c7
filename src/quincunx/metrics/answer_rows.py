"""What readers of files of answers share: JSON or JSON lines, every wrong value named with its file, line or id."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from quincunx.errors import DataError, UsageError

Name = str | PathLike[str]
T = TypeVar("T")
Row = tuple[str, Mapping[str, Any]]
"""Where it stands, as it is said in errors; and what it holds."""


class _Twice(ValueError):
    """A key that stands twice in one object."""


def read_text(path: Name) -> str:
    """Return the text of a file; UsageError where it cannot be read, DataError where it is not UTF-8 or empty."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error
    if not text.strip():
        raise DataError(f"{path}: empty; expected JSON or JSON lines")
    return text


def read_values(path: Name) -> Any:
    """Return what a JSON file holds, the rows of a file of JSON lines; DataError also for what is no JSON."""
    text = read_text(path)
    lines = text.split("\n")
    named = str(path).endswith(".jsonl")
    if named or (text.lstrip()[0] == "{" and sum(bool(line.strip()) for line in lines) > 1):
        try:
            return _Lines((number, _parsed(path, line, number)) for number, line in enumerate(lines, 1) if line.strip())
        except DataError:
            if named or not _spread(lines):
                raise
    return _parsed(path, text, None)


class _Lines(list[tuple[int, Any]]):
    """What the lines of a file hold, with their numbers."""


def _spread(lines: Sequence[str]) -> bool:
    """Tell whether one object is spread over lines: then the first is not whole."""
    first = next(line for line in lines if line.strip())
    try:
        json.loads(first)
    except ValueError:
        return not first.rstrip().endswith("}")
    return False


def _parsed(path: Name, text: str, line: int | None) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except _Twice as error:
        place = path if line is None else f"{path}:{line}"
        raise DataError(f"{place}: {error} stands twice in one object; remove one of the two") from None
    except RecursionError:
        raise DataError(f"{path}: lists within lists too deep to be read; expected answers") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{(line or 1) + error.lineno - 1}:{error.colno}: not JSON: {error.msg}") from None
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{path}: not readable as JSON: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(repr(next(name for number, name in enumerate(names) if name in names[:number])))
    return found


def rows_of(path: Name, data: Any) -> Iterator[Row]:
    """Yield the objects of a list, or of the lines of a file, with their places; DataError for anything else."""
    if not isinstance(data, list):
        raise DataError(f"{path}: found {shown(data)}, expected an object or a list")
    numbered = data if isinstance(data, _Lines) else enumerate(data)
    for number, row in numbered:
        place = f"{path}:{number}" if isinstance(data, _Lines) else f"{path}: item {number}"
        if not isinstance(row, dict):
            raise DataError(f"{place}: found {shown(row)}, expected an object")
        yield place, row


def cells_of(path: Name) -> Iterator[tuple[str, list[str]]]:
    """Yield (place, fields) of each line of a table with commas, blank lines left out; DataError for no table."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: no table with commas: {error}") from None
        if cells:
            yield f"{path}:{reader.line_num}", cells


def id_of(place: str, row: Mapping[str, Any], *keys: str) -> str:
    """Return the id of a row, under the first of some keys that it has, as a text; DataError for one that is neither a
    text nor a whole number."""
    key = next((key for key in keys if key in row), None)
    name = None if key is None else row[key]
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        either = " or ".join(keys)
        found = f"no {either} among {', '.join(row) or 'no keys'}" if key is None else f"{key} {shown(name)}"
        raise DataError(f"{place}: {found}; expected {key or either}, a text or a whole number")
    return str(name)


def new_id(found: Mapping[str, object], place: str, name: str) -> str:
    """Return an id that was not there before; DataError for one that was."""
    if name in found:
        raise DataError(f"{place}: the id {name!r} stands twice; expected each once: remove one of the two")
    return name


def text_of(place: str, value: Any, what: str, *, blank: bool = False) -> str:
    """Return a value that is a text, which may be blank where that is said; DataError says what was expected."""
    if not isinstance(value, str) or not (blank or value.strip()):
        raise DataError(f"{place}: found {shown(value)}, expected {what}")
    return value


def some(path: Name, found: dict[str, T], what: str) -> dict[str, T]:
    """Return what was found; DataError where it is nothing."""
    if not found:
        raise DataError(f"{path}: no {what} in it")
    return found


def shown(value: Any) -> str:
    """Return a value as an error quotes it, cut where it is long."""
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
