"""What is in a picture of the world: shapes of a colour, a size and a pattern, none over another.

The first thing of a scene is its main one, larger than all others. Some pairs of colour and shape are held out: they
occur in no scene but as the main thing of the split that asks whether a model composes what it knows (Johnson et al.
2017 hold attributes out likewise).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quincunx.recipes.vision_language.data.world.draws import Draws

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "white")
SIZES = ("small", "large")
PATTERNS = ("plain", "striped")
ATTRIBUTES = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "pattern": PATTERNS}
"""Attribute -> its values."""
RELATIONS = {"left of": ("x", -1), "right of": ("x", 1), "above": ("y", -1), "below": ("y", 1)}
"""Relation -> the axis along which it is, and the sign of the one minus the other; y grows downwards."""
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

HELD_OUT = frozenset((COLOURS[(3 * number + 1) % len(COLOURS)], shape) for number, shape in enumerate(SHAPES))
"""The pairs of colour and shape that are held out: one of each shape."""
HELD_OUT_SPLIT = "heldout"

MARGIN = 0.06
"""How far apart centres must be along an axis, as a share of the side, for a relation to hold."""

_RADII = {"main": (0.16, 0.18), "large": (0.115, 0.135), "small": (0.07, 0.085)}
_MOST = 6
_TRIES = 60


@dataclass(frozen=True)
class Thing:
    """A shape in a scene; lengths are shares of the picture's side."""

    shape: str
    colour: str
    size: str
    pattern: str
    x: float
    y: float
    radius: float
    turn: float
    """In degrees, too few to take one shape for another."""

    @property
    def looks(self) -> tuple[str, str, str, str]:
        """Its attributes, as `ATTRIBUTES` orders them; two things of a scene differ in them."""
        return self.shape, self.colour, self.size, self.pattern


@dataclass(frozen=True)
class Scene:
    """The things in a picture, the main one first."""

    split: str
    number: int
    things: tuple[Thing, ...]

    @property
    def id(self) -> str:
        """The name of its picture."""
        return f"{self.split}-{self.number:06d}"


def related(one: Thing, other: Thing, relation: str) -> bool:
    """Tell whether one thing is left of, right of, above or below another, clearly so."""
    axis, sign = RELATIONS[relation]
    return sign * (getattr(one, axis) - getattr(other, axis)) >= MARGIN


def allowed(split: str, shape: str | None, colour: str | None) -> bool:
    """Tell whether a split may show, or speak of, a pair of colour and shape."""
    return split == HELD_OUT_SPLIT or (colour, shape) not in HELD_OUT


def make_scene(seed: int, split: str, number: int) -> Scene:
    """Return the scene of a number: a pure function of seed, split and number.

    Two to six things; half of those after the first share a colour or a shape with an earlier one, so that few are
    told apart by one word.
    """
    draws = Draws(seed, "shapeworld", split, "scene", number)
    things = [_main(draws, split)]
    wanted = 2 + draws.below(_MOST - 1)
    for _ in range(wanted - 1):
        for _ in range(_TRIES if len(things) > 1 else 100 * _TRIES):  # a scene has two things at least
            thing = _other(draws, things)
            if _fits(thing, things):
                things.append(thing)
                break
    return Scene(split, number, tuple(things))


def _main(draws: Draws, split: str) -> Thing:
    """Return the largest thing, of a pair that is held out in the split for these, of another elsewhere."""
    shape = draws.choice(SHAPES)
    colours = [colour for colour in COLOURS if ((colour, shape) in HELD_OUT) == (split == HELD_OUT_SPLIT)]
    return _placed(draws, shape, draws.choice(colours), "large", "main")


def _other(draws: Draws, things: Sequence[Thing]) -> Thing:
    shape, colour = draws.choice(SHAPES), draws.choice(COLOURS)
    like = draws.choice(things)
    if draws.chance(0.5):
        shape, colour = (like.shape, colour) if draws.chance(0.5) else (shape, like.colour)
    size = draws.choice(SIZES)
    return _placed(draws, shape, colour, size, size)


def _placed(draws: Draws, shape: str, colour: str, size: str, kind: str) -> Thing:
    radius = draws.uniform(*_RADII[kind])
    edge = radius + 0.02
    x, y = draws.uniform(edge, 1 - edge), draws.uniform(edge, 1 - edge)
    return Thing(shape, colour, size, draws.choice(PATTERNS), x, y, radius, draws.uniform(-10, 10))


def _fits(thing: Thing, things: Sequence[Thing]) -> bool:
    """Tell whether a thing may join: no held-out pair, none that looks alike, nothing in its place."""
    if (thing.colour, thing.shape) in HELD_OUT or any(thing.looks == other.looks for other in things):
        return False
    apart = (
        (thing.x - other.x) ** 2 + (thing.y - other.y) ** 2 >= (thing.radius + other.radius + 0.015) ** 2
        for other in things
    )
    return all(apart)
