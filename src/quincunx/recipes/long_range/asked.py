"""Rows that a user asks a trained model about, as examples of its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from quincunx.config.wording import show
from quincunx.errors import DataError
from quincunx.recipes.long_range.data import Examples
from quincunx.recipes.long_range.data.listops import language as listops
from quincunx.recipes.long_range.evaluate import examples_of

KEYS: Mapping[str, tuple[str, ...]] = {
    "listops": ("source",),
    "text": ("text",),
    "retrieval": ("text1", "text2"),
    "image": ("pixels",),
    "pathfinder": ("pixels",),
}
"""By task: the keys of a row."""
PICTURES = ("image", "pathfinder")
"""Tasks whose sequences are pictures."""


def read_rows(task: str, rows: Sequence[Mapping[str, Any]], pixels: int | None = None) -> Examples:
    """Return rows as unlabelled examples; DataError names the first row that is none, and what is expected.

    A row is `{"source": "[MAX 1 2 ]"}` for listops, `{"text": ...}`, `{"text1": ..., "text2": ...}` for retrieval, and
    `{"pixels": [0, 255, ...]}` for pictures: grey values row after row, so many `pixels` of them if given.
    """
    sequences: list[bytes] = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            keys = ", ".join(f'"{key}": ...' for key in KEYS[task])
            raise DataError(f"row {number}: expected a mapping, {{{keys}}}, found {show(row)}")
        for key in KEYS[task]:
            try:
                sequences.append(_symbols(task, row.get(key), pixels))
            except ValueError as error:
                raise DataError(f'row {number}: under "{key}", {error}') from error
    return examples_of(task, sequences, [0] * len(rows))


def _symbols(task: str, value: Any, pixels: int | None) -> bytes:
    """Return the symbols of one sequence; ValueError says what is wrong with it."""
    if task in PICTURES:
        return _pixels(value, pixels)
    if not isinstance(value, str):
        raise ValueError(f"expected a text, found {show(value)}")  # noqa: TRY004 - one kind of error for a bad row
    if task != "listops":
        if not value:
            raise ValueError("expected a text, found an empty one")
        return value.encode("utf-8", "surrogatepass")
    tokens = listops.tokenize(value.encode("utf-8", "backslashreplace"))
    fault = listops.examine(np.frombuffer(tokens, np.uint8), np.array([0, len(tokens)])).faults[0]
    if fault != listops.SOUND:
        raise ValueError(f"not a ListOps expression: {listops.FAULTS[fault]}")
    return tokens


def _pixels(value: Any, count: int | None) -> bytes:
    if not isinstance(value, list) or not value:
        raise ValueError(f"expected a list of grey values, found {show(value)}")
    if count is not None and len(value) != count:
        raise ValueError(f"expected {count:,} grey values, as in training, found {len(value):,}")
    for place, pixel in enumerate(value):
        if type(pixel) is not int or not 0 <= pixel <= 255:
            raise ValueError(f"expected whole numbers from 0 to 255, found {show(pixel)} at place {place}")
    return bytes(value)
