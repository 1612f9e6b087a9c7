"""Pairs of a query and a document, or of several with hard negatives, a row each: JSON lines, CSV or TSV.

CSV has a header and quotes; TSV has no quotes, and a header only where its first line holds known column names.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from quincunx.data.csv_fields import long_fields
from quincunx.errors import DataError
from quincunx.recipes.retrieval.data.collection import Collection
from quincunx.recipes.retrieval.data.readers.files import (
    HALF_PAIR,
    NOT_UTF8,
    BadRows,
    bare_suffix,
    fingerprint,
    lines,
    objects,
    opened,
    shown,
    text_lines,
)
from quincunx.recipes.retrieval.data.readers.records import EXPECTED, Columns
from quincunx.recipes.retrieval.data.readers.rows import Records

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")

Row = tuple[int, Mapping[str, Any]]


def read_pairs(path: Path, *, bad: BadRows | None = None, negatives: bool = False) -> Collection:
    """Return the collection that a file of rows is.

    A text is one document however many rows hold it, and so with queries: rows of one query are its several positives.
    Rows whose `label` is 0 or below are judged not relevant, and serve as hard negatives.

    Args:
        path: JSON lines, CSV with a header, or TSV of two columns (query, document) or three (and a score where the
            first line has a number there, else a negative), each also as `.gz`.
        bad: Takes the bad rows; None: any is an error.
        negatives: Whether every row must have a negative; the third column of a TSV file is one then.

    Raises:
        DataError: No known columns; no row; bad rows unless they are skipped.
    """
    bad = BadRows() if bad is None else bad
    expected = EXPECTED + (", in every row a negative" if negatives else "")
    records, notes = Records(), list[str]()
    unused: dict[str, None] = {}
    for line, columns, row in _rows(path, bad, negatives):
        try:
            record = columns.record(row)
            if negatives and not record.negatives:
                raise ValueError("no negative")
            records.add(record)
        except UnicodeEncodeError:
            bad.add(path, line, HALF_PAIR if bare_suffix(path) in SUFFIXES[:3] else NOT_UTF8)
        except ValueError as error:
            bad.add(path, line, str(error))
        else:
            unused.update(dict.fromkeys(columns.unused(list(row))))
    bad.settle(path, expected)
    if not len(records):
        raise bad.nothing(path, expected)
    if unused:
        notes.append(f"{path}: columns that are not used: {', '.join(unused)}.")
    key = fingerprint((path,), "triplets" if negatives else "pairs", bare_suffix(path), bad.count)
    return records.collection(path.name.removesuffix(".gz").rpartition(".")[0], key, notes, bad)


def _rows(path: Path, bad: BadRows, negatives: bool) -> Iterator[tuple[int, Columns, Mapping[str, Any]]]:
    """Yield (line, columns, row); `negatives` as `read_pairs`."""
    suffix = bare_suffix(path)
    if suffix not in SUFFIXES:
        raise DataError(f"{path} ends in none of {', '.join(SUFFIXES)}; expected one of those forms, with {EXPECTED}")
    if suffix in (".csv", ".tsv"):
        columns, found = _csv_rows(path, bad) if suffix == ".csv" else _tsv_rows(path, bad, negatives)
        yield from ((line, columns, row) for line, row in found)
        return
    known: dict[tuple[str, ...], Columns | None] = {}
    for line, row in objects(path, bad):
        names = tuple(row)
        columns = known[names] if names in known else known.setdefault(names, Columns.among(names))
        if columns is None:
            bad.add(path, line, f"the keys {shown(list(names))} name no query and document")
        else:
            yield line, columns, row


def _csv_rows(path: Path, bad: BadRows) -> tuple[Columns, Iterator[Row]]:
    with opened(path) as file:
        header = next(csv.reader(_characters(file)), [])
    columns = Columns.among(header)
    if columns is None:
        raise DataError(f"{path}:1: expected a header with {EXPECTED}; found {shown(header) if header else 'nothing'}")
    return columns, _csv_body(path, bad, header)


def _csv_body(path: Path, bad: BadRows, header: list[str]) -> Iterator[Row]:
    with opened(path) as file:
        reader = csv.reader(_characters(file), strict=True)
        next(reader)
        while True:
            line = reader.line_num + 1
            try:
                with long_fields():
                    row = next(reader, None)
            except csv.Error as error:
                bad.add(path, line, f"no sound CSV ({error})")
                continue
            if row is None:
                return
            if len(row) not in (0, len(header)):
                bad.add(path, line, f"{len(row)} columns; expected {len(header)}, as the header has")
            elif row:
                yield line, dict(zip(header, row, strict=True))


def _characters(file: Any) -> TextIOWrapper:
    """Return a file as text; bytes that are no UTF-8 come through as lone surrogates, which no UTF-8 has."""
    return TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _tsv_rows(path: Path, bad: BadRows, negatives: bool) -> tuple[Columns, Iterator[Row]]:
    first = next((line.decode("utf-8", "replace").split("\t") for _, line in lines(path)), None)
    if first is None:
        raise DataError(f"{path} is empty; expected lines of query, tab, document")
    columns = Columns.among(first)
    if columns is not None:
        return columns, _tsv_body(path, bad, first, header=True)
    names = ["query", "positive", "negative"]
    if len(first) not in (2, 3):
        raise DataError(
            f"{path}:1: {len(first)} columns; expected two (query, document) or three (and a score, or a negative), "
            "or a header"
        )
    if len(first) == 3 and (negatives or not _is_number(first[2])):
        return Columns("query", ("positive",), ("negative",)), _tsv_body(path, bad, names, header=False)
    names[2] = "score"
    columns = Columns("query", ("positive",), scores="score" if len(first) == 3 else None)
    return columns, _tsv_body(path, bad, names[: len(first)], header=False)


def _tsv_body(path: Path, bad: BadRows, names: list[str], *, header: bool) -> Iterator[Row]:
    for line, text in text_lines(path, bad):
        if header:
            header = False
            continue
        row = text.split("\t")
        if len(row) != len(names):
            bad.add(path, line, f"{len(row)} columns; expected {len(names)}: {', '.join(names)}")
        else:
            yield line, dict(zip(names, row, strict=True))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
