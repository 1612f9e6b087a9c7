"""Small sets of texts in the forms that the task `text` reads."""

import csv
import json
from pathlib import Path

from quincunx.recipes.long_range.config import Data
from quincunx.recipes.long_range.data import Splits, load_splits

Row = tuple[object, str]


def load(path: Path, limit: int | None = None, **settings: object) -> Splits:
    """The splits of a folder; the settings count as set."""
    explicit = [f"data.{name}" for name in settings]
    return load_splits("text", Data(path=str(path), **settings), limit, explicit)


def texts(splits: Splits, split: str) -> list[bytes]:
    examples = splits.of(split)
    return [examples.symbols(index).tobytes() for index in range(len(examples))]


def rows_of(split: str, count: int) -> list[Row]:
    """Rows sorted by class, as class folders give them; texts with all that is awkward in some form."""
    extras = ['"quoted", with commas\nand\tlines', "ÿ grüße 😀", "x", "a\r\nb", "'", "\\n stays"]
    rows = [
        (label, f"{split} {word} {n} {extras[n % 6]}") for label, word in ((0, "neg"), (1, "pos")) for n in range(count)
    ]
    return rows  # type: ignore[return-value]


CONTENT = {"train": rows_of("train", 12), "dev": rows_of("dev", 3), "test": rows_of("test", 4)}
WORDS = ("neg", "pos")


def class_folders(folder: Path, content: dict[str, list[Row]] = CONTENT, dev: str = "dev") -> Path:
    for split, rows in content.items():
        for number, (label, text) in enumerate(rows):
            path = folder / (dev if split == "dev" else split) / WORDS[label] / f"{number:03}.txt"  # type: ignore[index]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
    return folder


def table(path: Path, rows: list[Row], names: tuple[str, str] = ("text", "label"), delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow((names[1], "id", names[0]))
        writer.writerows((label, number, text) for number, (label, text) in enumerate(rows))
    return path


def json_lines(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"id": 1, "label": label, "text": text}) + "\n" for label, text in rows))
    return path


def numbered(path: Path, count: int) -> Path:
    return json_lines(path, [(n % 2, f"{n}") for n in range(count)])


def numbers(splits: Splits, split: str) -> list[int]:
    return [int(text) for text in texts(splits, split)]


def all_numbers(splits: Splits) -> list[int]:
    return [number for split in ("train", "dev", "test") for number in numbers(splits, split)]
