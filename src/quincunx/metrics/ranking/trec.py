"""The files of TREC: qrels (query, iteration, document, grade) and runs (query, Q0, document, rank, score, tag).

Lines are cut into columns at the same six bytes as in trec_eval, so an id may hold any other character; rank, iteration
and whatever follows the tag are not looked at.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TypeVar

import numpy as np

from quincunx.errors import DataError, UsageError
from quincunx.runs.files import write_atomically

T = TypeVar("T", int, float)
Name = str | PathLike[str]

GRADE = re.compile(rb"[+-]?[0-9]{1,18}")
SCORE = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
QRELS_COLUMNS = "query iteration document grade"
RUN_COLUMNS = "query Q0 document rank score tag"


def read_qrels(path: Name) -> dict[str, dict[str, int]]:
    """Return {query: {document: grade}} of a qrels file of four columns, plain or gzipped.

    Blank lines are passed over, and lines that begin with # where they are no judgement. UsageError when the file
    cannot be read; DataError naming file and line for anything else than four columns, a grade that is no whole
    number, a pair judged twice, text that is not UTF-8, or a file without judgements.
    """
    return _read(path, QRELS_COLUMNS, _judgement)


def read_run(path: Name) -> dict[str, dict[str, float]]:
    """Return {query: {document: score}} of a run file of six columns or more, plain or gzipped.

    As `read_qrels`; a score must be a finite number.
    """
    return _read(path, RUN_COLUMNS, _result)


def write_qrels(path: Name, qrels: Mapping[str, Mapping[str, int]]) -> None:
    """Write a qrels file, gzipped when its name ends in .gz; DataError for an id that a column cannot hold."""
    lines = [
        f"{_column(query)} 0 {_column(document)} {int(grade)}\n"
        for query, judged in qrels.items()
        for document, grade in judged.items()
    ]
    _write(path, lines)


def write_run(path: Name, run: Mapping[str, Mapping[str, float]], tag: str = "quincunx") -> None:
    """Write a run file, gzipped when its name ends in .gz, each query's documents in the order that is measured.

    DataError for an id that a column cannot hold, or a score that is not finite.
    """
    lines: list[str] = []
    label = _column(tag)
    for query, ranking in run.items():
        with np.errstate(over="ignore"):
            scores = {document: float(np.float32(score)) for document, score in ranking.items()}
        ordered = sorted(sorted(ranking, reverse=True), key=lambda document, by=scores: -by[document])
        for rank, document in enumerate(ordered, 1):
            value = float(ranking[document])
            if not math.isfinite(value):
                raise DataError(f"query {query}, document {document}: the score is {value}, expected a finite number")
            lines.append(f"{_column(query)} Q0 {_column(document)} {rank} {value!r} {label}\n")
    _write(path, lines)


class _Bad(Exception):
    """What is wrong with a line."""


def _judgement(columns: list[bytes]) -> tuple[bytes, bytes, int]:
    if len(columns) != 4:
        raise _Bad(_count(columns, "4", QRELS_COLUMNS))
    query, _, document, grade = columns
    if not GRADE.fullmatch(grade):
        raise _Bad(f"the grade is {_shown(grade)}, expected a whole number")
    return query, document, int(grade)


def _result(columns: list[bytes]) -> tuple[bytes, bytes, float]:
    if len(columns) < 6:
        raise _Bad(_count(columns, "6", RUN_COLUMNS))
    query, _, document, _, score = columns[:5]
    if not SCORE.fullmatch(score):
        raise _Bad(f"the score is {_shown(score)}, expected a finite number")
    value = float(score)
    if not math.isfinite(value):
        raise _Bad(f"the score {_shown(score)} is larger than a number can be")
    return query, document, value


def _read(path: Name, expected: str, parse: Callable[[list[bytes]], tuple[bytes, bytes, T]]) -> dict[str, dict[str, T]]:
    """Return {query: {document: value}}, what `parse` makes of each line's columns."""
    found: dict[str, dict[str, T]] = {}
    for number, line in _lines(path):
        columns = line.split()
        if not columns:
            continue
        try:
            query, document, value = parse(columns)
            one, other = query.decode("utf-8"), document.decode("utf-8")
        except _Bad as error:
            if columns[0].startswith(b"#"):  # a comment, as in trec_eval since version 10
                continue
            raise DataError(f"{path}:{number}: {error}") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{number}: not UTF-8: {error.reason}; convert the file to UTF-8") from error
        ranking = found.setdefault(one, {})
        if other in ranking:
            first = _first_place(path, query, document)
            raise DataError(
                f"{path}:{number}: document {other} of query {one} stands in line {first} already; "
                "expected every document once a query: remove one of the two"
            )
        ranking[other] = value
    if not found:
        raise DataError(f"{path}: no line with the columns {expected}")
    return found


def _first_place(path: Name, query: bytes, document: bytes) -> int:
    """Return the first line of a document of a query."""
    places = (
        number for number, line in _lines(path) if (columns := line.split())[2:3] == [document] and columns[0] == query
    )
    return next(places)


def _lines(path: Name) -> Iterator[tuple[int, bytes]]:
    """Yield the numbered lines of a file."""
    try:
        data = Path(path).read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file: {error}") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if b"\0" in data:
        raise DataError(f"{path}: holds zero bytes, so it is no UTF-8 text; expected lines of columns")
    yield from enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)


def _count(columns: list[bytes], count: str, names: str) -> str:
    return f"{len(columns)} column{'' if len(columns) == 1 else 's'}, expected {count}: {names}"


def _shown(text: bytes) -> str:
    return repr(text.decode("utf-8", "replace"))


def _column(text: str) -> str:
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else b""
    if data.split() != [data] or b"\0" in data:
        raise DataError(f"{text!r} cannot stand in a column: expected a string without spaces, tabs or line ends")
    return text


def _write(path: Name, lines: list[str]) -> None:
    data = "".join(lines).encode("utf-8")
    write_atomically(Path(path), gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data)
