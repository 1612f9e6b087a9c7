"""Expressions that mean one thing of a scene (`refcoco`), and questions with four answers and four reasons (`vcr`)."""

from __future__ import annotations

from collections.abc import Sequence

from quincunx.recipes.vision_language.data.record import Box, Example
from quincunx.recipes.vision_language.data.world.draws import Draws
from quincunx.recipes.vision_language.data.world.referring import refer
from quincunx.recipes.vision_language.data.world.scene import Scene, Thing
from quincunx.recipes.vision_language.data.world.words import (
    EXTREMES,
    absent,
    extreme,
    full,
    indefinite,
    phrase,
    select,
    telling,
)

RELATION_OF = {"leftmost": "left of", "rightmost": "right of", "topmost": "above", "lowest": "below"}
"""Superlative -> how the thing it means stands to all others."""


def expressions(seed: int, scene: Scene, boxes: Sequence[Box], count: int = 2) -> list[Example]:
    """Return expressions, each of another thing, that every other thing of the scene fails to fit.

    A pure function of its arguments. Things that share an attribute with another come first, so that most expressions
    need more than a word.

    Args:
        seed: Of the world.
        scene: What is in the picture.
        boxes: Of each thing, in pixels.
        count: At most so many.
    """
    draws = Draws(seed, "shapeworld", scene.split, "refcoco", scene.number)
    numbers = draws.shuffled(range(len(scene.things)))
    numbers.sort(key=lambda number: -len(telling(scene, scene.things[number])[0]))
    made: list[Example] = []
    for number in numbers[:count]:
        words = _expression(draws, scene, scene.things[number])
        uid = f"{scene.id}-refcoco-{len(made)}"
        made.append(Example(uid, "refcoco", (scene.id,), words, (), {"box": list(boxes[number])}))
    return made


def _expression(draws: Draws, scene: Scene, thing: Thing) -> str:
    """Return an expression: what the thing is, where it stands, or that it is the farthest of its kind."""
    kind = draws.choice(("what", "where", "farthest"))
    if kind == "where" and (found := refer(draws, scene, thing)) is not None:
        return f"the {found.words}"
    if kind == "farthest":
        for name in draws.shuffled(["shape", "colour", "pattern"]):
            where = {name: getattr(thing, name)}
            kin = select(scene, where)
            words = [word for word in EXTREMES if len(kin) > 1 and extreme(kin, word) is thing]
            if words:
                return f"the {draws.choice(words)} {phrase(where)}"
    return f"the {phrase(draws.choice(telling(scene, thing)))}"


def inferences(seed: int, scene: Scene) -> list[Example]:
    """Return the question which thing is farthest to a side, with four things and four reasons; one of each is right.

    A pure function of its arguments. Reasons name the right thing: some of them put it beside a thing that is not in
    the picture, so that they cannot be told apart without it. None where no thing is clearly the farthest.
    """
    draws = Draws(seed, "shapeworld", scene.split, "vcr", scene.number)
    for word in draws.shuffled(list(EXTREMES)):
        thing = extreme(scene.things, word)
        if thing is not None:
            return [_inference(draws, scene, thing, word)]
    return []


def _inference(draws: Draws, scene: Scene, thing: Thing, word: str) -> Example:
    others = draws.shuffled([other for other in scene.things if other is not thing])
    strange = absent(draws, scene, 4)
    described = [full(thing), *map(full, others), *strange[:2]]
    relation, name, near = RELATION_OF[word], f"the {phrase(full(thing))}", indefinite(phrase(full(others[0])))
    reasons = [
        f"{name} is {relation} {near}",
        f"{near} is {relation} {name}",
        *(f"{name} is {relation} {indefinite(phrase(where))}" for where in strange[2:]),
    ]
    label, rationale_label = draws.below(4), draws.below(4)
    more = {
        "choices": _with_first_at(draws, [f"the {phrase(where)}" for where in described[:4]], label),
        "label": label,
        "rationales": _with_first_at(draws, reasons, rationale_label),
        "rationale_label": rationale_label,
    }
    return Example(f"{scene.id}-vcr-0", "vcr", (scene.id,), f"which thing is the {word}?", (), more)


def _with_first_at(draws: Draws, texts: Sequence[str], place: int) -> list[str]:
    """Return the texts, the first one on a place of its own, the others shuffled."""
    rest = draws.shuffled(texts[1:])
    return [*rest[:place], texts[0], *rest[place:]]
