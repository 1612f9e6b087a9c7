"""Texts in a dataset that the Hugging Face `datasets` package saved on disk: Arrow files, from which no code is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quincunx.errors import DataError, MissingExtra
from quincunx.recipes.long_range.data.rows import Rows
from quincunx.recipes.long_range.data.text.tables import LABEL, TEXT, add_row, columns

SEVERAL = "dataset_dict.json"
"""Lies in a folder of several splits."""
ONE = "dataset_info.json"
"""Lies in the folder of one split."""

_AT_ONCE = 1000


def splits_of(folder: Path) -> list[Path]:
    """Return the folders of a saved dataset's splits; DataError when its list of them is damaged."""
    path = folder / SEVERAL
    try:
        names = json.loads(path.read_bytes())["splits"]
        if not all(isinstance(name, str) and name not in ("", "..") and Path(name).name == name for name in names):
            raise ValueError("names that are no folder's")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected the splits of a saved Hugging Face dataset; {error}") from None
    return [folder / name for name in names]


def read_saved(folder: Path) -> Rows:
    """Return the rows of one split, numbered from 1.

    Raises:
        DataError: No text or label column; the folder cannot be read.
        MissingExtra: The `datasets` package is not installed.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra("datasets", "text", f"reading the saved Hugging Face dataset {folder}") from None
    rows = Rows(folder)
    try:
        saved: Any = datasets.load_from_disk(str(folder)).with_format(None)
        names: list[str] = saved.column_names
        if (found := columns(names)) is None:
            raise DataError(
                f"{folder}: expected a column for the text ({', '.join(TEXT)}) and one for the label "
                f"({', '.join(LABEL)}); found {', '.join(names)}"
            )
        text, label = (names[place] for place in found)
        kind = saved.features[label]
        words: list[str] | None = getattr(kind, "names", None)
        line = 0
        for batch in saved.select_columns([text, label]).iter(_AT_ONCE):
            for content, value in zip(batch[text], batch[label], strict=True):
                line += 1
                # -1 is how the package writes the label of an unlabelled row
                named = None if words is not None and value == -1 else value
                add_row(rows, line, content, named)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read the saved Hugging Face dataset {folder}: {error}") from None
    if words is not None:
        rows.notes.append(f"{folder}: classes are {', '.join(f'{word} = {n}' for n, word in enumerate(words))}.")
    return rows
