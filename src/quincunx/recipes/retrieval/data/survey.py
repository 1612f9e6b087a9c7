"""A corpus gone through once before it is encoded: is every row sound, where does each shard begin, which corpus is it.

Memory does not grow with the corpus: of the ids, which must differ, hashes go to a file and are compared a part at a
time.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from quincunx.errors import DataError
from quincunx.index.filling import Part
from quincunx.recipes.retrieval.data.readers.files import BadRows, shown
from quincunx.recipes.retrieval.data.stream import EXPECTED, CorpusStream, Row, add_content, content_hasher
from quincunx.recipes.retrieval.data.texts import content_hash

COMPARED = 1 << 22
"""Hashes compared at once, 32 MiB of them."""
_AT_ONCE = 1 << 16

Lines = Collection[tuple[int, int]]
"""(file, line) of rows."""


@dataclass(frozen=True)
class Survey:
    """What is known of a corpus once it has been gone through."""

    parts: Sequence[Part]
    corpus: dict[str, Any]
    """Plain values: `name`, `format`, `rows`, `fingerprint`, `files`, `title_separator`, `left_out`, `skipped`."""


def survey(
    stream: CorpusStream,
    size: int,
    bad: BadRows,
    *,
    scratch: Path | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Survey:
    """Go through a corpus.

    Args:
        stream: It.
        size: Rows of a shard; the last may have fewer.
        bad: Takes the bad rows. A row whose id an earlier one has is one.
        scratch: Folder of a file that takes 8 bytes a row and is gone afterwards; None: the system's own.
        on_progress: Called with the number of rows gone through, now and then.

    Raises:
        DataError: No row is left, a file cannot be read, or bad rows that are not to be skipped.
    """
    parts, repeated = _gone_through(stream, size, bad, scratch, on_progress, ())
    left_out = sorted(_later_ones(stream, repeated, bad)) if repeated else []
    bad.settle(stream.path, EXPECTED)
    if left_out:
        parts, _ = _gone_through(stream, size, BadRows(skip=True), scratch, on_progress, set(left_out))
    if not parts:
        raise bad.nothing(stream.path, EXPECTED)
    rows = sum(part.rows for part in parts)
    key = blake2b("".join(part.content for part in parts).encode(), digest_size=16).hexdigest()
    corpus = {
        "name": stream.name,
        "format": stream.format,
        "rows": rows,
        "fingerprint": f"{key}-{size}",
        "files": stream.facts(),
        "title_separator": stream.title_separator,
        "left_out": left_out,
        "skipped": bad.count,
    }
    return Survey(parts, corpus)


class _IdHashes:
    """Hashes of ids, in a file that nobody else sees."""

    def __init__(self, folder: Path | None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - as long as this object
        self._waiting = array("Q")
        self.count = 0

    def add(self, value: int) -> None:
        self._waiting.append(value)
        self.count += 1
        if len(self._waiting) >= _AT_ONCE:
            self._write()

    def repeated(self) -> set[int]:
        """Return the hashes that were added more than once."""
        self._write()
        found: set[int] = set()
        parts = -(-self.count // COMPARED)
        for part in range(parts):
            self._file.seek(0)
            mine: list[np.ndarray] = []
            while block := self._file.read(8 * _AT_ONCE):
                values = np.frombuffer(block, np.uint64)
                mine.append(values[values % np.uint64(parts) == part])
            ordered = np.sort(np.concatenate(mine))
            found.update(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
        return found

    def close(self) -> None:
        self._file.close()

    def _write(self) -> None:
        self._file.write(self._waiting.tobytes())
        self._waiting = array("Q")


def _gone_through(
    stream: CorpusStream,
    size: int,
    bad: BadRows,
    scratch: Path | None,
    on_progress: Callable[[int], None] | None,
    left_out: Lines,
) -> tuple[list[Part], set[int]]:
    """Return the shards to be, and the hashes of ids that occur more than once."""
    parts: list[Part] = []
    hashes = _IdHashes(scratch)
    hasher, first, rows = content_hasher(), None, 0
    try:
        for row in stream.rows(bad, left_out=left_out):
            first = first or row.mark
            hashes.add(content_hash(row.id.encode()))
            add_content(hasher, row)
            rows += 1
            if rows == size:
                parts.append(Part(rows, hasher.hexdigest(), list(first)))
                hasher, first, rows = content_hasher(), None, 0
            if on_progress is not None and hashes.count % _AT_ONCE == 0:
                on_progress(hashes.count)
        if first is not None:
            parts.append(Part(rows, hasher.hexdigest(), list(first)))
        return parts, hashes.repeated()
    except OSError as error:
        raise DataError(f"{scratch or tempfile.gettempdir()}: {error.strerror or error}") from error
    finally:
        hashes.close()


def _later_ones(stream: CorpusStream, repeated: Collection[int], bad: BadRows) -> list[tuple[int, int]]:
    """Return (file, line) of rows whose id an earlier row has, and note them as bad rows."""
    firsts: dict[str, Row] = {}
    found: list[tuple[int, int]] = []
    for row in stream.rows(BadRows(skip=True)):
        if content_hash(row.id.encode()) not in repeated:
            continue
        first = firsts.setdefault(row.id, row)
        if first is not row:
            found.append((row.mark.file, row.mark.line))
            where = f"line {first.mark.line}" + (
                f" of {stream.files[first.mark.file]}" if first.mark.file != row.mark.file else ""
            )
            reason = f"the id {shown(row.id)} is that of {where} already; ids must differ"
            bad.add(stream.files[row.mark.file], row.mark.line, reason)
    return found
