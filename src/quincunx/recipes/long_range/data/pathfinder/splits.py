"""The three splits of a generated set: consecutive images, those of `train` first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import UsageError
from quincunx.recipes.long_range.data.pathfinder.parameters import Parameters
from quincunx.recipes.long_range.data.pathfinder.pool import in_order

SPLITS = ("train", "dev", "test")

Progress = Callable[[int, int], None]
"""Called with the number of images done and wanted."""

_BLOCK = 500


def ranges(counts: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return split -> (number of its first image, number after its last).

    UsageError unless there is at least 1 image for each of train, dev and test, and nothing else.
    """
    if set(counts) != set(SPLITS) or min(counts.values()) < 1:
        raise UsageError(f"expected at least 1 image each for {', '.join(SPLITS)}; found {dict(counts)}")
    found: dict[str, tuple[int, int]] = {}
    start = 0
    for split in SPLITS:
        found[split] = start, start + int(counts[split])
        start += int(counts[split])
    return found


def generated(
    parameters: Parameters, counts: Mapping[str, int], on_progress: Progress | None = None, workers: int | None = None
) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield (split, images [n, R * R], labels [n]) in order until every split has its count; memory is one part.

    Arguments: `workers` as in `pool.in_order`. Errors: UsageError for counts that are not those of three splits,
    DataError where the settings allow no image.
    """
    borders = ranges(counts)
    total = sum(counts.values())
    done = 0
    for pixels, labels in in_order(parameters, 0, total, _BLOCK, workers):
        for split, (start, end) in borders.items():
            piece = slice(max(start - done, 0), max(end - done, 0))
            if len(labels[piece]):
                yield split, pixels[piece], labels[piece]
        done += len(labels)
        if on_progress:
            on_progress(done, total)
