"""What importers share on the side of files: JSON whose every wrong value is named with its place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.lines import json_lines, shown
from quincunx.recipes.vision_language.data.record import Box

T = TypeVar("T")

_WORDS = {str: "a text", int: "a whole number", float: "a number", list: "a list", dict: "an object", bool: "a boolean"}
_SPLITS = {
    "train": ("train", "training", "trainval"),
    "dev": ("dev", "val", "valid", "validation", "minival", "nominival"),
    "test": ("test", "testdev", "submit"),
}


class Row:
    """An object of a file and where it stands, for messages."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def get(self, key: str, kind: type[T]) -> T | None:
        """Return a value of a kind, None where it is absent or null; DataError where it is of another kind."""
        value = self.values.get(key)
        if value is None:
            return None
        if kind is float and type(value) is int:
            return kind(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(key, f"{shown(value)}; expected {_WORDS[kind]}")
        return value

    def need(self, key: str, kind: type[T]) -> T:
        """Return a value of a kind; DataError where it is absent or of another kind."""
        value = self.get(key, kind)
        if value is None:
            raise self.wrong(key, f"absent; expected {_WORDS[kind]}")
        return value

    def name(self, *keys: str) -> str:
        """Return an id under the first of some keys that is there: a text, or a whole number as one."""
        for key in keys:
            value = self.values.get(key)
            if type(value) is int or (isinstance(value, str) and value):
                return str(value)
        raise self.wrong(keys[0], f"{shown(self.values.get(keys[0]))}; expected an id")

    def texts(self, key: str) -> list[str]:
        """Return a list of texts; DataError for another."""
        found = self.need(key, list)
        if not all(isinstance(text, str) for text in found):
            raise self.wrong(key, f"{shown(found)}; expected a list of texts")
        return found

    def wrong(self, key: str, what: str) -> DataError:
        """Return the error for a value."""
        return DataError(f"{self.where}: {key}: {what}")


def json_file(path: Path) -> Any:
    """Return what a JSON file holds; DataError names it where it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise DataError(f"{path} {reason}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no sound JSON ({error})") from None


def rows_of(path: Path, *keys: str) -> Iterator[Row]:
    """Yield the objects of a JSON list, of the list under one of some keys, or of a file of JSON lines.

    Raises:
        DataError: There is no such list, or something in it is no object.
    """
    if path.suffix == ".jsonl":
        for number, values in json_lines(path):
            yield Row(values, f"{path}:{number}")
        return
    whole = json_file(path)
    key = next((key for key in keys if isinstance(whole, dict) and key in whole), None)
    found = whole[key] if key is not None else whole
    if not isinstance(found, list):
        wanted = " or ".join(["a list", *(f"an object with {key}" for key in keys)])
        raise DataError(f"{path}: {shown(found)}; expected {wanted}")
    yield from listed(found, f"{path}: {key or ''}")


def listed(values: Sequence[Any], where: str) -> Iterator[Row]:
    """Yield the objects of a list as rows; DataError for what is none."""
    for number, each in enumerate(values):
        if not isinstance(each, dict):
            raise DataError(f"{where}[{number}]: {shown(each)}; expected an object")
        yield Row(each, f"{where}[{number}]")


def split_named(path: Path) -> str:
    """Return the split that a file's name says: `v2_val.json` is dev; UsageError where it says none or several."""
    found = splits_in(path)
    if len(found) != 1:
        raise UsageError(f"{path}: its name does not say which split it is; say it with --split")
    return found.pop()


def splits_in(path: Path) -> set[str]:
    """Return the splits that a file's name speaks of."""
    stem = path.name.split(".")[0].lower()
    words = "".join(letter if letter.isalpha() else " " for letter in stem).split()
    return {split for split, known in _SPLITS.items() for word in words if word in known}


def split_word(word: str) -> str:
    """Return our word for a data set's own split: `val` is dev; others stay."""
    return next((split for split, known in _SPLITS.items() if word.lower() in known), word)


def corners(row: Row, key: str, width: int, height: int) -> Box:
    """Return a box given as x, y, width, height, cut to its picture; DataError where nothing of it is left."""
    found = row.need(key, list)
    if len(found) != 4 or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in found):
        raise row.wrong(key, f"{shown(found)}; expected x, y, width, height")
    x, y, wide, high = map(float, found)
    box = (max(x, 0.0), max(y, 0.0), min(x + wide, float(width)), min(y + high, float(height)))
    if not (box[0] < box[2] and box[1] < box[3]):
        raise row.wrong(key, f"{shown(found)} is empty or out of the picture of {width} x {height} pixels")
    return box
