"""Guide 000's datasets: saved on disk, tokenized already, a document with its queries a row.

A row holds `input_ids`, the document (the guide's anchor), and `pos_input_ids`, a list of queries to which it is the
answer, as many as it has. The texts are not there, nor the tokenizer that made the ids.
"""

from __future__ import annotations

from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError
from quincunx.recipes.retrieval.data.collection import Collection, Relations
from quincunx.recipes.retrieval.data.readers.files import BadRows
from quincunx.recipes.retrieval.data.readers.saved import content_fingerprint, opened_split
from quincunx.recipes.retrieval.data.texts import Strings, TokenTexts

DOCUMENT, QUERIES = "input_ids", "pos_input_ids"
EXPECTED = f"a column {DOCUMENT} (a list of token ids) and a column {QUERIES} (a list of such lists)"

_AT_ONCE = 10_000
_LARGEST = 2**31 - 1


def is_tokenized(names: list[str]) -> bool:
    """Tell by the names of its columns whether a dataset has this form."""
    return DOCUMENT in names and QUERIES in names


def read_tokenized(folder: Path, split: str | None = None, *, bad: BadRows | None = None) -> Collection:
    """Return the collection of a split: document i is row i, its queries are what `pos_input_ids` lists.

    Rows without a query are allowed: their documents are never positives.

    Args:
        folder: What `save_to_disk` wrote.
        split: Which of several; the guide's are `train` and `test`.
        bad: Takes the bad rows, numbered from 1; None: any is an error.

    Raises:
        DataError: No such split, other columns, no row with a query; bad rows unless they are skipped.
        MissingExtra: The `datasets` package is not installed.
    """
    bad = BadRows() if bad is None else bad
    blocks: list[_Block] = []
    with opened_split(folder, split) as (saved, place):
        names: list[str] = saved.column_names
        if not is_tokenized(names):
            raise DataError(f"{place}: expected {EXPECTED}; found the columns {', '.join(names)}")
        line = 1
        for table in saved.select_columns([DOCUMENT, QUERIES]).with_format("arrow").iter(_AT_ONCE):
            columns = [table.column(name).combine_chunks() for name in (DOCUMENT, QUERIES)]
            blocks.append(_block(columns[0], columns[1], place, line, bad))
            line += len(table)
    bad.settle(place, EXPECTED)
    counts = _joined([block.counts for block in blocks])
    if not counts.sum():
        raise bad.nothing(place, f"{EXPECTED}, and queries in some of them")
    unused = [name for name in names if name not in (DOCUMENT, QUERIES)]
    notes = [f"{place}: columns that are not used: {', '.join(unused)}."] if unused else []
    if alone := int((counts == 0).sum()):
        notes.append(f"{place}: {alone:,} of {len(counts):,} rows have no query; they only serve as negatives.")
    documents = _side("d", [block.documents for block in blocks])
    queries = _side("q", [block.queries for block in blocks])
    answers = np.repeat(np.arange(len(counts)), counts)
    relevant = Relations.build(np.stack([np.arange(len(queries)), answers], axis=1), len(queries))
    return Collection(
        folder.resolve().name,
        documents,
        queries,
        relevant,
        Relations.none(len(queries)),
        content_fingerprint(place, "tokenized", bad.count),
        notes,
        bad.listed,
    )


_Lists = tuple[NDArray[np.int32], NDArray[np.int64]]
"""Token ids of several texts one after another, and the length of each."""


class _Block:
    """The sound rows of a stretch of the dataset."""

    def __init__(self, documents: _Lists, queries: _Lists, counts: NDArray[np.int64]) -> None:
        self.documents = documents
        self.queries = queries
        self.counts = counts
        """Of each row, how many queries it has."""


def _block(documents: Any, queries: Any, place: Path, line: int, bad: BadRows) -> _Block:
    """Return the sound rows of two Arrow columns, whose first row is numbered `line`."""
    import pyarrow.types as kinds

    deep = kinds.is_list(queries.type) or kinds.is_large_list(queries.type)
    if not deep or not hasattr(documents, "value_lengths") or not hasattr(queries.flatten(), "value_lengths"):
        raise DataError(
            f"{place}: expected {EXPECTED}; found {DOCUMENT} of {documents.type}, {QUERIES} of {queries.type}"
        )
    inner = queries.flatten()
    row_of = np.repeat(np.arange(len(queries)), _lengths(queries))
    sound = np.ones(len(documents), bool)

    def refuse(rows: NDArray[np.int64], reason: str) -> None:
        for row in np.unique(rows[sound[rows]]).tolist():
            bad.add(place, line + row, reason)
            sound[row] = False

    sides = ((DOCUMENT, documents, np.arange(len(documents))), (f"{QUERIES}: a query", inner, row_of))
    for what, column, rows in sides:
        refuse(rows[_lengths(column) == 0], f"{what} without a token")
        tokens = column.flatten()
        of = np.repeat(rows, _lengths(column))
        refuse(of[_nulls(tokens)], f"{what} holds a token that is null")
        if kinds.is_integer(tokens.type):
            values = _values(tokens)
            refuse(of[(values < 0) | (values > _LARGEST)], f"{what} holds a token below 0 or above {_LARGEST}")
        elif len(tokens):
            raise DataError(f"{place}: {what} holds {tokens.type}; expected whole numbers, the ids of tokens")
    counts = _lengths(queries)
    return _Block(_kept(documents, sound), _kept(inner, sound[row_of]), counts[sound])


def _lengths(column: Any) -> NDArray[np.int64]:
    """Return the lengths of an Arrow column of lists; a null is an empty list."""
    from pyarrow import compute

    return np.asarray(compute.fill_null(column.value_lengths(), 0), np.int64)


def _nulls(tokens: Any) -> NDArray[np.bool_]:
    return np.asarray(tokens.is_null())


def _values(tokens: Any) -> NDArray[np.int64]:
    from pyarrow import compute

    return np.asarray(compute.fill_null(tokens, 0)).astype(np.int64)


def _kept(column: Any, sound: NDArray[np.bool_]) -> _Lists:
    lengths = _lengths(column)
    return _values(column.flatten())[np.repeat(sound, lengths)].astype(np.int32), lengths[sound]


def _side(letter: str, lists: list[_Lists]) -> TokenTexts:
    lengths = _joined([lengths for _, lengths in lists])
    flat = np.concatenate([tokens for tokens, _ in lists])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = Strings.of(f"{name}{number}" for name, number in zip(repeat(letter), range(len(lengths)), strict=False))
    return TokenTexts(ids, flat, offsets)


def _joined(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *parts])
