"""Pathfinder images drawn by the rules of Linsley et al. (2018), with the Long Range Arena's settings, from a seed.

Image number i of a set depends on the settings and on i alone, whatever else is drawn: a set can be made in any
order, in parts, on any platform. The label says whether the two markers lie on the same contour.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError
from quincunx.recipes.long_range.data.pathfinder.drawing import brush
from quincunx.recipes.long_range.data.pathfinder.geometry import Geometry, geometry
from quincunx.recipes.long_range.data.pathfinder.parameters import Parameters
from quincunx.recipes.long_range.data.pathfinder.snakes import Contour, lay_out_distractors, lay_out_targets
from quincunx.recipes.long_range.data.pathfinder.stream import Stream

PATIENCE = 100_000
"""After so many layouts of one image that came to a dead end, the settings are said to allow none."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """One image and how it came about; C contours, the two long ones first, R x R pixels."""

    number: int
    image: NDArray[np.uint8]
    """Grey values [R, R]."""
    label: int
    """1 where both markers lie on one contour, 0 where each lies on another."""
    contours: list[NDArray[np.float64]]
    """Of each contour, (y, x) of the two ends of each of its paddles, in order [P, 2, 2], in pixels."""
    masks: NDArray[np.bool_]
    """Of each contour, the points within a margin of its paddles, without noise [C, F, F]; see `Geometry.mask`."""
    markers: NDArray[np.int64]
    """(y, x) of the two markers [2, 2], in pixels."""
    margin: int
    scale: int
    """Points of the masks per pixel."""
    attempts: int
    """Layouts that were begun, this one included."""


@dataclass(frozen=True)
class _Layout:
    """What is to be painted."""

    label: int
    targets: tuple[Contour, Contour]
    distractors: list[Contour]
    markers: tuple[tuple[int, int], tuple[int, int]]
    geometry: Geometry
    attempts: int


def draw(parameters: Parameters, number: int) -> Drawn:
    """Return image `number` of a set with all that is known about it; errors as `images`."""
    layout = _lay_out(parameters, number)
    contours = [*layout.targets, *layout.distractors]
    return Drawn(
        number=number,
        image=_paint(parameters, layout),
        label=layout.label,
        contours=[np.array([layout.geometry.ends(paddle) for paddle in contour.paddles]) for contour in contours],
        masks=np.stack([layout.geometry.mask(contour.points) for contour in contours]),
        markers=np.array(layout.markers),
        margin=layout.geometry.margin,
        scale=layout.geometry.scale,
        attempts=layout.attempts,
    )


def images(parameters: Parameters, start: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the images `start` to `start + count - 1` of a set as rows [count, R * R], and their labels [count].

    Errors: DataError where the settings allow no image, after `PATIENCE` attempts at one.
    """
    pixels = np.empty((count, parameters.resolution**2), np.uint8)
    labels = np.empty(count, np.uint8)
    for index in range(count):
        layout = _lay_out(parameters, start + index)
        pixels[index] = _paint(parameters, layout).ravel()
        labels[index] = layout.label
    return pixels, labels


def margin_of(parameters: Parameters, number: int) -> int:
    """Return the margin that an image of a set takes."""
    return parameters.margins[Stream(parameters.seed, number, "margin").below(len(parameters.margins))]


def _lay_out(parameters: Parameters, number: int) -> _Layout:
    label = Stream(parameters.seed, number, "label").below(2)
    marked = Stream(parameters.seed, number, "marked").below(2)
    margin = margin_of(parameters, number)
    ground = geometry(parameters, margin)
    longest = 0
    for attempt in range(PATIENCE):
        stream = Stream(parameters.seed, number, "attempt", attempt)
        targets, length = lay_out_targets(ground, stream)
        if targets is not None:
            longest = parameters.contour_length
            chosen = [index for index in (marked, 1 - marked) if _alike(parameters, targets, index)]
            if not chosen:
                continue
            marked = chosen[0]
            distractors = lay_out_distractors(ground, stream, ground.walls | targets[0].points | targets[1].points)
            ended = marked if label else 1 - marked
            markers = targets[marked].origin, targets[ended].terminal
            return _Layout(label, targets, distractors, markers, ground, attempt + 1)
        longest = max(longest, length)
    raise DataError(_no_room(parameters, number, margin, longest))


def _alike(parameters: Parameters, targets: tuple[Contour, Contour], marked: int) -> bool:
    """Tell whether the markers would lie as far apart with the one label as with the other, as far as that is asked."""
    if parameters.distance_tolerance is None:
        return True
    origin = targets[marked].origin
    same, other = (math.dist(origin, targets[index].terminal) for index in (marked, 1 - marked))
    return abs(same - other) <= parameters.distance_tolerance


def _paint(parameters: Parameters, layout: _Layout) -> NDArray[np.uint8]:
    targets, distractors = (
        itertools.chain.from_iterable(contour.paddles for contour in contours)
        for contours in (layout.targets, layout.distractors)
    )
    return brush(parameters).paint(targets, distractors, layout.markers)


def _no_room(parameters: Parameters, number: int, margin: int, longest: int) -> str:
    """Return why there is no image, in words."""
    size = f"{parameters.resolution} x {parameters.resolution} pixels"
    if longest == parameters.contour_length:
        return (
            f"Pathfinder image {number}: in {PATIENCE:,} attempts the markers never lay as far apart with one label as "
            f"with the other; raise distance_tolerance ({parameters.distance_tolerance}), or leave it out"
        )
    if not longest:
        return (
            f"Pathfinder image {number}: in {PATIENCE:,} attempts two contours never found room to begin in {size} "
            f"with seed_distance {parameters.seed_distance}, padding {parameters.padding} and margin {margin}; raise "
            "seed_distance or resolution, or lower padding or margins"
        )
    return (
        f"Pathfinder image {number}: in {PATIENCE:,} attempts two contours in {size} got {longest} of "
        f"{parameters.contour_length} paddles at best (paddle_length {parameters.paddle_length}, margin {margin}, "
        f"continuity {parameters.continuity:g}); lower contour_length, margins or continuity, or raise resolution"
    )
