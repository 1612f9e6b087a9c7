"""Datasets that the Hugging Face `datasets` package saved on disk: Arrow files, from which no code is run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quincunx.errors import DataError, MissingExtra

SEVERAL = "dataset_dict.json"
"""Lies in a folder of several splits."""
ONE = "dataset_info.json"
"""Lies in the folder of one split."""


def split_names(folder: Path) -> list[str]:
    """Return the splits of a folder of several, each the name of a folder within; DataError for a damaged list."""
    path = folder / SEVERAL
    try:
        names = json.loads(path.read_bytes())["splits"]
        if not all(isinstance(name, str) and name not in ("", "..") and Path(name).name == name for name in names):
            raise ValueError("names that are no folder's")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected the splits of a saved Hugging Face dataset; {error}") from None
    return list(names)


@contextmanager
def opened(folder: Path, extra: str) -> Iterator[Any]:
    """Yield the dataset in the folder of one split.

    Args:
        folder: The folder of one split.
        extra: The extra of ours that brings the `datasets` package.

    Raises:
        DataError: It cannot be read; also where that shows within.
        MissingExtra: The package is not installed.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", extra, f"reading the saved Hugging Face dataset {folder}") from None
    try:
        yield datasets.load_from_disk(str(folder)).with_format(None)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read the saved Hugging Face dataset {folder}: {error}") from None
