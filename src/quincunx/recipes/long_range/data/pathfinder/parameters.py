"""What Pathfinder images are drawn: the settings of one set, and the Long Range Arena's (Tay et al. 2021) by size.

Lengths are in pixels of the finished image.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from quincunx.errors import UsageError

SMALLEST, LARGEST = 16, 256
"""Sizes for which `preset` knows settings."""


@dataclass(frozen=True)
class Parameters:
    """The settings of a set; the defaults are the Long Range Arena's Pathfinder at 32 x 32 (`preset` for other sizes).

    Every image holds two long contours, one of which (label 1) or both (label 0) carry the two markers, and shorter
    distractors. A contour is a dashed line of `contour_length` paddles with gaps of about two margins between them.
    UsageError for settings without meaning, and for contours that cannot fit.
    """

    resolution: int = 32
    """Width and height of an image."""
    contour_length: int = 14
    """Paddles of each of the two long contours."""
    distractors: int = 5
    """Short contours that are tried; where no room is left there are fewer."""
    distractor_length: int = 4
    """Paddles of each of them."""
    paddle_length: int = 2
    paddle_thickness: float = 0.5
    margins: tuple[int, ...] = (1,)
    """Free space round each paddle; each image takes one of these, each as likely as the others."""
    padding: int = 1
    """Nothing but markers comes this near to the border."""
    seed_distance: int = 7
    """From the beginning of the one long contour to the beginning of the other; the first lies at least twice as far
    from every border."""
    continuity: float = 1.0
    """A contour turns from paddle to paddle by at most 90 degrees over this number, by small angles more often."""
    marker_radius: float = 1.5
    snake_contrast: float = 2.0
    """Brightness of the distractors' paddles, before the brightest point of the image is made white."""
    paddle_contrast: float = 0.75
    """Brightness of the long contours' paddles over that of the distractors'. Both long contours have the same."""
    distance_tolerance: float | None = None
    """Where given, the two markers lie as far apart with the one label as they would with the other, to so many pixels.
    The published rules (None) do not ask for it, and the distance alone then tells the label a little too often: some
    52 % of images at 32 x 32 and 128 x 128, 58 to 61 % of those that the settings for 16 x 16 would give."""
    antialias: int = 2
    """Drawn so many times larger and shrunk."""
    seed: int = 0
    """Any number from 0."""

    def __post_init__(self) -> None:
        self._check_ranges()
        room = self.resolution - 2 * self.padding
        margin = max(self.margins)
        paddle = (self.paddle_length + 2 * margin) * (self.paddle_thickness + 2 * margin)
        if room < 1 or 2 * self.contour_length * paddle > room * room:
            raise UsageError(
                f"two contours of {self.contour_length} paddles (each {self.paddle_length} x {self.paddle_thickness:g} "
                f"with a margin of {margin}) do not fit in {self.resolution} x {self.resolution} pixels with a padding "
                f"of {self.padding}; lower contour_length, margins or padding, or raise resolution"
            )
        if 4 * self.seed_distance >= self.resolution:
            raise UsageError(
                f"seed_distance is {self.seed_distance}; a contour begins twice as far from every border, so a "
                f"resolution of {self.resolution} allows at most {(self.resolution - 1) // 4}"
            )

    def _check_ranges(self) -> None:
        if not self.margins:
            raise UsageError("margins is empty; give at least one, such as 1")
        ranges: dict[str, tuple[float, float]] = {
            "resolution": (8, 1024),
            "contour_length": (2, 1000),
            "distractors": (0, 1000),
            "distractor_length": (1, 1000),
            "paddle_length": (1, 100),
            "paddle_thickness": (0.1, 50),
            "padding": (0, 500),
            "seed_distance": (1, 500),
            "continuity": (0.5, 20),
            "marker_radius": (0.5, 100),
            "snake_contrast": (0.01, 100),
            "paddle_contrast": (0.01, 100),
            "antialias": (1, 8),
            "seed": (0, math.inf),
        }
        for name, (least, most) in ranges.items():
            _check_range(name, getattr(self, name), least, most)
        if self.distance_tolerance is not None:
            _check_range("distance_tolerance", self.distance_tolerance, 0.25, 1000)
        for margin in self.margins:
            _check_range("margins", margin, 1, 100)


