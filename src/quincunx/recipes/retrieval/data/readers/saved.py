"""Datasets that the Hugging Face `datasets` package saved on disk: Arrow files, from which no code is run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quincunx.data.saved import ONE, SEVERAL, opened, split_names
from quincunx.errors import DataError
from quincunx.recipes.retrieval.data.collection import Collection
from quincunx.recipes.retrieval.data.readers.files import HALF_PAIR, BadRows, choose_split, fingerprint
from quincunx.recipes.retrieval.data.readers.records import EXPECTED, Columns
from quincunx.recipes.retrieval.data.readers.rows import Records

_AT_ONCE = 1000


def is_saved(folder: Path) -> bool:
    """Tell whether a folder holds a saved dataset, of one split or of several."""
    return (folder / SEVERAL).is_file() or (folder / ONE).is_file()


def split_folder(folder: Path, split: str | None) -> Path:
    """Return the folder of a split; DataError where there is none, or the list of splits is damaged.

    A folder of one split is training's.
    """
    if not is_saved(folder):
        raise DataError(
            f"{folder} has neither {SEVERAL} nor {ONE}; expected a folder that save_to_disk of Hugging Face's datasets "
            "package wrote"
        )
    if not (folder / SEVERAL).is_file():
        choose_split(["train"], split, folder)
        return folder
    return folder / choose_split(split_names(folder), split, folder)


@contextmanager
def opened_split(folder: Path, split: str | None) -> Iterator[tuple[Any, Path]]:
    """Yield a split's dataset and its folder.

    Raises:
        DataError: No such split, or what is read within cannot be read.
        MissingExtra: The `datasets` package is not installed.
    """
    place = split_folder(folder, split)
    with opened(place, "retrieval") as saved:
        yield saved, place


def column_names(folder: Path, split: str | None) -> list[str]:
    """Return the names of a split's columns without opening its rows; DataError as `split_folder`."""
    path = split_folder(folder, split) / ONE
    try:
        return list(json.loads(path.read_bytes())["features"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected the description of a saved Hugging Face dataset; {error}") from None


def content_fingerprint(place: Path, *how: object) -> str:
    """Return a hash of the rows of a split's folder."""
    return fingerprint(sorted(place.glob("*.arrow")), *how)


def read_saved(folder: Path, split: str | None = None, *, bad: BadRows | None = None) -> Collection:
    """Return the collection of a split with text columns, as `read_pairs` takes them.

    Args:
        folder: What `save_to_disk` wrote, of one split or of several.
        split: Which of several.
        bad: Takes the bad rows, numbered from 1; None: any is an error.

    Raises:
        DataError: No such split, no known columns, no row; bad rows unless they are skipped.
        MissingExtra: The `datasets` package is not installed.
    """
    bad = BadRows() if bad is None else bad
    records = Records()
    with opened_split(folder, split) as (saved, place):
        names: list[str] = saved.column_names
        columns = Columns.among(names)
        if columns is None:
            raise DataError(f"{place}: expected {EXPECTED}; found the columns {', '.join(names)}")
        line = 0
        for batch in saved.select_columns(columns.wanted).iter(_AT_ONCE):
            for values in zip(*batch.values(), strict=True):
                line += 1
                try:
                    records.add(columns.record(dict(zip(batch, values, strict=True))))
                except UnicodeEncodeError:
                    bad.add(place, line, HALF_PAIR)
                except ValueError as error:
                    bad.add(place, line, str(error))
    bad.settle(place, EXPECTED)
    if not len(records):
        raise bad.nothing(place, EXPECTED)
    unused = columns.unused(names)
    notes = [f"{place}: columns that are not used: {', '.join(unused)}."] if unused else []
    key = content_fingerprint(place, "saved texts", bad.count)
    return records.collection(folder.resolve().name, key, notes, bad)
