"""Writes a generated Pathfinder set in the Long Range Arena's own folders, with a manifest beside them.

Batch n is `imgs/n/sample_0.png` ... and `metadata/n.npy`, a line of text an image, so that readers of the official
data read it. A batch counts as written once its metadata file is there; an interrupted set goes on after the last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quincunx.data.generated import GeneratedSet, SetManifest
from quincunx.data.partial import partial_file
from quincunx.errors import DataError
from quincunx.recipes.long_range.data.pathfinder.generator import margin_of
from quincunx.recipes.long_range.data.pathfinder.official import Official, read_metadata
from quincunx.recipes.long_range.data.pathfinder.parameters import Parameters
from quincunx.recipes.long_range.data.pathfinder.pool import in_order
from quincunx.recipes.long_range.data.pathfinder.splits import Progress, ranges
from quincunx.runs.files import to_json, write_atomically

FORMAT = 1
"""Raised whenever the same parameters would give other images or other files."""

BATCH = 1_000
"""Images of a folder under `imgs`, as in the official data."""


@dataclass(frozen=True)
class Manifest(SetManifest):
    """What a generated set is."""

    REQUEST = ("format", "parameters", "counts")

    parameters: dict[str, Any]
    counts: dict[str, int]
    ranges: dict[str, list[int]]
    """Split -> the numbers of its first row and of the row after its last, in the order of `official.read_official`."""
    batches: list[str]
    """Hash of each batch's pixels and labels; empty while the set is not whole."""

    def __post_init__(self) -> None:
        borders = [border for split in self.counts for border in self.ranges[split]]
        if len(borders) != 2 * len(self.counts) or not all(isinstance(border, int) for border in borders):
            raise ValueError(f"its ranges are {self.ranges}")

    @property
    def sha256(self) -> str | None:
        """Hash of the whole content; None while the set is not whole."""
        return hashlib.sha256("".join(self.batches).encode()).hexdigest() if self.batches else None


SET = GeneratedSet("Pathfinder", "pathfinder.json", Manifest, ("imgs", "metadata"))


def request_of(parameters: Parameters, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return what determines a generated set, as JSON holds it; UsageError for counts as in `splits.ranges`."""
    request = {
        "format": FORMAT,
        "parameters": asdict(parameters),
        "counts": {split: end - start for split, (start, end) in ranges(counts).items()},
    }
    return json.loads(to_json(request))


def generate(
    out_dir: str | Path, counts: Mapping[str, int], parameters: Parameters, on_progress: Progress | None = None
) -> Manifest:
    """Write `imgs`, `metadata` and `pathfinder.json` into a folder, made if missing; return the manifest.

    Arguments: `counts` gives the images of `train`, `dev` and `test`; the manifest says which rows are which split's.
    A set that is there as asked for is kept, one that was interrupted goes on; every image already there is read.
    Errors: UsageError when the folder holds other data, DataError when it cannot be written or the settings allow no
    image.
    """
    folder = Path(out_dir).expanduser()
    request = request_of(parameters, counts)
    SET.found(folder, request)
    borders = {split: list(borders) for split, borders in ranges(counts).items()}
    manifest = Manifest(**request, ranges=borders, batches=[])
    with SET.writing(folder), partial_file(folder / f"{SET.manifest_name}.lock", wait=False):
        present = SET.found(folder, request)
        total = sum(manifest.counts.values())
        hashes = _hashes_present(folder, parameters, total, present.batches if present else [])
        if present and present.batches and None not in hashes:
            return present
        SET.write(folder, manifest)
        for number, found in enumerate(hashes):
            if found is None:
                _metadata(folder, number).unlink(missing_ok=True)
        done = sum(_size(number, total) for number, found in enumerate(hashes) if found)
        for number, pixels, labels in _missing(hashes, parameters, total):
            _write_batch(folder, number, pixels, labels, parameters)
            hashes[number] = _hash(pixels, labels)
            done += len(labels)
            if on_progress:
                on_progress(done, total)
        manifest = replace(manifest, batches=[digest for digest in hashes if digest])
        SET.write(folder, manifest)
    return manifest


def _missing(
    hashes: Sequence[str | None], parameters: Parameters, total: int
) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield (batch, images, labels) for the batches without a hash, runs of them drawn together."""
    for known, run in groupby(list(enumerate(hashes)), key=lambda item: item[1] is not None):
        numbers = [number for number, _ in run]
        if not known:
            start = numbers[0] * BATCH
            count = min((numbers[-1] + 1) * BATCH, total) - start
            parts = in_order(parameters, start, count, BATCH)
            for number, (pixels, labels) in zip(numbers, parts, strict=True):
                yield number, pixels, labels


def _write_batch(
    folder: Path, number: int, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], parameters: Parameters
) -> None:
    """Write a batch's images, then its metadata, which say that the images are there."""
    images = folder / "imgs" / str(number)
    images.mkdir(parents=True, exist_ok=True)
    square = pixels.reshape(-1, parameters.resolution, parameters.resolution)
    for index, image in enumerate(square):
        Image.fromarray(image).save(images / f"sample_{index}.png")
    p = parameters
    rest = f"{p.continuity:g} {p.contour_length} {p.distractor_length} {p.paddle_length} {p.paddle_thickness:g}"
    lines = (
        f"imgs/{number} sample_{index}.png {index} {label} {rest} {margin_of(p, number * BATCH + index)} 1\n"
        for index, label in enumerate(labels)
    )
    write_atomically(_metadata(folder, number), "".join(lines).encode())


def _hashes_present(folder: Path, parameters: Parameters, total: int, known: Sequence[str]) -> list[str | None]:
    """Return the hash of every batch; None for those that are not there, not whole, or not what the manifest knows."""
    hashes = [_hash_present(folder, number, parameters, total) for number in range(-(-total // BATCH))]
    if known:
        hashes = [found if found == expected else None for found, expected in zip(hashes, known, strict=False)]
    return hashes


def _hash_present(folder: Path, number: int, parameters: Parameters, total: int) -> str | None:
    if not _metadata(folder, number).is_file():
        return None
    try:
        rows = read_metadata(_metadata(folder, number))
        parts = list(Official(folder, parameters.resolution, rows).parts(BATCH))
    except DataError:
        return None
    named = [f"imgs/{number}/sample_{index}.png" for index in range(_size(number, total))]
    if [row.image for row in rows] != named or len(parts) != 1 or len(parts[0].labels) != len(named):
        return None
    return _hash(parts[0].images, parts[0].labels)


def _metadata(folder: Path, number: int) -> Path:
    return folder / "metadata" / f"{number}.npy"


def _size(number: int, total: int) -> int:
    """Return how many images a batch holds."""
    return min(BATCH, total - number * BATCH)


def _hash(pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
