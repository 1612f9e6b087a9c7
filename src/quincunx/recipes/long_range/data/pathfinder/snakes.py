"""Lays out the contours of one image: paddle after paddle on free ground, as Linsley et al. (2018) describe it.

No paddle's claim (the points within a margin of it) meets any other's but its two neighbours', and those it meets:
so two paddles are joined by overlapping claims exactly if they lie on the same contour.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from dataclasses import dataclass
from functools import reduce
from operator import or_

from quincunx.recipes.long_range.data.pathfinder.geometry import DIRECTIONS, Geometry, Paddle
from quincunx.recipes.long_range.data.pathfinder.stream import Stream

SEED_TRIES = 3
"""Places tried for the beginning of the second long contour, before the image is begun anew."""
REWINDS, REWOUND = 5, 2
"""How often the long contours, at a dead end, are taken back by how many paddles, before the image is begun anew. The
two to four times as many images a second bend and spread as those without: see the tests."""
DISTRACTOR_TRIES = 5
"""Distractors begun for each that is wanted, before it is left out."""
PLACE_TRIES = 50
"""Places tried for the beginning of each of those."""


@dataclass
class Contour:
    """A contour that is being laid out."""

    origin: tuple[int, int]
    """(y, x) of the free end of the first paddle [pixels]."""
    paddles: list[Paddle]
    claims: list[int]
    """What each paddle claims."""
    before: int = 0
    """The points that all but the last claim."""

    @property
    def points(self) -> int:
        """The points that the contour claims."""
        return self.before | self.claims[-1]

    @property
    def terminal(self) -> tuple[int, int]:
        """(y, x) of the free end of the last paddle [pixels]."""
        return self.paddles[-1].y, self.paddles[-1].x

    def add(self, paddle: Paddle, claim: int) -> None:
        """Add a paddle at the end."""
        self.before |= self.claims[-1]
        self.paddles.append(paddle)
        self.claims.append(claim)

    def rewind(self, length: int) -> None:
        """Take the paddles after the first `length` away."""
        del self.paddles[length:], self.claims[length:]
        self.before = reduce(or_, self.claims[:-1], 0)


def lay_out_targets(geometry: Geometry, stream: Stream) -> tuple[tuple[Contour, Contour] | None, int]:
    """Return the two long contours, None where they came to a dead end; and how many paddles the first got."""
    parameters = geometry.parameters
    from_border, square = 2 * parameters.seed_distance, parameters.resolution - 4 * parameters.seed_distance
    y, x = from_border + stream.below(square), from_border + stream.below(square)
    first = _begin(geometry, stream, geometry.walls, y, x)
    if first is None:
        return None, 0
    for _ in range(SEED_TRIES):
        dy, dx = geometry.seed_offsets[stream.below(len(geometry.seed_offsets))]
        second = _begin(geometry, stream, geometry.walls | first.points, y + dy, x + dx)
        if second is not None:
            break
    else:
        return None, 0
    rewinds = longest = 0
    while len(second.paddles) < parameters.contour_length:
        grown = len(second.paddles)
        longest = max(longest, grown)
        if _extend(geometry, stream, first, geometry.walls | second.points) and _extend(
            geometry, stream, second, geometry.walls | first.points
        ):
            continue
        if rewinds == REWINDS:
            return None, longest
        rewinds += 1
        for contour in (first, second):
            contour.rewind(max(1, grown - REWOUND))
    return (first, second), parameters.contour_length


def lay_out_distractors(geometry: Geometry, stream: Stream, occupied: int) -> list[Contour]:
    """Return as many short contours as are wanted and find room."""
    laid: list[Contour] = []
    for _ in range(geometry.parameters.distractors):
        for _ in range(DISTRACTOR_TRIES):
            contour = _short(geometry, stream, occupied)
            if contour is not None:
                occupied |= contour.points
                laid.append(contour)
                break
    return laid


def _short(geometry: Geometry, stream: Stream, occupied: int) -> Contour | None:
    resolution = geometry.parameters.resolution
    for _ in range(PLACE_TRIES):
        contour = _begin(geometry, stream, occupied, stream.below(resolution), stream.below(resolution))
        if contour is not None:
            break
    else:
        return None
    for _ in range(geometry.parameters.distractor_length - 1):
        if not _extend(geometry, stream, contour, occupied):
            return None
    return contour


def _begin(geometry: Geometry, stream: Stream, occupied: int, y: int, x: int) -> Contour | None:
    """Return a contour of one paddle from a pixel in any direction; None where the ground is not free."""
    direction = stream.below(DIRECTIONS)
    if not geometry.contains(y, x):
        return None
    paddle = geometry.starting(y, x, direction)
    claim = geometry.claim(paddle)
    return None if occupied & claim else Contour((y, x), [paddle], [claim])


def _extend(geometry: Geometry, stream: Stream, contour: Contour, occupied: int) -> bool:
    """Add a paddle, drawn by weight from those on free ground; False where there is none."""
    y, x, direction = contour.paddles[-1]
    around = (occupied | contour.before) >> geometry.corner(y, x)
    free = [turn for turn in geometry.turns[direction] if not around & turn.claim]
    if not free:
        return False
    weights = list(itertools.accumulate(turn.weight for turn in free))
    turn = free[bisect_right(weights, stream.below(weights[-1]))]
    paddle = Paddle(y + turn.dy, x + turn.dx, turn.direction)
    contour.add(paddle, geometry.claim(paddle))
    return True
