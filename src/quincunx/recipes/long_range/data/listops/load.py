"""ListOps as an experiment takes it: read from a folder of TSV files, or generated once and kept in the cache."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from quincunx.data.cache import cache_folder
from quincunx.errors import DataError
from quincunx.recipes.long_range.data.cache import Made, kept
from quincunx.recipes.long_range.data.examples import Examples, SkippedRow
from quincunx.recipes.long_range.data.listops.export import FILE_NAMES, SET, distribute, request_of
from quincunx.recipes.long_range.data.listops.generator import Parameters
from quincunx.recipes.long_range.data.listops.language import UNKNOWN
from quincunx.recipes.long_range.data.listops.tsv import read_tsv
from quincunx.recipes.long_range.data.splits import SPLITS, DataSettings, Place, Progress, Splits, counted
from quincunx.recipes.long_range.tasks import TASKS


def load(
    data: DataSettings,
    limit: int | None = None,
    explicit: Collection[str] = (),
    on_progress: Progress | None = None,
) -> Splits:
    """Return the splits that the `data` section describes; see `splits.load_splits`."""
    counts = {"train": data.train, "dev": data.dev, "test": data.test}
    if data.path is None:
        return _generated(data, counts, limit, on_progress)
    return _read(Path(data.path).expanduser(), counts, limit, explicit)


def _read(folder: Path, counts: Mapping[str, int | None], limit: int | None, explicit: Collection[str]) -> Splits:
    _refuse_missing(folder)
    manifest = SET.read(folder)
    if manifest and (damage := SET.damage(folder, manifest.files, content=False)):
        raise DataError(
            f"{damage[0]}; copy or generate the set again, or delete the manifest to read the files as they are"
        )
    notes: list[str] = []
    skipped: list[SkippedRow] = []
    splits: dict[str, Examples] = {}
    places: dict[str, Place] = {}
    for split, name in FILE_NAMES.items():
        path = folder / name
        most = min((number for number in (counts[split], limit) if number is not None), default=None)
        before, lines = len(skipped), list[int]()
        # One row more than is wanted, to learn whether the file holds more than it is asked for.
        examples = read_tsv(path, None if most is None else most + 1, skipped.append, lines)
        bad = skipped[before:]
        if most is not None and len(examples) > most:
            count, note = most, f"{path}: the first {most:,} rows are used."
        else:
            # A bad row counts as there: it is left out, and said, but it is no reason to refuse the file.
            count, note = counted(len(examples) + len(bad), split, counts[split], limit, explicit, str(path))
        splits[split] = examples.take(count)
        places[split] = lambda index, path=path, lines=lines: f"{path}:{lines[index]}"
        notes += [note] if note else []
        if bad:
            notes.append(f"{path}: {len(bad):,} bad row{'s' if len(bad) > 1 else ''} left out; the first: {bad[0]}")
        if unknown := _rows_with_unknown(splits[split]):
            notes.append(
                f"{path}: {unknown:,} of {len(splits[split]):,} expressions hold FIRST or LAST, read as one unknown "
                "token; their labels could not be checked."
            )
    return Splits(splits["train"], splits["dev"], splits["test"], notes, skipped, places)


def _refuse_missing(folder: Path) -> None:
    names = ", ".join(FILE_NAMES.values())
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"data.path: {folder} {what}; expected a folder with {names}")
    missing = [name for name in FILE_NAMES.values() if not (folder / name).is_file()]
    if missing:
        raise DataError(f"data.path: {folder} holds no {' and no '.join(missing)}; expected {names}")


def _rows_with_unknown(examples: Examples) -> int:
    return int(np.maximum.reduceat(examples.flat == UNKNOWN, examples.offsets[:-1]).sum())


def _generated(
    data: DataSettings, counts: Mapping[str, int | None], limit: int | None, on_progress: Progress | None
) -> Splits:
    usual = TASKS["listops"].usual
    wanted = {
        split: min(number for number in (counts[split] or usual[split], limit) if number is not None)
        for split in SPLITS
    }
    parameters = Parameters(data.min_length, data.max_length, data.max_depth, data.max_arguments, data.seed)

    def make() -> Made:
        parts: dict[str, list[Examples]] = {split: [] for split in SPLITS}
        for split, part in distribute(wanted, parameters, on_progress):
            parts[split].append(part)
        return {split: Examples.join(parts[split]) for split in SPLITS}, {}

    found = kept("listops", request_of(parameters, wanted), cache_folder(data.cache), make)
    sizes = "/".join(f"{wanted[split]:,}" for split in SPLITS)
    note = (
        f"data.path is unset: ListOps by the official rules, seed {data.seed}, {sizes} examples (train/dev/test) of "
        f"{data.min_length + 1} to {data.max_length - 1} tokens, {found.came}."
    )
    return Splits.from_parts(found.splits, [*found.notes, note])