def preset(
    resolution: int, *, contour_length: int | None = None, distractors: int | None = None, seed: int = 0
) -> Parameters:
    """Return the Long Range Arena's settings for a size, the hard ones (contours of 14 paddles).

    Sizes 32, 64, 128 (Path-X) and 256 are as published (google-research/long-range-arena, `data/pathfinder.py`); 16
    is ours, with contours of 5; for a size between two of them every setting lies between theirs. Below 32 the markers'
    distance is kept from telling the label (`distance_tolerance`).

    Arguments: `contour_length` and `distractors` in place of the preset's. As in the published settings, distractors
    are a third as long as contours, and there are the fewer of them the longer they are.
    Errors: UsageError for a size outside 16 to 256, or a contour too long for it.
    """
    if not SMALLEST <= resolution <= LARGEST:
        raise UsageError(f"resolution is {resolution}; expected {SMALLEST} to {LARGEST}")
    sizes = sorted(_PRESETS)
    upper = sizes[bisect_left(sizes, resolution)]
    lower = upper if upper == resolution else sizes[sizes.index(upper) - 1]
    share = 0.0 if upper == lower else (resolution - lower) / (upper - lower)
    settings = {
        name: _between(_PRESETS[lower][name], _PRESETS[upper][name], share, name in _WHOLE) for name in _PRESETS[lower]
    }
    budget, least, most = (settings.pop(name) for name in ("distractor_paddles", "least_margin", "greatest_margin"))
    length = int(settings.pop("contour_length")) if contour_length is None else contour_length
    settings.pop("contour_length", None)
    distractor_length = max(min(2, length), length // 3)
    number = int(budget) // distractor_length if distractors is None else distractors
    return Parameters(
        resolution=resolution,
        contour_length=length,
        distractors=number,
        distractor_length=distractor_length,
        margins=tuple(range(int(least), int(most) + 1)),
        antialias=2,
        distance_tolerance=resolution / 32 if resolution < min(_PUBLISHED) else None,
        seed=seed,
        **settings,
    )


_COLUMNS = (
    "contour_length",
    "distractor_paddles",
    "paddle_length",
    "paddle_thickness",
    "least_margin",
    "greatest_margin",
    "padding",
    "seed_distance",
    "continuity",
    "marker_radius",
    "snake_contrast",
    "paddle_contrast",
)
_PUBLISHED = (32, 64, 128, 256)
_WHOLE = {*_COLUMNS[:3], "least_margin", "greatest_margin", "padding", "seed_distance"}
_PRESETS: dict[int, dict[str, float]] = {
    resolution: dict(zip(_COLUMNS, values, strict=True))
    for resolution, values in {
        16: (5, 4, 2, 0.5, 1, 1, 0, 3, 1.0, 1.5, 1.0, 1.0),
        32: (14, 20, 2, 0.5, 1, 1, 1, 7, 1.0, 1.5, 2.0, 0.75),
        64: (14, 22, 5, 1.0, 1, 1, 1, 12, 1.8, 2.5, 0.8, 1.0),
        128: (14, 35, 5, 1.5, 2, 3, 1, 20, 1.8, 3.0, 0.9, 1.0),
        256: (14, 30, 5, 2.0, 3, 3, 22, 27, 1.8, 5.0, 1.0, 1.0),
    }.items()
}


def _between(lower: float, upper: float, share: float, whole: bool) -> Any:
    value = lower + (upper - lower) * share
    return math.floor(value + 0.5) if whole else value


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # also where the value is not a number
        limit = f"{least:g} or more" if math.isinf(most) else f"{least:g} to {most:g}"
        raise UsageError(f"{name} is {value}; expected {limit}")
