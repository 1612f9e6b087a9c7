"""Statements about two pictures, each with two pairs of which it is true and two of which it is false.

As in NLVR2 (Suhr et al. 2019), a model is consistent on a statement when it is right about all of its pairs. A
statement and its pairs come from a block of eight neighbouring pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from quincunx.recipes.vision_language.data.record import Answer, Example
from quincunx.recipes.vision_language.data.world.draws import Draws
from quincunx.recipes.vision_language.data.world.scene import Scene
from quincunx.recipes.vision_language.data.world.words import NUMBERS, Where, indefinite, phrase, select

BLOCK = 8
"""Pictures that the pairs of a statement are chosen from."""

_TRIES = 200


class Statement(NamedTuple):
    """A statement and when it is true, of the numbers of things that fit in the left and in the right picture."""

    text: str
    where: Where
    holds: Callable[[int, int], bool]


def statements(seed: int, scenes: Sequence[Scene], count: int = 2) -> list[Example]:
    """Return the examples of some statements about a block of scenes, four a statement.

    A pure function of its arguments. Fewer than `count` statements where the scenes do not allow as many.
    """
    split, block = scenes[0].split, scenes[0].number // BLOCK
    draws = Draws(seed, "shapeworld", split, "nlvr", block)
    made: list[Example] = []
    texts = set[str]()
    pairs = [(left, right) for left in scenes for right in scenes if left is not right]
    for _ in range(_TRIES):
        if len(texts) == count:
            break
        said = _statement(draws, scenes)
        numbers = {scene.id: len(select(scene, said.where)) for scene in scenes}
        true: list[tuple[Scene, Scene]] = []
        false: list[tuple[Scene, Scene]] = []
        for left, right in draws.shuffled(pairs):
            (true if said.holds(numbers[left.id], numbers[right.id]) else false).append((left, right))
        if said.text in texts or min(len(true), len(false)) < 2:
            continue
        identifier = f"{split}-{block:06d}-{len(texts)}"
        texts.add(said.text)
        chosen = draws.shuffled([*((pair, "true") for pair in true[:2]), *((pair, "false") for pair in false[:2])])
        for number, ((left, right), answer) in enumerate(chosen):
            uid, pictures = f"{identifier}-nlvr-{number}", (left.id, right.id)
            more = {"identifier": identifier}
            made.append(Example(uid, "nlvr", pictures, said.text, (Answer(answer),), more))
    return made


def _statement(draws: Draws, scenes: Sequence[Scene]) -> Statement:
    """Return a statement about things like one that is in some of the scenes."""
    thing = draws.choice(draws.choice(scenes).things)
    names = draws.choice((("shape",), ("colour",), ("colour", "shape"), ("pattern", "shape"), ("size", "pattern")))
    where = {name: getattr(thing, name) for name in names}
    return TEMPLATES[draws.choice(sorted(TEMPLATES))](draws, where)


def _exactly(draws: Draws, where: Where) -> Statement:
    number = 1 + draws.below(4)
    be = "is" if number == 1 else "are"
    things = phrase(where, plural=number > 1)
    text = f"there {be} exactly {NUMBERS[number]} {things} in the two pictures"
    return Statement(text, where, lambda left, right: left + right == number)


def _more(draws: Draws, where: Where) -> Statement:
    side, other = draws.shuffled(["left", "right"])
    text = f"the {side} picture has more {phrase(where, plural=True)} than the {other} picture"
    return Statement(
        text, where, (lambda left, right: left > right) if side == "left" else lambda left, right: right > left
    )


def _both(draws: Draws, where: Where) -> Statement:
    return Statement(f"both pictures show {indefinite(phrase(where))}", where, lambda left, right: bool(left and right))


def _only(draws: Draws, where: Where) -> Statement:
    text = f"{indefinite(phrase(where))} is in one of the pictures only"
    return Statement(text, where, lambda left, right: bool(left) != bool(right))


def _least(draws: Draws, where: Where) -> Statement:
    side, number = draws.choice(("left", "right")), 2 + draws.below(2)
    text = f"there are at least {NUMBERS[number]} {phrase(where, plural=True)} in the {side} picture"
    return Statement(
        text, where, (lambda left, right: left >= number) if side == "left" else lambda left, right: right >= number
    )


def _none(draws: Draws, where: Where) -> Statement:
    side = draws.choice(("left", "right"))
    text = f"no {phrase(where)} is in the {side} picture"
    return Statement(text, where, (lambda left, right: not left) if side == "left" else lambda left, right: not right)


TEMPLATES: Mapping[str, Callable[[Draws, Where], Statement]] = {
    "exactly": _exactly,
    "more": _more,
    "both": _both,
    "only": _only,
    "least": _least,
    "none": _none,
}
"""Kind of statement -> what makes one about a description."""
