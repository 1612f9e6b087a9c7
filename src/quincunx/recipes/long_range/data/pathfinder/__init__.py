"""Pathfinder data of the `long_range` recipe: generator, the official folders read and written, splits.

Numpy and Pillow only. Pixels are raw grey values 0 to 255; the recipe shifts them by one, so that black is not padding.
"""

from __future__ import annotations

from quincunx.recipes.long_range.data.pathfinder.export import Manifest, generate, request_of
from quincunx.recipes.long_range.data.pathfinder.generator import Drawn, draw, images
from quincunx.recipes.long_range.data.pathfinder.official import Official, Part, read_official
from quincunx.recipes.long_range.data.pathfinder.parameters import Parameters, preset
from quincunx.recipes.long_range.data.pathfinder.splits import SPLITS, generated

__all__ = [
    "SPLITS",
    "Drawn",
    "Manifest",
    "Official",
    "Parameters",
    "Part",
    "draw",
    "generate",
    "generated",
    "images",
    "preset",
    "read_official",
    "request_of",
]
