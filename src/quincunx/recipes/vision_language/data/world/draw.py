"""Pixels of a scene: shapes with soft edges, stripes and turned a little, on an uneven ground with scratches and noise.

Everything is computed here, not by a drawing library, so that pixels do not change with its version; W side.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from quincunx.data.order import counter_hash
from quincunx.recipes.vision_language.data.record import Box
from quincunx.recipes.vision_language.data.world.draws import Draws
from quincunx.recipes.vision_language.data.world.scene import Scene, Thing
from quincunx.seeds import address

RGB = {
    "red": (214, 44, 40),
    "green": (46, 160, 56),
    "blue": (40, 84, 210),
    "yellow": (240, 214, 48),
    "purple": (150, 60, 178),
    "orange": (244, 142, 30),
    "cyan": (64, 204, 220),
    "white": (240, 240, 240),
}
"""Colours as they are before jitter."""

JITTER = 14
"""How far each channel of a thing may be from its colour."""
NOISE = 9
"""How far each channel of a pixel may be from what was drawn."""

_FINER = 3
_SCRATCHES = 7


def draw(scene: Scene, seed: int, size: int) -> NDArray[np.uint8]:
    """Return the pixels of a scene [W, W, 3]: a pure function of its arguments."""
    draws = Draws(seed, "shapeworld", scene.split, "pixels", scene.number)
    canvas = _ground(draws, size)
    for thing in scene.things:
        cover, ink, left, top = _drawn(thing, size)
        colour = np.array(RGB[thing.colour]) + np.array([draws.uniform(-JITTER, JITTER) for _ in range(3)])
        window = canvas[top : top + len(cover), left : left + cover.shape[1]]
        window += cover[..., None] * (colour * ink[..., None] - window)
    noise = counter_hash(np.arange(canvas.size), address(seed, "shapeworld", scene.split, "noise", scene.number))
    canvas += ((noise >> np.uint64(40)).astype(np.float64) / 2**24 * 2 - 1).reshape(canvas.shape) * NOISE
    return np.clip(np.floor(canvas + 0.5), 0, 255).astype(np.uint8)


def boxes_of(scene: Scene, size: int) -> list[Box]:
    """Return the box of each thing in pixels, round every pixel that it touches."""
    boxes: list[Box] = []
    for thing in scene.things:
        cover, _, left, top = _drawn(thing, size)
        rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
        x1, y1, x2, y2 = left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1
        boxes.append((float(x1), float(y1), float(x2), float(y2)))
    return boxes


def _ground(draws: Draws, size: int) -> NDArray[np.float64]:
    """Return a dark grey that changes from side to side, with grey scratches in it [W, W, 3]."""
    y, x = np.mgrid[0:size, 0:size] / size
    level, slope_x, slope_y = draws.uniform(50, 95), draws.uniform(-25, 25), draws.uniform(-25, 25)
    grey = level + slope_x * (x - 0.5) + slope_y * (y - 0.5)
    for _ in range(_SCRATCHES):
        angle, middle_x, middle_y = draws.uniform(0, math.pi), draws.uniform(), draws.uniform()
        along = (x - middle_x) * math.cos(angle) + (y - middle_y) * math.sin(angle)
        across = (y - middle_y) * math.cos(angle) - (x - middle_x) * math.sin(angle)
        mark = (np.abs(along) < draws.uniform(0.03, 0.12)) & (np.abs(across) < 0.6 / size)
        grey = np.where(mark, grey + draws.uniform(-35, 45), grey)
    return np.repeat(grey[..., None], 3, axis=2)


def _drawn(thing: Thing, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64], int, int]:
    """Return how much of each pixel of a window a thing covers, how light it is there, and the window's corner."""
    centre_x, centre_y, radius = thing.x * size, thing.y * size, thing.radius * size
    left, top = math.floor(centre_x - radius) - 1, math.floor(centre_y - radius) - 1
    left, top = max(left, 0), max(top, 0)
    right, bottom = min(math.ceil(centre_x + radius) + 1, size), min(math.ceil(centre_y + radius) + 1, size)
    steps = (
        (np.arange((right - left) * _FINER) + 0.5) / _FINER + left,
        (np.arange((bottom - top) * _FINER) + 0.5) / _FINER + top,
    )
    x, y = (steps[0][None, :] - centre_x) / radius, (steps[1][:, None] - centre_y) / radius
    turn = math.radians(thing.turn)
    across, down = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    inside = _inside(thing.shape, across, down)
    ink = np.ones(inside.shape)
    if thing.pattern == "striped":
        ink = np.where(np.floor((across + down) * 2.2 + 100) % 2 == 0, 0.38, 1.0)
    cover = _shrunk(inside.astype(np.float64))
    lightness = _shrunk(np.where(inside, ink, 0.0))
    return cover, np.divide(lightness, cover, out=np.ones_like(cover), where=cover > 0), left, top


def _inside(shape: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points, in radii from the centre, belong to a shape."""
    distance = np.hypot(x, y)
    if shape == "circle":
        return distance <= 0.9
    if shape == "ring":
        return (distance <= 0.95) & (distance >= 0.5)
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) <= 0.7
    if shape == "cross":
        return (np.minimum(np.abs(x), np.abs(y)) <= 0.26) & (np.maximum(np.abs(x), np.abs(y)) <= 0.85)
    if shape == "triangle":
        return (y <= 0.55) & (np.abs(x) * math.sqrt(3) - y <= 0.95) & (distance <= 1)
    # a star of five points: the distance to the edge as the angle goes from a point to the notch beside it
    fifth = 2 * math.pi / 5
    angle = np.abs((np.arctan2(x, -y) + fifth / 2) % fifth - fifth / 2)
    inner, outer = 0.42, 0.98
    edge = inner * outer * math.sin(fifth / 2) / (outer * np.sin(angle) + inner * np.sin(fifth / 2 - angle))
    return distance <= edge


def _shrunk(fine: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, columns = fine.shape[0] // _FINER, fine.shape[1] // _FINER
    return fine.reshape(rows, _FINER, columns, _FINER).mean(axis=(1, 3))
