"""Features of regions without a network: what a crop looks like, small, through a fixed random projection.

They stand where the features of a detector stand for photographs: a model can learn colour, shape and pattern from
them, but they are no labels. R regions, F width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quincunx.data.order import counter_hash
from quincunx.recipes.vision_language.data.record import Region
from quincunx.seeds import address

MODEL = "shapeworld crops 1"
"""Key of these features; the seed and the width are added to it. Raised whenever they change."""
MOST_REGIONS = 36
"""Rows of a picture at most, as bottom-up attention has them."""

_SIDE = 8
_STATISTICS = _SIDE * _SIDE * 3 + 6


def model_key(seed: int, width: int) -> str:
    """Return the key of the features of a seed and a width."""
    return f"{MODEL}, seed {seed}, width {width}"


def region_features(
    pixels: NDArray[np.uint8], regions: Sequence[Region], width: int = 64, seed: int = 0
) -> NDArray[np.float16]:
    """Return features of a picture's first regions [R, F], at most 36 of them.

    Each crop is shrunk to eight by eight pixels, its channels' means and deviations beside them, and multiplied with a
    random matrix of the seed.

    Args:
        pixels: The picture [height, width, 3].
        regions: Boxes in pixels.
        width: F.
        seed: Of the projection.
    """
    image = Image.fromarray(pixels)
    rows = [_statistics(image, region) for region in regions[:MOST_REGIONS]]
    if not rows:
        return np.zeros((0, width), np.float16)
    return (np.stack(rows) @ _projection(seed, width)).astype(np.float16)


def _statistics(image: Image.Image, region: Region) -> NDArray[np.float64]:
    """Return the numbers that describe a crop, each about from -1 to 1."""
    x1, y1, x2, y2 = region.box
    corners = (int(x1), int(y1), max(int(x2 + 0.999), int(x1) + 1), max(int(y2 + 0.999), int(y1) + 1))
    crop = image.crop(corners)
    whole = np.asarray(crop, np.float64).reshape(-1, 3) / 127.5 - 1
    small = np.asarray(crop.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float64) / 127.5 - 1
    return np.concatenate([small.ravel(), whole.mean(axis=0), whole.std(axis=0)])


@lru_cache(maxsize=8)
def _projection(seed: int, width: int) -> NDArray[np.float64]:
    """Return random numbers of mean 0, scaled so that features are about as large as what they are made of."""
    bits = counter_hash(np.arange(_STATISTICS * width), address(seed, "shapeworld", "projection"))
    uniform = (bits >> np.uint64(11)).astype(np.float64) / 2**53
    return (uniform.reshape(_STATISTICS, width) - 0.5) * np.sqrt(12 / _STATISTICS) * 3
