"""Where a paddle may follow another, and which points each one claims.

A set of points is one long Python integer, a bit a point, so that asking whether two sets meet is one `&`. Whatever
sines and roots give is rounded to whole numbers here, once, so that sets do not depend on the platform's mathematics.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quincunx.recipes.long_range.data.pathfinder.parameters import Parameters

DIRECTIONS = 72
"""Paddles point in one of so many directions; number k is k * 360 / 72 degrees from the x axis towards y."""

_UNSURE = 1e-9
"""Distances that differ by less are the same."""


class Paddle(NamedTuple):
    """A dash: from `paddle_length` behind its head, in its direction, to its head."""

    y: int
    x: int
    """The head, in pixels."""
    direction: int


class Turn(NamedTuple):
    """A way in which the next paddle may lie, seen from a paddle's head."""

    claim: int
    """What it would claim; the lowest bit is the upper left point of the window round the present head."""
    weight: int
    dy: int
    dx: int
    direction: int


class Geometry:
    """What depends on the settings and an image's margin alone."""

    def __init__(self, parameters: Parameters, margin: int) -> None:
        self.parameters = parameters
        self.margin = margin
        self.scale = parameters.antialias if margin == 1 else 1
        """Points a pixel in each direction: finer than pixels only where margins are as small as those."""
        self.claim_radius = margin + parameters.paddle_thickness / 2
        """A paddle claims the points so near to its centre line [pixels]."""
        step = parameters.paddle_length + 2 * margin + 1
        """No head is farther from the one before."""
        self._half = (step + margin + math.ceil(parameters.paddle_thickness) + 1) * self.scale
        """Points from a head to the end of the window that holds all that the next paddle may claim."""
        self._border = self._half + parameters.paddle_length * self.scale
        self._width = (parameters.resolution - 1) * self.scale + 1 + 2 * self._border
        self.walls = self._build_walls()
        """All points outside of the image and of its padding."""
        self._claims = [self._build_claim(direction) for direction in range(DIRECTIONS)]
        self.turns = [self._build_turns(direction) for direction in range(DIRECTIONS)]
        """Per direction of a paddle, the ways in which the next one may lie."""
        self._starts = [
            tuple(_nearest(parameters.paddle_length * part) for part in unit(direction))
            for direction in range(DIRECTIONS)
        ]
        self.seed_offsets = ring(parameters.seed_distance)
        """Where the second long contour may begin, seen from the first [pixels]."""

    def contains(self, y: int, x: int) -> bool:
        """Tell whether a pixel lies in the image."""
        return 0 <= y < self.parameters.resolution and 0 <= x < self.parameters.resolution

    def corner(self, y: int, x: int) -> int:
        """Return the bit of the upper left point of the window round a pixel."""
        offset = self._border - self._half
        return (y * self.scale + offset) * self._width + x * self.scale + offset

    def starting(self, y: int, x: int, direction: int) -> Paddle:
        """Return the paddle that begins at a pixel, to the nearest pixel of its head."""
        dy, dx = self._starts[direction]
        return Paddle(y + dy, x + dx, direction)

    def claim(self, paddle: Paddle) -> int:
        """Return the points that a paddle claims."""
        return self._claims[paddle.direction] << self.corner(paddle.y, paddle.x)

    def ends(self, paddle: Paddle) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return (y, x) of a paddle's tail and head [pixels]."""
        dy, dx = unit(paddle.direction)
        length = self.parameters.paddle_length
        return (paddle.y - length * dy, paddle.x - length * dx), (float(paddle.y), float(paddle.x))

    def mask(self, points: int) -> NDArray[np.bool_]:
        """Return a set of points as a mask [F, F] over the image, F = (resolution - 1) * scale + 1.

        Pixel (y, x) has its centre at point (y * scale, x * scale).
        """
        size = self._width * self._width
        packed = np.frombuffer(points.to_bytes(-(-size // 8), "little"), np.uint8)
        canvas = np.unpackbits(packed, count=size, bitorder="little").reshape(self._width, self._width)
        inside = slice(self._border, self._width - self._border)
        return canvas[inside, inside].astype(np.bool_)

    def _build_walls(self) -> int:
        canvas = np.ones((self._width, self._width), np.bool_)
        edge = self._border + self.parameters.padding * self.scale
        canvas[edge : self._width - edge, edge : self._width - edge] = False
        return _as_integer(canvas)

    def _build_claim(self, direction: int) -> int:
        near = distances(direction, self.parameters.paddle_length * self.scale, self._half)
        window = near <= self.claim_radius * self.scale + _UNSURE
        rows = np.zeros((len(window), self._width), np.bool_)
        rows[:, : len(window)] = window
        return _as_integer(rows)

    def _build_turns(self, direction: int) -> list[Turn]:
        """Return the paddles whose heads lie one paddle and margin from the pivot, one margin ahead of the last head.

        Only those whose claim meets that of the last paddle. The weight is the squared cosine of the turn times
        `continuity`, zero from 90 degrees on.
        """
        step = self.parameters.paddle_length + self.margin
        around = range(-step - self.margin - 1, step + self.margin + 2)
        pivot_y, pivot_x = (self.margin * part for part in unit(direction))
        turns: list[Turn] = []
        for dy, dx in itertools.product(around, around):
            y, x = dy - pivot_y, dx - pivot_x
            if abs(math.hypot(y, x) - step) >= 0.5 - _UNSURE:
                continue
            angle = math.atan2(y, x)
            turn = abs(angle - direction * math.tau / DIRECTIONS) % math.tau
            turn = min(turn, math.tau - turn) * self.parameters.continuity
            weight = _nearest(65536 * math.cos(min(turn, math.pi / 2)) ** 2)
            if weight:
                towards = _nearest(angle * DIRECTIONS / math.tau) % DIRECTIONS
                offset = (dy * self._width + dx) * self.scale
                claim = self._claims[towards] << offset if offset > 0 else self._claims[towards] >> -offset
                if claim & self._claims[direction]:
                    turns.append(Turn(claim, weight, dy, dx, towards))
        return turns


@lru_cache(maxsize=16)
def geometry(parameters: Parameters, margin: int) -> Geometry:
    """Return the geometry for an image's margin; made once, for it takes as long as some hundred images."""
    return Geometry(parameters, margin)


def unit(direction: int) -> tuple[float, float]:
    """Return (y, x) of the point at distance 1 in a direction."""
    angle = direction * math.tau / DIRECTIONS
    return round(math.sin(angle), 12), round(math.cos(angle), 12)


def distances(direction: int, length: float, half: int) -> NDArray[np.float64]:
    """Return the distance of each point to the line that ends, in its direction, at the middle point [2 half + 1]^2."""
    dy, dx = unit(direction)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    behind = np.clip(-(y * dy + x * dx), 0, length)
    return np.sqrt((y + behind * dy) ** 2 + (x + behind * dx) ** 2)


def ring(radius: int) -> list[tuple[int, int]]:
    """Return (y, x) of the whole points whose distance from (0, 0) rounds to the radius."""
    around = range(-radius - 1, radius + 2)
    return [
        (y, x) for y in around for x in around if (2 * radius - 1) ** 2 <= 4 * (y * y + x * x) < (2 * radius + 1) ** 2
    ]


def _as_integer(mask: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(mask.ravel(), bitorder="little").tobytes(), "little")


def _nearest(value: float) -> int:
    """Return the nearest whole number, the greater of two; what is that near to the middle counts as it."""
    return math.floor(value + 0.5 + _UNSURE)
