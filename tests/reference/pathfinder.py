"""Whether two points of a Pathfinder drawing lie on one contour, found by flood fill over sets of points."""

from __future__ import annotations

import math

Point = tuple[float, float]
Paddle = tuple[Point, Point]


def distance_to_segment(point: Point, tail: Point, head: Point) -> float:
    along = (head[0] - tail[0], head[1] - tail[1])
    from_tail = (point[0] - tail[0], point[1] - tail[1])
    share = (from_tail[0] * along[0] + from_tail[1] * along[1]) / (along[0] ** 2 + along[1] ** 2)
    share = min(max(share, 0.0), 1.0)
    return math.hypot(from_tail[0] - share * along[0], from_tail[1] - share * along[1])


def points_near(paddle: Paddle, radius: float, scale: int) -> set[tuple[int, int]]:
    """The points of a grid, `scale` to a pixel, within a radius (in pixels) of a paddle's centre line."""
    (y0, x0), (y1, x1) = paddle
    rows = range(math.floor((min(y0, y1) - radius) * scale), math.ceil((max(y0, y1) + radius) * scale) + 1)
    columns = range(math.floor((min(x0, x1) - radius) * scale), math.ceil((max(x0, x1) + radius) * scale) + 1)
    return {
        (row, column)
        for row in rows
        for column in columns
        if distance_to_segment((row / scale, column / scale), *paddle) <= radius + 1e-9
    }


def groups(paddles: list[Paddle], radius: float, scale: int) -> list[set[int]]:
    """The paddles in groups: two are in one if a way leads from the one to the other through points that paddles share.

    In order of the first of each.
    """
    near = [points_near(paddle, radius, scale) for paddle in paddles]
    holders: dict[tuple[int, int], list[int]] = {}
    for number, points in enumerate(near):
        for point in points:
            holders.setdefault(point, []).append(number)
    found: list[set[int]] = []
    left = set(range(len(paddles)))
    while left:
        group: set[int] = set()
        front = [min(left)]
        while front:
            number = front.pop()
            if number not in group:
                group.add(number)
                front.extend(other for point in near[number] for other in holders[point])
        found.append(group)
        left -= group
    return found


def nearest(point: Point, paddles: list[Paddle]) -> int:
    """The paddle that a point lies on or nearest to."""
    return min(range(len(paddles)), key=lambda number: distance_to_segment(point, *paddles[number]))
