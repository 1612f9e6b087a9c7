"""Descriptions of things: a few attributes, the words for them, and which of them tell one thing from the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from quincunx.recipes.vision_language.data.world.draws import Draws
from quincunx.recipes.vision_language.data.world.scene import ATTRIBUTES, RELATIONS, Scene, Thing, allowed

Where = Mapping[str, str]
"""Attribute -> the value it must have; an empty one fits everything."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
ORDER = ("size", "pattern", "colour")
"""Adjectives as English has them, before the shape."""
EXTREMES = {"leftmost": ("x", -1), "rightmost": ("x", 1), "topmost": ("y", -1), "lowest": ("y", 1)}
"""Superlative -> axis and direction."""

_CLEAR = 0.04


def phrase(where: Where, *, plural: bool = False) -> str:
    """Return a description in words, without an article: `large red star`, `striped things`."""
    noun = where.get("shape", "thing")
    if plural:
        noun += "es" if noun == "cross" else "s"
    return " ".join([*(where[name] for name in ORDER if name in where), noun])


def indefinite(words: str) -> str:
    """Return words with `a` or `an` before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def full(thing: Thing) -> Where:
    """Return the description that names all attributes of a thing."""
    return dict(zip(ATTRIBUTES, thing.looks, strict=True))


def fits(thing: Thing, where: Where) -> bool:
    """Tell whether a description fits a thing."""
    return all(getattr(thing, name) == value for name, value in where.items())


def select(scene: Scene, where: Where) -> list[Thing]:
    """Return the things that a description fits."""
    return [thing for thing in scene.things if fits(thing, where)]


def may_say(split: str, where: Where) -> bool:
    """Tell whether texts of a split may hold a description."""
    return allowed(split, where.get("shape"), where.get("colour"))


def telling(scene: Scene, thing: Thing, without: Sequence[str] = ()) -> list[Where]:
    """Return the shortest descriptions that fit this thing alone; none where there is none without some attributes."""
    names = [name for name in ATTRIBUTES if name not in without]
    for count in range(1, len(names) + 1):
        found: list[Where] = [{name: getattr(thing, name) for name in chosen} for chosen in combinations(names, count)]
        if alone := [where for where in found if len(select(scene, where)) == 1]:
            return alone
    return []


def near_misses(draws: Draws, scene: Scene, where: Where) -> Iterator[Where]:
    """Yield descriptions that differ from one by a value and fit nothing, and that the scene's split may hold."""
    changes = [(name, value) for name in where for value in ATTRIBUTES[name] if value != where[name]]
    for name, value in draws.shuffled(changes):
        other = {**where, name: value}
        if not select(scene, other) and may_say(scene.split, other):
            yield other


def absent(draws: Draws, scene: Scene, count: int) -> list[Where]:
    """Return full descriptions of different things that are not in a scene, and that its split may speak of."""
    there = [full(thing) for thing in scene.things]
    found: list[Where] = []
    while len(found) < count:
        where = {name: draws.choice(values) for name, values in ATTRIBUTES.items()}
        if where not in there and where not in found and may_say(scene.split, where):
            found.append(where)
    return found


def beyond(one: Thing, other: Thing, relation: str) -> bool:
    """Tell whether one thing might pass for left of (right of ...) another: `related`, or too close to say."""
    axis, sign = RELATIONS[relation]
    return sign * (getattr(one, axis) - getattr(other, axis)) > -_CLEAR


def extreme(things: Sequence[Thing], word: str) -> Thing | None:
    """Return the leftmost (rightmost ...) of two or more things; None where two of them are about as far."""
    axis, sign = EXTREMES[word]
    ranked = sorted(things, key=lambda thing: -sign * getattr(thing, axis))
    if len(ranked) < 2 or abs(getattr(ranked[0], axis) - getattr(ranked[1], axis)) < _CLEAR:
        return None
    return ranked[0]
