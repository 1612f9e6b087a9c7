"""Texts and labels as columns of CSV and TSV files, or as keys of JSON lines.

The first word of each list that a file has names its column. Bytes that are no UTF-8 make a row bad: these forms are
text by definition.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quincunx.data.csv_fields import long_fields
from quincunx.errors import DataError
from quincunx.recipes.long_range.data.rows import Rows
from quincunx.recipes.long_range.data.text.classes import shown

TEXT = ("text", "review", "sentence", "content", "source")
LABEL = ("label", "sentiment", "class", "target")

_NOT_UTF8 = "bytes that are no UTF-8"


def columns(names: Sequence[str]) -> tuple[int, int] | None:
    """Return which of the names are the text's and the label's, whatever their case; None where either is missing."""
    lower = [name.strip().lower() for name in names]
    found = [next((lower.index(word) for word in words if word in lower), None) for words in (TEXT, LABEL)]
    text, label = found
    return None if text is None or label is None else (text, label)


def add_row(rows: Rows, line: int, text: Any, label: Any) -> None:
    """Keep one row of a table if it is sound, else leave it out with the reason."""
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if text is None or (isinstance(text, str) and not text.strip()):
        rows.skip(line, "an empty text")
    elif not isinstance(text, str):
        rows.skip(line, f"the text is {shown(text)}, expected a string")
    elif label is None or (isinstance(label, str) and not label.strip()):
        rows.skip(line, "a missing label")
    elif not isinstance(label, int | str):
        rows.skip(line, f"the label is {shown(label)}, expected a class number or word")
    else:
        try:
            rows.add(line, label.strip() if isinstance(label, str) else int(label), text.encode())
        except UnicodeEncodeError:
            rows.skip(line, _NOT_UTF8)


def read_csv(path: Path) -> Rows:
    """Return the rows of a file with a header; quoted fields may hold separators and line ends, and be of any length.

    DataError when the header names no text or label column.
    """
    rows = Rows(path)
    # Bytes that are no UTF-8 come through as lone surrogates, which no file in UTF-8 has: their rows are bad ones.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file, long_fields():
        header = file.readline()
        separator, (text, label) = _header(path, header)
        width = len(next(csv.reader([header], delimiter=separator)))
        reader = csv.reader(file, delimiter=separator, strict=True)
        while True:
            line = reader.line_num + 2
            try:
                row = next(reader)
            except StopIteration:
                return rows
            except csv.Error as error:
                rows.skip(line, f"no sound CSV ({error})")
                continue
            if len(row) not in (0, width):
                rows.skip(line, f"expected {width} columns, found {len(row)}")
            elif row:
                add_row(rows, line, row[text], row[label])


def read_json_lines(path: Path) -> Rows:
    """Return the rows of a file with one object a line; DataError where it is one JSON value instead."""
    rows = Rows(path)
    with path.open("rb") as file:
        for line, content in enumerate(file, start=1):
            bare = content.removeprefix(b"\xef\xbb\xbf").strip()
            if line == 1 and bare.startswith(b"["):
                raise DataError(f"{path}:1: a JSON array, expected JSON lines: one object with text and label a line")
            if bare:
                _add_object(rows, line, bare)
    return rows


def _add_object(rows: Rows, line: int, content: bytes) -> None:
    try:
        value = json.loads(content.decode())
    except UnicodeDecodeError:
        rows.skip(line, _NOT_UTF8)
        return
    except (ValueError, RecursionError) as error:
        rows.skip(line, f"no sound JSON ({error})")
        return
    if not isinstance(value, Mapping):
        rows.skip(line, f"{shown(value)}, expected an object")
        return
    names = list(value)
    text, label = (next((value[word] for word in words if word in names), None) for words in (TEXT, LABEL))
    add_row(rows, line, text, label)


def _header(path: Path, line: str) -> tuple[str, tuple[int, int]]:
    """Return the separator and the places of the text's and the label's columns."""
    for separator in "\t,;":
        names = next(csv.reader([line], delimiter=separator), [])
        if found := columns(names):
            return separator, found
    raise DataError(
        f"{path}:1: expected a header with a column for the text ({', '.join(TEXT)}) and one for the label "
        f"({', '.join(LABEL)}); found {shown(line.rstrip()) if line else 'an empty file'}"
    )
