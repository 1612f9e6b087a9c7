"""Texts in a dataset that the Hugging Face `datasets` package saved on disk: Arrow files, from which no code is run."""

from __future__ import annotations

from pathlib import Path

from quincunx.data.saved import opened
from quincunx.errors import DataError
from quincunx.recipes.long_range.data.rows import Rows
from quincunx.recipes.long_range.data.text.tables import LABEL, TEXT, add_row, columns

_AT_ONCE = 1000


def read_saved(folder: Path) -> Rows:
    """Return the rows of one split, numbered from 1.

    Raises:
        DataError: No text or label column; the folder cannot be read.
        MissingExtra: The `datasets` package is not installed.
    """
    rows = Rows(folder)
    words: list[str] | None = None
    with opened(folder, "text") as saved:
        names: list[str] = saved.column_names
        if (found := columns(names)) is None:
            raise DataError(
                f"{folder}: expected a column for the text ({', '.join(TEXT)}) and one for the label "
                f"({', '.join(LABEL)}); found {', '.join(names)}"
            )
        text, label = (names[place] for place in found)
        kind = saved.features[label]
        words = getattr(kind, "names", None)
        line = 0
        for batch in saved.select_columns([text, label]).iter(_AT_ONCE):
            for content, value in zip(batch[text], batch[label], strict=True):
                line += 1
                # -1 is how the package writes the label of an unlabelled row
                named = None if words is not None and value == -1 else value
                add_row(rows, line, content, named)
    if words is not None:
        rows.notes.append(f"{folder}: classes are {', '.join(f'{word} = {n}' for n, word in enumerate(words))}.")
    return rows
