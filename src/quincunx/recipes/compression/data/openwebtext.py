"""OpenWebText (Gokaslan and Cohen 2019): from a folder of one's own, from the cache, or from the hub."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from quincunx.data.saved import SEVERAL, opened, split_names
from quincunx.errors import DataError
from quincunx.recipes.compression.data.documents import Document, Documents, files_hash
from quincunx.recipes.compression.data.hub import fetched, is_saved
from quincunx.recipes.compression.data.text_files import JSON_LINES, TEXT, json_lines, text_files

HUB, REVISION = "Skylion007/openwebtext", "refs/convert/parquet"
"""Its name there, and the branch that holds data in place of a script."""
EXPECTED = f"a saved Hugging Face data set, JSON lines ({', '.join(JSON_LINES)}) or text files ({', '.join(TEXT)})"

FORMAT = 1
"""Raised whenever the same files would give other documents."""

_AT_ONCE = 1000


def openwebtext(path: str | Path | None, cache: Path, field: str = "text", processes: int = 1) -> Documents:
    """Return the documents of OpenWebText, or of any texts kept in the same forms.

    Args:
        path: Folder or file of a copy; None: `openwebtext` in the cache, fetched from the hub where it is missing.
        cache: The cache.
        field: Column or key of the text.
        processes: Processes that prepare what is fetched.

    Raises:
        DataError: It is nowhere, and the hub cannot be reached; nothing of a known form in the folder.
        MissingExtra: The `datasets` package is not installed, where it is needed.
    """
    kept = cache / "openwebtext"
    looked = [Path(path).expanduser()] if path is not None else [kept]
    place = next((each for each in looked if each.exists()), None)
    if place is None:
        if path is not None:
            raise DataError(f"data.path: {looked[0]} does not exist; expected {EXPECTED}")
        place = fetched(HUB, None, REVISION, kept, looked, EXPECTED, processes)
    if is_saved(place):
        return saved_texts(place, field)
    if place.is_dir():
        suffixes = {each.suffix.lower() for each in place.rglob("*") if each.is_file()}
        if not suffixes & set(JSON_LINES + TEXT):
            raise DataError(f"{place} holds nothing that is read as OpenWebText; expected {EXPECTED}")
        return json_lines(place, field) if suffixes & set(JSON_LINES) else text_files(place, "file")
    return json_lines(place, field) if place.suffix.lower() in JSON_LINES else text_files(place)


def saved_texts(folder: Path, field: str) -> Documents:
    """Return the texts of a saved Hugging Face data set, a document a row; DataError where it is damaged."""
    places = _splits(folder)
    arrow = [(f"{place.name}/{file.name}", file) for place, _ in places for file in sorted(place.glob("*.arrow"))]
    splits = [split for _, split in places]
    return Documents(
        str(folder),
        {"source": "saved texts", "format": FORMAT, "field": field, "files": files_hash(arrow)},
        partial(_rows, places, field),
        drawn=tuple(split for split in ("dev", "test") if split not in splits),
    )


def _splits(folder: Path) -> list[tuple[Path, str | None]]:
    """Return the folder of each split and what it is; None for training."""
    if not (folder / SEVERAL).is_file():
        return [(folder, None)]
    names = split_names(folder)
    known = {"train": None, "validation": "dev", "dev": "dev", "test": "test"}
    if "train" not in names:
        raise DataError(f"{folder} holds no split called train, but {', '.join(names)}")
    return [(folder / name, known[name]) for name in known if name in names]


def _rows(places: list[tuple[Path, str | None]], field: str) -> Iterator[Document]:
    for place, split in places:
        with opened(place, "compression") as saved:
            if field not in saved.column_names:
                there = ", ".join(saved.column_names)
                raise DataError(f"{place}: there is no column {field!r}; found {there}; name one by data.field")
            row = 0
            for batch in saved.select_columns([field]).iter(_AT_ONCE):
                for text in batch[field]:
                    row += 1
                    if not isinstance(text, str):
                        raise DataError(f"{place}: row {row:,}: {field!r} is {type(text).__name__}, expected a string")
                    yield Document(f"{place}:{row}", (text,), split)
