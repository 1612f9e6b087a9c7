"""How one thing of a scene can be referred to, with a program that finds it: by what it is, or by where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from quincunx.recipes.vision_language.data.world.draws import Draws
from quincunx.recipes.vision_language.data.world.scene import RELATIONS, Scene, Thing, related
from quincunx.recipes.vision_language.data.world.words import Where, beyond, phrase, select, telling


class Reference(NamedTuple):
    """A thing in words, without an article, and the steps that find it."""

    words: str
    program: list[Mapping[str, Any]]


def refer(
    draws: Draws, scene: Scene, thing: Thing, without: Sequence[str] = (), *, relations: int = 1
) -> Reference | None:
    """Return a reference that fits one thing alone.

    Args:
        draws: Chooses among them.
        scene: Where the thing is.
        thing: What is meant.
        without: Attributes of it that must not be said.
        relations: How many relations the reference goes through; 0 says what the thing is.

    Returns:
        None where there is no such reference. Of things that the words fit none is so near the edge of a relation that
        one could doubt it.
    """
    if not relations:
        described = telling(scene, thing, without)
        if not described:
            return None
        where = draws.choice(described)
        return Reference(phrase(where), [{"op": "select", "where": dict(where)}])
    pairs = [(other, relation) for other in scene.things if other is not thing for relation in RELATIONS]
    said = [name for name in ("shape", "pattern", "colour", "size") if name not in without]
    for other, relation in draws.shuffled(pairs):
        if not related(thing, other, relation):
            continue
        for where in draws.shuffled([{}, *({name: getattr(thing, name)} for name in said)]):
            if not _alone(scene, thing, other, relation, where):
                continue
            reached = refer(draws, scene, other, relations=relations - 1)
            if reached is not None:
                step = {"op": "relate", "on": len(reached.program) - 1, "relation": relation, "where": where}
                words = f"{phrase(where)} {relation} the {reached.words}"
                return Reference(words, [*reached.program, step])
    return None


def _alone(scene: Scene, thing: Thing, other: Thing, relation: str, where: Where) -> bool:
    """Tell whether a thing is the only one of its description that might stand so to another."""
    rivals = [each for each in select(scene, where) if each is not other and each is not thing]
    return not any(beyond(rival, other, relation) for rival in rivals)
