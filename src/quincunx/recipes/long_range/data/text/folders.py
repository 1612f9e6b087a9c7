"""Texts as files in a folder for each class: `train/pos/0_9.txt`, as the IMDb reviews come."""

from __future__ import annotations

from pathlib import Path

from quincunx.recipes.long_range.data.rows import Rows

UNLABELLED = "unsup"


def class_folders(folder: Path) -> list[Path]:
    """Return the folders in a split's folder that hold texts, sorted by name; `unsup` has no labels."""
    found = [path for path in folder.iterdir() if path.is_dir() and path.name != UNLABELLED]
    return sorted(path for path in found if not path.name.startswith(".") and _texts(path))


def read_class_folders(folder: Path) -> Rows:
    """Return the texts of a split, class after class, each class sorted by file name; labels are the folders' names.

    The bytes are taken as they are, UTF-8 or not.
    """
    rows = Rows(folder)
    classes = class_folders(folder)
    rows.notes += _left_out(folder, classes)
    for each in classes:
        for path in _texts(each):
            text = path.read_bytes()
            if text.strip():
                rows.add(1, each.name, text, file=path)
            else:
                rows.skip(1, "an empty text", file=path)
    return rows


def _left_out(folder: Path, classes: list[Path]) -> list[str]:
    """Return a sentence on what a split's folder holds besides texts in class folders, where there is anything."""
    beside = [path for path in folder.iterdir() if path not in classes]
    within = [path for each in classes for path in each.iterdir() if not _is_text(path)]
    strays = [path for path in (*beside, *within) if not path.name.startswith(".")]
    folders = sorted(f"{path.relative_to(folder)}/" for path in strays if path.is_dir())
    files = sum(not path.is_dir() for path in strays)
    parts = [", ".join(folders)] if folders else []
    parts += [f"{files:,} file{'s' if files > 1 else ''} besides the texts"] if files else []
    return [f"{folder}: {' and '.join(parts)} left out."] if parts else []


def _texts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _is_text(path))


def _is_text(path: Path) -> bool:
    return path.suffix == ".txt" and not path.name.startswith(".") and path.is_file()
