"""Which of the forms that texts come in a folder or file has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from quincunx.data.saved import ONE, SEVERAL, split_names
from quincunx.errors import DataError
from quincunx.recipes.long_range.data.rows import Rows, by_split, listed, split_of
from quincunx.recipes.long_range.data.text.folders import class_folders, read_class_folders
from quincunx.recipes.long_range.data.text.saved import read_saved
from quincunx.recipes.long_range.data.text.tables import read_csv, read_json_lines

EXPECTED = (
    "class folders (train/pos/*.txt, train/neg/*.txt, test/...), a CSV or TSV file with a header or JSON lines for "
    "each split (train.csv, test.csv; imdb_train.jsonl), or a dataset that Hugging Face's save_to_disk wrote. The Long "
    "Range Arena's texts are the Large Movie Review Dataset, https://ai.stanford.edu/~amaas/data/sentiment/: unpacked, "
    "its folder aclImdb can be named as it is"
)

_Reader = Callable[[Path], Rows]
_TABLES: Mapping[str, tuple[str, _Reader]] = {
    ".csv": ("CSV", read_csv),
    ".tsv": ("TSV", read_csv),
    ".jsonl": ("JSON lines", read_json_lines),
    ".ndjson": ("JSON lines", read_json_lines),
    ".json": ("JSON lines", read_json_lines),
}


@dataclass(frozen=True)
class Form:
    """The form found, and where each split is."""

    name: str
    readers: Mapping[str, tuple[Path, _Reader]]
    """Split -> its file or folder, and what reads it; the training split is always there."""
    unused: tuple[str, ...] = ()
    """Splits of other names that the data holds."""

    @property
    def said(self) -> str:
        """A sentence on the form and the files."""
        places = ", ".join(f"{split} {path}" for split, (path, _) in self.readers.items())
        rest = f"; {', '.join(self.unused)} left out" if self.unused else ""
        return f"Texts are read from {self.name}: {places}{rest}."


def find(path: Path) -> Form:
    """Return the form of the data at a path: a folder, or the one file of training examples.

    DataError when there is none, or more than one.
    """
    if not path.exists():
        raise DataError(f"data.path: {path} does not exist; expected {EXPECTED}")
    if not path.is_dir():
        return _single(path)
    forms = [form for form in (_saved(path), _folders(path), _tables(path)) if form]
    if not forms:
        raise DataError(f"data.path: {path} holds {listed(path)}; expected {EXPECTED}")
    if len(forms) > 1:
        names = " and ".join(form.name for form in forms)
        raise DataError(f"data.path: {path} holds {names}; keep one of them in the folder, or name a file")
    if "train" not in forms[0].readers:
        raise DataError(f"data.path: {path} holds no training split, but {listed(path)}; expected {EXPECTED}")
    return forms[0]


def _single(path: Path) -> Form:
    if path.suffix.lower() not in _TABLES:
        raise DataError(f"data.path: {path} ends in none of {', '.join(_TABLES)}; expected {EXPECTED}")
    name, read = _TABLES[path.suffix.lower()]
    return Form(f"one {name} file", {"train": (path, read)})


def _saved(folder: Path) -> Form | None:
    if (folder / SEVERAL).is_file():
        places = [folder / name for name in split_names(folder)]
        found = by_split(places)
        unused = tuple(place.name for place in places if place not in found.values())
        return Form(
            "a saved Hugging Face dataset", {split: (place, read_saved) for split, place in found.items()}, unused
        )
    if (folder / ONE).is_file():
        return Form("a saved Hugging Face dataset of one split", {"train": (folder, read_saved)})
    return None


def _folders(folder: Path) -> Form | None:
    places = [
        path for path in sorted(folder.iterdir()) if split_of(path.stem) and path.is_dir() and class_folders(path)
    ]
    found = by_split(places)
    return (
        Form("class folders", {split: (place, read_class_folders) for split, place in found.items()}) if found else None
    )


def _tables(folder: Path) -> Form | None:
    places = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in _TABLES and path.is_file()]
    found = {split: (path, *_TABLES[path.suffix.lower()]) for split, path in by_split(places).items()}
    if not found:
        return None
    names = " and ".join(sorted({name for _, name, _ in found.values()}))
    return Form(f"{names} files", {split: (path, read) for split, (path, _, read) in found.items()})
