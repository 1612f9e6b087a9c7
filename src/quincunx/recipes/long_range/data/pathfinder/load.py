"""Pathfinder as an experiment takes it: drawn, or read from official folders; kept in the cache as arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quincunx.data.cache import cache_folder
from quincunx.data.order import permutation
from quincunx.errors import DataError
from quincunx.recipes.long_range.data.cache import Made, kept
from quincunx.recipes.long_range.data.examples import Examples, SkippedRow
from quincunx.recipes.long_range.data.pathfinder.export import SET, request_of
from quincunx.recipes.long_range.data.pathfinder.official import Official, read_official
from quincunx.recipes.long_range.data.pathfinder.parameters import preset
from quincunx.recipes.long_range.data.pathfinder.splits import generated, ranges
from quincunx.recipes.long_range.data.splits import SPLITS, DataSettings, Progress, Splits, counted
from quincunx.recipes.long_range.tasks import TASKS
from quincunx.seeds import address

_SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}
"""How an official set, which has no splits, is divided."""


def load(
    data: DataSettings,
    limit: int | None = None,
    explicit: Collection[str] = (),
    on_progress: Progress | None = None,
) -> Splits:
    """Return the splits that the `data` section describes; see `splits.load_splits`."""
    if data.path is None:
        return _generated(data, limit, on_progress)
    return _read(data, Path(data.path).expanduser(), limit, explicit, on_progress)


def _generated(data: DataSettings, limit: int | None, on_progress: Progress | None) -> Splits:
    usual = TASKS["pathfinder"].usual
    wanted = {
        split: min(number for number in (getattr(data, split) or usual[split], limit) if number is not None)
        for split in SPLITS
    }
    parameters = preset(
        data.resolution, contour_length=data.contour_length, distractors=data.distractors, seed=data.seed
    )

    def make() -> Made:
        side = data.resolution
        images = {split: np.empty((count, side * side), np.uint8) for split, count in wanted.items()}
        labels = {split: np.empty(count, np.uint8) for split, count in wanted.items()}
        done: dict[str, int] = dict.fromkeys(SPLITS, 0)
        for split, pixels, classes in generated(parameters, wanted, on_progress):
            place = slice(done[split], done[split] + len(classes))
            images[split][place], labels[split][place] = pixels, classes
            done[split] = place.stop
        return {split: Examples.of_images(images[split], labels[split]) for split in SPLITS}, {}

    found = kept("pathfinder", request_of(parameters, wanted), cache_folder(data.cache), make, first_id=1)
    sizes = "/".join(f"{wanted[split]:,}" for split in SPLITS)
    note = (
        f"data.path is unset: Pathfinder of {data.resolution} x {data.resolution} pixels, contours of "
        f"{parameters.contour_length} dashes, {parameters.distractors} distractors, seed {data.seed}, {sizes} images "
        f"(train/dev/test), {found.came}."
    )
    return Splits.from_parts(found.splits, [*found.notes, note])


def _read(
    data: DataSettings, path: Path, limit: int | None, explicit: Collection[str], on_progress: Progress | None
) -> Splits:
    official = read_official(path, data.resolution)
    manifest = SET.read(official.folder)
    if manifest is not None and manifest.sha256 is None:
        raise DataError(f"{official.folder} is not finished: give quincunx data pathfinder the same options again")
    borders = None if manifest is None else ranges(manifest.counts)

    def make() -> Made:
        return _divided(official, borders, data.seed, on_progress)

    request = {
        "folder": str(official.folder.resolve()),
        "rows": _digest(official),
        "resolution": official.resolution,
        "borders": borders and {split: list(border) for split, border in borders.items()},
        "seed": None if borders else data.seed,
    }
    found = kept("pathfinder-read", request, cache_folder(data.cache), make, first_id=1)
    how = (
        "its manifest says which images are whose"
        if borders
        else f"80 % train, 10 % dev and 10 % test by a permutation (data.seed {data.seed})"
    )
    notes = [*found.notes, f"{official.folder}: {how}; as arrays {found.came}."]
    skipped = [SkippedRow(*row) for row in found.about["skipped"]]
    if skipped:
        notes.append(f"{official.folder}: {len(skipped):,} images left out; the first: {skipped[0]}")
    splits: dict[str, Examples] = {}
    for split, examples in found.splits.items():
        count, note = counted(
            len(examples), split, getattr(data, split), limit, explicit, f"{official.folder} ({split})"
        )
        splits[split] = examples.take(count)
        notes += [note] if note else []
    return Splits.from_parts(splits, notes, skipped)


def _divided(
    official: Official, borders: Mapping[str, tuple[int, int]] | None, seed: int, on_progress: Progress | None
) -> Made:
    """Return the images of a set by split."""
    total = len(official.rows)
    images = np.empty((total, official.resolution**2), np.uint8)
    labels, numbers = np.empty(total, np.uint8), np.empty(total, np.int64)
    count = 0
    for part in official.parts():
        place = slice(count, count + len(part.labels))
        images[place], labels[place], numbers[place] = part.images, part.labels, part.numbers
        count = place.stop
        if on_progress:
            on_progress(count, total)
    images, labels, numbers = images[:count], labels[:count], numbers[:count]
    if borders is not None:
        chosen = {
            split: np.flatnonzero((numbers >= start) & (numbers < end)) for split, (start, end) in borders.items()
        }
    else:
        order = permutation(count, address(seed, "pathfinder", "splits"))
        ends = np.cumsum([round(_SHARES[split] * count) for split in SPLITS[:-1]])
        chosen = dict(zip(SPLITS, np.split(order, ends), strict=True))
    splits = {split: Examples.of_images(images[places], labels[places]) for split, places in chosen.items()}
    about: dict[str, Any] = {"skipped": [[row.file, row.line, row.reason] for row in official.skipped]}
    return splits, about


def _digest(official: Official) -> str:
    """Return a hash of what the metadata say."""
    return hashlib.sha256(repr([tuple(row) for row in official.rows]).encode()).hexdigest()
