"""Compositional questions with typed programs, in the manner of GQA (Hudson and Manning 2019): one answer each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from quincunx.recipes.vision_language.data.record import Answer, Example
from quincunx.recipes.vision_language.data.world.draws import Draws
from quincunx.recipes.vision_language.data.world.programs import run
from quincunx.recipes.vision_language.data.world.referring import Reference, refer
from quincunx.recipes.vision_language.data.world.scene import ATTRIBUTES, Scene
from quincunx.recipes.vision_language.data.world.words import Where, indefinite, near_misses, phrase

ASKED = ("colour", "shape", "pattern", "size")


class Question(NamedTuple):
    """A question, its program, what kind it is, and what it is about: questions of one group share their answers."""

    text: str
    program: list[Mapping[str, Any]]
    types: Mapping[str, str]
    group: str


def questions(seed: int, scene: Scene, count: int = 2) -> list[Example]:
    """Return questions about a scene: a pure function of its arguments."""
    draws = Draws(seed, "shapeworld", scene.split, "gqa", scene.number)
    found: list[Question] = []
    for _ in range(8 * count):
        if len(found) == count:
            break
        made = KINDS[draws.choice(_DRAWN)](draws, scene)
        if made is not None and all(made.text != one.text for one in found):
            found.append(made)
    return [
        Example(
            f"{scene.id}-gqa-{number}",
            "gqa",
            (scene.id,),
            one.text,
            (Answer(run(one.program, scene)),),
            {"types": one.types, "group": one.group, "program": one.program},
        )
        for number, one in enumerate(found)
    ]


def _reference(draws: Draws, scene: Scene, attribute: str) -> Reference | None:
    """Return a reference to some thing, through one or two relations, that does not say an attribute of it."""
    for thing in draws.shuffled(scene.things):
        found = refer(draws, scene, thing, (attribute,), relations=1 + draws.below(2))
        if found is not None:
            return found
    return None


def _types(structural: str, semantic: str, detailed: str) -> dict[str, str]:
    return {"structural": structural, "semantic": semantic, "detailed": detailed}


def _on(reference: Reference) -> int:
    return len(reference.program) - 1


def _query(draws: Draws, scene: Scene) -> Question | None:
    attribute = draws.choice(ASKED)
    found = _reference(draws, scene, attribute)
    if found is None:
        return None
    program = [*found.program, {"op": "query", "on": _on(found), "attribute": attribute}]
    text = f"what {attribute} is the {found.words}?"
    return Question(text, program, _types("query", "relation", f"{attribute} of related"), attribute)


def _verify(draws: Draws, scene: Scene) -> Question | None:
    attribute = draws.choice(("colour", "pattern", "size"))
    found = _reference(draws, scene, attribute)
    if found is None:
        return None
    value = _value(scene, found, attribute)
    if draws.chance(0.5):
        value = draws.choice([other for other in ATTRIBUTES[attribute] if other != value])
    program = [*found.program, {"op": "verify", "on": _on(found), "attribute": attribute, "value": value}]
    text = f"is the {found.words} {value}?"
    return Question(text, program, _types("verify", "attribute", f"verify {attribute}"), f"is {attribute}")


def _choose(draws: Draws, scene: Scene) -> Question | None:
    attribute = draws.choice(("colour", "shape", "size", "pattern"))
    found = _reference(draws, scene, attribute)
    if found is None:
        return None
    value = _value(scene, found, attribute)
    values = draws.shuffled([value, draws.choice([other for other in ATTRIBUTES[attribute] if other != value])])
    program = [*found.program, {"op": "choose", "on": _on(found), "attribute": attribute, "values": values}]
    first, second = (indefinite(each) if attribute == "shape" else each for each in values)
    text = f"is the {found.words} {first} or {second}?"
    return Question(text, program, _types("choose", "attribute", f"choose {attribute}"), " or ".join(sorted(values)))


def _value(scene: Scene, found: Reference, attribute: str) -> str:
    return run([*found.program, {"op": "query", "on": _on(found), "attribute": attribute}], scene)


def _logical(draws: Draws, scene: Scene) -> Question | None:
    """Ask whether two things are there, or one of them; each of the two is or is not there by a fair coin."""
    described: list[Where] = []
    for _ in range(2):
        thing = draws.choice(scene.things)
        where: Where | None = {name: getattr(thing, name) for name in draws.choice(_PAIRS)}
        if draws.chance(0.5):
            where = next(near_misses(draws, scene, where), None)
        if where is None or where in described:
            return None
        described.append(where)
    word = draws.choice(("and", "or"))
    program: list[Mapping[str, Any]] = []
    for where in described:
        program += [{"op": "select", "where": where}, {"op": "exist", "on": len(program)}]
    program.append({"op": word, "on": [1, 3]})
    first, second = (indefinite(phrase(where)) for where in described)
    text = f"is there {first} {word} {second}?"
    return Question(text, program, _types("logical", "object", f"exist {word}"), f"exist {word}")


def _compare(draws: Draws, scene: Scene) -> Question | None:
    """Ask whether two things share an attribute that is not said; where both answers can be had, by a fair coin."""
    attribute = draws.choice(("colour", "shape", "pattern"))
    same = draws.chance(0.5)
    things = draws.shuffled(scene.things)
    pairs = [(one, other) for one in things for other in things if one is not other]
    pairs.sort(key=lambda pair: (getattr(pair[0], attribute) == getattr(pair[1], attribute)) != same)
    for one, other in pairs:
        first = refer(draws, scene, one, (attribute,), relations=0)
        second = refer(draws, scene, other, (attribute,), relations=0)
        if first is not None and second is not None:
            program = [*first.program, *second.program, {"op": "same", "on": [0, 1], "attribute": attribute}]
            text = f"are the {first.words} and the {second.words} of the same {attribute}?"
            return Question(text, program, _types("compare", "attribute", f"same {attribute}"), f"same {attribute}")
    return None


_PAIRS = (("colour", "shape"), ("pattern", "shape"), ("size", "colour"))

KINDS: Mapping[str, Callable[[Draws, Scene], Question | None]] = {
    "query": _query,
    "verify": _verify,
    "choose": _choose,
    "logical": _logical,
    "compare": _compare,
}
"""Kind of question -> what asks one, None where a scene or the draws do not allow it."""

_DRAWN = ("query", "query", "query", "verify", "choose", "choose", "logical", "compare")
