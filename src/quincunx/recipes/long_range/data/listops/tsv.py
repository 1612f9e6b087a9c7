"""Reads ListOps TSV files: the Long Range Arena's (Source, Target, parentheses) and the original ones (Target, Source).

Every row is checked, its label against its expression's value too, since a file with shifted columns or a half-copied
row would otherwise train without complaint. Bad rows are named and left out; many of them are an error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from quincunx.errors import DataError
from quincunx.recipes.long_range.data.examples import Examples, SkippedRow
from quincunx.recipes.long_range.data.listops.language import FAULTS, examine, tokenize

TOLERATED_SHARE = 0.01
TOLERATED_ROWS = 10
"""From this many bad rows on, `TOLERATED_SHARE` must not be exceeded."""

_TOKENS_AT_ONCE = 1_000_000
_LONGEST_HEADER = 4096


def read_tsv(
    path: str | Path,
    limit: int | None = None,
    on_bad: Callable[[SkippedRow], None] | None = None,
    lines: list[int] | None = None,
) -> Examples:
    """Return the sound rows of a file, the first `limit` of them if given.

    The header names the columns `Source` (an expression, with or without parentheses) and `Target` (its value) in
    either order. FIRST and LAST become the unknown token; the labels of such rows are taken on trust. `on_bad` is told
    of every row that is left out, in order; `lines` gets the line number of every row that is used. DataError: no such
    file, another header, no sound row, or bad rows that are
    at least 10 and more than 1 % of those read.
    """
    path = Path(path)
    reader = _Reader(path, on_bad, lines if lines is not None else [])
    try:
        with path.open("rb") as file:
            source_first = _source_first(path, file.readline(_LONGEST_HEADER))
            for number, line in enumerate(file, start=2):
                if limit is not None and reader.pending_or_good >= limit:
                    reader.examine_pending()
                    if reader.good >= limit:
                        break
                reader.add(number, line, source_first)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; expected a ListOps TSV file") from None
    reader.examine_pending()
    reader.refuse_if_mostly_bad()
    return Examples.join(reader.parts)


class _Reader:
    """The rows of one file so far; brackets and values are checked for many rows at once."""

    def __init__(self, path: Path, on_bad: Callable[[SkippedRow], None] | None, lines: list[int]) -> None:
        self.path = path
        self.lines = lines
        self.on_bad = on_bad
        self.parts: list[Examples] = []
        self.good = 0
        self.bad = 0
        self.first_bad: list[SkippedRow] = []
        self._rows: list[bytes] = []
        self._labels: list[int] = []
        self._lines: list[int] = []
        self._bad_pending: list[SkippedRow] = []
        self._tokens = 0

    @property
    def pending_or_good(self) -> int:
        return self.good + len(self._rows)

    def add(self, number: int, line: bytes, source_first: bool) -> None:
        try:
            row, label = _parse(line, source_first)
        except ValueError as error:
            self._bad_pending.append(SkippedRow(str(self.path), number, str(error)))
            return
        self._rows.append(row)
        self._labels.append(label)
        self._lines.append(number)
        self._tokens += len(row)
        if self._tokens >= _TOKENS_AT_ONCE:
            self.examine_pending()

    def examine_pending(self) -> None:
        if self._rows:
            part = Examples.of(self._rows, self._labels)
            findings = examine(part.flat, part.offsets)
            wrong = (findings.values >= 0) & (findings.values != part.labels.astype(np.int8))
            for index in np.flatnonzero((findings.faults > 0) | wrong):
                if findings.faults[index]:
                    reason = FAULTS[findings.faults[index]]
                else:
                    reason = f"the label is {part.labels[index]}, the expression's value {findings.values[index]}"
                self._bad_pending.append(SkippedRow(str(self.path), self._lines[index], reason))
            sound = (findings.faults == 0) & ~wrong
            self.good += int(sound.sum())
            self.lines.extend(self._lines[index] for index in np.flatnonzero(sound))
            self.parts.append(part if sound.all() else part.where(sound))
        self._report_bad()
        self._rows, self._labels, self._lines, self._tokens = [], [], [], 0

    def refuse_if_mostly_bad(self) -> None:
        rows = self.good + self.bad
        shown = "".join(f"\n  {row}" for row in self.first_bad)
        if self.bad >= TOLERATED_ROWS and self.bad > TOLERATED_SHARE * rows:
            raise DataError(
                f"{self.bad:,} of {rows:,} rows of {self.path} are bad, more than {TOLERATED_SHARE:.0%}; the first:"
                f"{shown}\nExpected a ListOps expression such as [MAX 2 9 [MIN 4 7 ] ] and its value, 0 to 9."
            )
        if not self.good:
            raise DataError(f"{self.path} has no usable row below its header{':' if shown else ''}{shown}")

    def _report_bad(self) -> None:
        self._bad_pending.sort(key=lambda row: row.line)
        for row in self._bad_pending:
            self.bad += 1
            if len(self.first_bad) < 5:
                self.first_bad.append(row)
            if self.on_bad:
                self.on_bad(row)
        self._bad_pending = []


def _source_first(path: Path, header: bytes) -> bool:
    names = [name.strip().lower() for name in header.removeprefix(b"\xef\xbb\xbf").split(b"\t")]
    if names not in ([b"source", b"target"], [b"target", b"source"]):
        found = repr(header[:80].decode("utf-8", "backslashreplace").rstrip("\r\n")) if header else "an empty file"
        raise DataError(f"{path}:1: expected a header with the columns Source and Target, tab between; found {found}")
    return names[0] == b"source"


def _parse(line: bytes, source_first: bool) -> tuple[bytes, int]:
    """Return token ids and label; ValueError says what is wrong with the row."""
    columns = line.rstrip(b"\r\n").split(b"\t")
    if len(columns) != 2:
        raise ValueError("an empty row" if not line.strip() else f"expected 2 columns, found {len(columns)}")
    source, label = columns if source_first else reversed(columns)
    label = label.strip()
    if len(label) != 1 or not label.isdigit():
        shown = label[:40].decode("utf-8", "backslashreplace")
        raise ValueError(f"the label is {shown!r}, expected a digit")
    return tokenize(source), int(label)
