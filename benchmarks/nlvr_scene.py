"""Scenes and pictures of NLVR (Suhr et al. 2017): three boxes of things, read, drawn, changed so that truth stays."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from quincunx.recipes.vision_language.data.record import Picture, Region

SHAPES = ("square", "circle", "triangle")
COLOURS = {"blue": (0, 153, 255), "yellow": (255, 255, 0), "black": (0, 0, 0)}
NAMES = {"#0099ff": "blue", "yellow": "yellow", "black": "black"}
"""The data set's names of colours in lower case -> words."""
SIDES = (10, 20, 30)
BOX, STRIDE = 100, 150
SIZE = (2 * STRIDE + BOX, BOX)
LIGHT, GREY = (211, 211, 211), (128, 128, 128)


@dataclass(frozen=True)
class Thing:
    """A shape; pixels from the left and the top of its box."""

    shape: str
    colour: str
    side: int
    x: int
    y: int


Box = tuple[Thing, ...]
Scene = tuple[Box, ...]


def scene_of(row: Mapping[str, Any]) -> Scene:
    """Return the scene of a line of the data set."""
    return tuple(
        tuple(
            Thing(each["type"], NAMES[each["color"].lower()], each["size"], each["x_loc"], each["y_loc"])
            for each in things
        )
        for things in row["structured_rep"]
    )


def picture_of(name: str, scene: Scene, file: str | None = None) -> Picture:
    """Return the picture of a scene, its things as regions."""
    regions = tuple(
        Region(_corners(place, thing), thing.shape, thing.colour) for place, box in enumerate(scene) for thing in box
    )
    return Picture(name, *SIZE, file, regions)


def rows_of(scene: Scene) -> list[list[float]]:
    """Return what is known of each thing: shape, colour and size, one of three each."""
    kinds: tuple[tuple[str, Sequence[Any]], ...] = (
        ("shape", SHAPES),
        ("colour", tuple(COLOURS)),
        ("side", SIDES),
    )
    return [
        [float(getattr(thing, name) == value) for name, values in kinds for value in values]
        for box in scene
        for thing in box
    ]


def drawn(scene: Scene) -> Image.Image:
    """Return a scene as the data set draws it."""
    image = Image.new("RGB", SIZE, LIGHT)
    draw = ImageDraw.Draw(image)
    for place in range(len(scene) - 1):
        draw.rectangle((place * STRIDE + BOX, 0, (place + 1) * STRIDE - 1, BOX - 1), GREY)
    for place, box in enumerate(scene):
        for thing in box:
            x1, y1, x2, y2 = (round(each) for each in _corners(place, thing))
            if thing.shape == "square":
                draw.rectangle((x1, y1, x2 - 1, y2 - 1), COLOURS[thing.colour])
            elif thing.shape == "circle":
                draw.ellipse((x1, y1, x2 - 1, y2 - 1), COLOURS[thing.colour])
            else:
                draw.polygon([(x1, y2 - 1), (x2 - 1, y2 - 1), ((x1 + x2) // 2, y1)], COLOURS[thing.colour])
    return image


def flat(image: Image.Image) -> Image.Image:
    """Return a picture in the five colours that it is made of, each pixel in the nearest.

    The data set's own pictures have smoothed edges: left as they are, a circle begins a pixel later than it is drawn
    here, no longer touches its wall, and looks otherwise than those that were learnt from.
    """
    colours = np.array([*COLOURS.values(), LIGHT, GREY], np.int64)
    pixels = np.asarray(image.convert("RGB"), np.int64)
    apart = ((pixels[:, :, None] - colours) ** 2).sum(-1)
    return Image.fromarray(colours[apart.argmin(-1)].astype(np.uint8))


def _corners(place: int, thing: Thing) -> tuple[float, float, float, float]:
    left = place * STRIDE
    bottom = min(thing.y + thing.side, BOX)
    return float(left + thing.x), float(max(thing.y, 0)), float(min(left + thing.x + thing.side, left + BOX)), bottom


def said(text: str) -> str:
    """Return a sentence in lower case, without stops and commas."""
    return " ".join(re.sub(r"[.,]", " ", text.lower()).split())


@dataclass(frozen=True)
class Exchange:
    """Boxes in another order and colours exchanged, in scene, picture and sentence: what was true stays true."""

    order: Sequence[int]
    """The place that each of the three boxes was at before."""
    colours: Mapping[str, str]

    def scene(self, scene: Scene) -> Scene:
        """Return a scene so changed."""
        return tuple(
            tuple(replace(thing, colour=self.colours[thing.colour]) for thing in scene[place]) for place in self.order
        )

    def image(self, image: Image.Image) -> Image.Image:
        """Return a picture of the five colours alone so changed."""
        before = np.asarray(image)
        moved = before.copy()
        for place, source in enumerate(self.order):
            moved[:, place * STRIDE :][:, :BOX] = before[:, source * STRIDE :][:, :BOX]
        after = moved.copy()
        for old, new in self.colours.items():
            after[(moved == COLOURS[old]).all(-1)] = COLOURS[new]
        return Image.fromarray(after)

    def text(self, text: str) -> str:
        """Return a sentence so changed."""
        return re.sub(r"\b(blue|yellow|black)", lambda found: self.colours[found[1]], text)


def exchanges(count: int, rng: random.Random) -> list[Exchange]:
    """Return so many of the thirty-six exchanges."""
    every = [(order, colours) for order in permutations(range(3)) for colours in permutations(COLOURS)]
    return [Exchange(order, dict(zip(COLOURS, colours, strict=True))) for order, colours in rng.sample(every, count)]
