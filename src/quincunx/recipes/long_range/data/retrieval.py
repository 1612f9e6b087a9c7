"""Pairs of documents and whether they are related: the Long Range Arena's AAN files, byte by byte.

A row is label, two ids and two texts with tabs between; there is no header and no quoting. Source: Tay et al. 2021
(arXiv 2011.04006), over the ACL Anthology Network (Radev et al. 2013).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from quincunx.errors import DataError
from quincunx.recipes.long_range.data.examples import Examples, SkippedRow
from quincunx.recipes.long_range.data.rows import Rows, beginning, by_split, listed
from quincunx.recipes.long_range.data.splits import SPLITS, DataSettings, Place, Progress, Splits, counted

FILE_NAMES = {split: f"new_aan_pairs.{name}.tsv" for split, name in zip(SPLITS, ("train", "eval", "test"), strict=True)}
EXPECTED = (
    f"a folder with {', '.join(FILE_NAMES.values())} (other names that end in train, eval and test will do). They are "
    "in the folder tsv_data of the Long Range Arena's release, https://github.com/google-research/long-range-arena"
)

_ROW = "label (0 or 1), two ids and two texts, tabs between"
_LABELS = {b"0": 0, b"1": 1, b"0.0": 0, b"1.0": 1}


def load(
    data: DataSettings,
    limit: int | None = None,
    explicit: Collection[str] = (),
    on_progress: Progress | None = None,
) -> Splits:
    """Return the splits that the `data` section describes; see `splits.load_splits`.

    Every file is read once, up to the last row wanted. The texts stay in memory whole, one byte a character and no more
    (in the public set several gigabytes), since how much of them a model sees is its own matter; `data.train` reads
    fewer.

    Raises:
        DataError: Files missing, too many bad rows, or fewer rows than a count that was set.
    """
    if data.path is None:
        raise DataError(f"data.path is unset; task retrieval needs {EXPECTED}")
    paths = _files(Path(data.path).expanduser())
    wanted = {"train": data.train, "dev": data.dev, "test": data.test}
    notes: list[str] = []
    skipped: list[SkippedRow] = []
    splits: dict[str, Examples] = {}
    places: dict[str, Place] = {}
    for split in SPLITS:
        path = paths[split]
        most = min((number for number in (wanted[split], limit) if number is not None), default=None)
        # One row more than is wanted, to learn whether the file holds more than it is asked for.
        rows = read_pairs(path, None if most is None else most + 1)
        examples = rows.examples(int, _ROW)
        if most is not None and len(examples) > most:
            count, note = most, f"{path}: the first {most:,} rows are used."
        else:
            # A bad row counts as there: it is left out, and said, but it is no reason to refuse the file.
            count, note = counted(len(examples) + len(rows.bad), split, wanted[split], limit, explicit, str(path))
        splits[split], places[split] = examples.take(count), rows.place
        notes += [note] if note else []
        notes += rows.said
        skipped += rows.bad
    if _is_literal(splits["train"].symbols(0).tobytes()):
        notes.append(
            f"The texts of {paths['train']} are written as Python bytes literals (b'...'); they are taken as they "
            "stand, quotes and escapes included, as in the Long Range Arena's own code."
        )
    return Splits(splits["train"], splits["dev"], splits["test"], notes, skipped, places)


def read_pairs(path: Path, limit: int | None = None) -> Rows:
    """Return the sound rows of a file, the first `limit` of them if given; DataError when it cannot be read."""
    rows = Rows(path, parts=2)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if limit is not None and len(rows) >= limit:
                    break
                _add(rows, number, line)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; expected rows of {_ROW}") from None
    return rows


def sample(examples: Examples, index: int) -> dict[str, str]:
    """Return the beginnings of both texts, for people to read."""
    return {f"text{part + 1}": beginning(examples.symbols(index, part)) for part in range(2)}


def _add(rows: Rows, number: int, line: bytes) -> None:
    fields = line.removesuffix(b"\n").removesuffix(b"\r").split(b"\t")
    if len(fields) != 5:
        empty = not line.strip()
        rows.skip(number, "an empty row" if empty else f"expected 5 columns, found {len(fields)}")
        return
    label, _, _, first, second = fields
    if label not in _LABELS:
        rows.skip(number, f"the label is {label[:40].decode('utf-8', 'backslashreplace')!r}, expected 0 or 1")
    elif not first.strip() or not second.strip():
        rows.skip(number, "an empty text")
    else:
        rows.add(number, _LABELS[label], first, second)


def _files(folder: Path) -> dict[str, Path]:
    """Return each split's file: the public names where they are there, else names that end in the split's."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"data.path: {folder} {what}; expected {EXPECTED}")
    try:
        present = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".tsv" and path.is_file())
        public = [path for path in present if path.name in FILE_NAMES.values()]
        found = by_split(public or present)
        if missing := [split for split in SPLITS if split not in found]:
            names = " and no ".join(FILE_NAMES[split] for split in missing)
            raise DataError(f"data.path: {folder} holds no {names}, but {listed(folder)}; expected {EXPECTED}")
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}; expected {EXPECTED}") from None
    return found


def _is_literal(text: bytes) -> bool:
    return text[:2] in (b"b'", b'b"') and text[-1:] == text[1:2]
