"""Paints paddles and markers: drawn `antialias` times larger, shrunk by a Lanczos filter, the brighter point winning.

The filter is that of image libraries (three lobes, weights that sum to 1), but on whole numbers: grey values then do
not depend on the version of a library. Each shape is painted once and stamped where it is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from quincunx.recipes.long_range.data.pathfinder.geometry import DIRECTIONS, Paddle, distances
from quincunx.recipes.long_range.data.pathfinder.parameters import Parameters

_LOBES = 3
_BITS = 16
"""Filter weights are multiples of 2**-16."""


class Brush:
    """The shapes of a set, shrunk and with their contrast."""

    def __init__(self, parameters: Parameters) -> None:
        self.resolution = parameters.resolution
        self._line_half = parameters.paddle_length + math.ceil(parameters.paddle_thickness) + 1
        self._disc_half = math.ceil(parameters.marker_radius) + 1
        self._border = max(self._line_half, self._disc_half)
        lines = [_line(parameters, direction, self._line_half) for direction in range(DIRECTIONS)]
        self._distractor = [line * parameters.snake_contrast for line in lines]
        self._target = [line * (parameters.snake_contrast * parameters.paddle_contrast) for line in lines]
        self._disc = _disc(parameters, self._disc_half).astype(np.float64)

    def paint(
        self, targets: Iterable[Paddle], distractors: Iterable[Paddle], markers: Iterable[tuple[int, int]]
    ) -> NDArray[np.uint8]:
        """Return the image [R, R], its brightest point 255."""
        size = self.resolution + 2 * self._border
        canvas = np.zeros((size, size))
        for paddles, shapes in ((targets, self._target), (distractors, self._distractor)):
            for paddle in paddles:
                self._stamp(canvas, shapes[paddle.direction], paddle.y, paddle.x, self._line_half)
        for y, x in markers:
            self._stamp(canvas, self._disc, y, x, self._disc_half)
        image = canvas[self._border : -self._border, self._border : -self._border]
        return np.floor(image * (255 / image.max()) + 0.5).astype(np.uint8)

    def _stamp(self, canvas: NDArray[np.float64], shape: NDArray[np.float64], y: int, x: int, half: int) -> None:
        top, left = y + self._border - half, x + self._border - half
        window = canvas[top : top + len(shape), left : left + len(shape)]
        np.maximum(window, shape, out=window)


@lru_cache(maxsize=8)
def brush(parameters: Parameters) -> Brush:
    """Return the brush of a set, made once."""
    return Brush(parameters)


def shrink(drawing: NDArray[np.bool_], scale: int) -> NDArray[np.int64]:
    """Return grey values 0 to 255 [n, n] of a drawing [(n - 1) * scale + 1]^2 whose every `scale`-th point is the
    centre of a pixel; outside of the drawing there is nothing."""
    count = (len(drawing) - 1) // scale + 1
    distance = (np.arange(len(drawing))[None, :] - np.arange(count)[:, None] * scale) / scale
    weights = np.where(np.abs(distance) < _LOBES, np.sinc(distance) * np.sinc(distance / _LOBES), 0.0)
    inner = np.arange(-_LOBES * scale, _LOBES * scale + 1) / scale
    whole = np.floor(weights / (np.sinc(inner) * np.sinc(inner / _LOBES)).sum() * 2**_BITS + 0.5).astype(np.int64)
    grey = drawing.astype(np.int64) * 255
    for _ in range(2):  # along x, then along y, rounded to grey values in between as libraries do
        grey = np.clip((grey @ whole.T + (1 << (_BITS - 1))) >> _BITS, 0, 255).T
    return grey


def _line(parameters: Parameters, direction: int, half: int) -> NDArray[np.float64]:
    scale = parameters.antialias
    near = distances(direction, parameters.paddle_length * scale, half * scale)
    return shrink(near <= parameters.paddle_thickness * scale / 2 + 1e-9, scale).astype(np.float64)


def _disc(parameters: Parameters, half: int) -> NDArray[np.int64]:
    scale = parameters.antialias
    y, x = np.mgrid[-half * scale : half * scale + 1, -half * scale : half * scale + 1]
    return shrink(y * y + x * x <= (parameters.marker_radius * scale) ** 2 + 1e-9, scale)
