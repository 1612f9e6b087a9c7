"""Boxes compared with boxes: intersection over union, and the accuracy of referring expressions (Yu et al. 2016).

A box is x1, y1, x2, y2 in pixels: left, top, right, bottom. N boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quincunx.errors import DataError
from quincunx.metrics.measured import Measured, mean, same_ids

THRESHOLD = 0.5


def iou(boxes: ArrayLike, others: ArrayLike, inclusive: bool = False) -> NDArray[np.float64]:
    """Return the intersection over union of boxes, pair by pair.

    Args:
        boxes: `[..., 4]`.
        others: `[..., 4]`; shapes are broadcast, so [N, 1, 4] and [M, 4] give [N, M].
        inclusive: Whether x2 and y2 are pixels of the box, so that its width is x2 - x1 + 1, as in VL-T5's
            evaluation; else they are bounds, and its width is x2 - x1.

    Returns:
        Values between 0 and 1; 0 where both boxes are empty.

    Raises:
        ValueError: Shapes that do not end in 4, values that are not finite, a box that ends before it begins.
    """
    one, two = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    for table in (one, two):
        if table.shape[-1:] != (4,):
            raise ValueError(f"boxes of shape {table.shape}, expected [..., 4]: x1, y1, x2, y2")
        if not np.isfinite(table).all() or (table[..., 2:] < table[..., :2]).any():
            raise ValueError("a box is not finite or ends before it begins; expected x1 <= x2 and y1 <= y2")
    more = 1.0 if inclusive else 0.0
    low, high = np.maximum(one[..., :2], two[..., :2]), np.minimum(one[..., 2:], two[..., 2:])
    shared = np.prod(np.maximum(high - low + more, 0), axis=-1)
    areas = [np.prod(table[..., 2:] - table[..., :2] + more, axis=-1) for table in (one, two)]
    union = areas[0] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def grounding_accuracy(
    targets: Mapping[str, Sequence[float]],
    predictions: Mapping[str, Sequence[float]],
    threshold: float = THRESHOLD,
    inclusive: bool = False,
) -> dict[str, Measured]:
    """Return `accuracy`, the share of boxes that overlap their target enough, and `iou`, the mean overlap.

    Args:
        targets: Id -> the box that was meant.
        predictions: The same ids -> the box that was found.
        threshold: Intersection over union from which a box is right; 0.5 in RefCOCO.
        inclusive: See `iou`.

    Raises:
        DataError: Ids that are not the same, something that is no box; with the id.
        ValueError: A threshold that is not between 0 and 1.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"the threshold is {threshold}, expected a share between 0 and 1")
    names = same_ids(targets, predictions, "expression", "predictions")
    true = np.stack([_box("targets", name, targets[name]) for name in names])
    found = np.stack([_box("predictions", name, predictions[name]) for name in names])
    overlap = iou(found, true, inclusive)
    return {"accuracy": mean(names, overlap >= threshold), "iou": mean(names, overlap)}


def nearest_region(box: ArrayLike, regions: ArrayLike, inclusive: bool = False) -> tuple[int, float]:
    """Return which of some regions [N, 4] overlaps a box [4] most, the first of equals, and its overlap.

    It is the best that can be answered where one of these regions has to be chosen. ValueError as `iou`, or for none.
    """
    table = np.asarray(regions, np.float64)
    if table.ndim != 2 or not len(table):
        raise ValueError(f"regions of shape {table.shape}, expected [N, 4] with N of 1 or more")
    overlap = iou(np.asarray(box, np.float64), table, inclusive)
    best = int(overlap.argmax())
    return best, float(overlap[best])


def _box(whose: str, name: str, box: object) -> NDArray[np.float64]:
    try:
        found = np.asarray(box, np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.shape != (4,) or not np.isfinite(found).all() or (found[2:] < found[:2]).any():
        raise DataError(f"{whose}, id {name!r}: {box!r} is no box; expected x1, y1, x2, y2 with x1 <= x2 and y1 <= y2")
    return found
