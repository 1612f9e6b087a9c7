"""Captions in five wordings (`caption`), the class of the main thing (`cls`) and sentences to translate (`mmt`)."""

from __future__ import annotations

from quincunx.recipes.vision_language.data.record import Answer, Example
from quincunx.recipes.vision_language.data.world.draws import Draws
from quincunx.recipes.vision_language.data.world.language import Pair, say, translate
from quincunx.recipes.vision_language.data.world.scene import OPPOSITE, RELATIONS, SHAPES, Scene, Thing, related
from quincunx.recipes.vision_language.data.world.words import NUMBERS, full, indefinite, phrase

REFERENCES = 5


def captions(seed: int, scene: Scene) -> list[Example]:
    """Return one example with five different sentences about the main thing and another, all of them true."""
    draws = Draws(seed, "shapeworld", scene.split, "caption", scene.number)
    main = scene.things[0]
    pairs = [
        (other, relation) for other in scene.things[1:] for relation in RELATIONS if related(main, other, relation)
    ]
    other, relation = draws.choice(pairs)
    sentences: list[str] = []
    for number in range(scene.number, scene.number + REFERENCES):
        one, two = _named(draws, main), _named(draws, other)
        count = NUMBERS[len(scene.things)]
        more = "another thing" if len(scene.things) == 2 else f"{NUMBERS[len(scene.things) - 1]} other things"
        templates = (
            f"{one} {relation} {two}",
            f"there is {one} {relation} {two}",
            f"{two} is {OPPOSITE[relation]} {one}",
            f"{relation} {two} there is {one}",
            f"the picture shows {count} things and one of them is {one}",
            f"{one} and {more}",
        )
        sentences.append(templates[number % len(templates)])
    sentences = draws.shuffled(sentences)
    answers = tuple(map(Answer, sentences))
    return [Example(f"{scene.id}-caption", "caption", (scene.id,), "", answers, {"references": sentences})]


def classes(scene: Scene) -> list[Example]:
    """Return one example: the shape of the main thing, which is the largest."""
    answer = Answer(scene.things[0].shape)
    return [Example(f"{scene.id}-cls", "cls", (scene.id,), "", (answer,), {"classes": list(SHAPES)})]


def translations(seed: int, scene: Scene) -> list[Example]:
    """Return one sentence about two things, and the same in the made language of `language`."""
    draws = Draws(seed, "shapeworld", scene.split, "mmt", scene.number)
    one, other = draws.shuffled(scene.things)[:2]
    relations = [relation for relation in RELATIONS if related(one, other, relation)]
    pair = Pair(_some(draws, one), _some(draws, other), draws.choice([*relations, "and"]))
    return [Example(f"{scene.id}-mmt", "mmt", (scene.id,), say(pair), (Answer(translate(pair)),))]


def _named(draws: Draws, thing: Thing) -> str:
    return indefinite(phrase(_some(draws, thing)))


def _some(draws: Draws, thing: Thing) -> dict[str, str]:
    """Return a thing's colour and shape, and maybe its size and pattern."""
    said = {"shape", "colour", *(name for name in ("size", "pattern") if draws.chance(0.5))}
    return {name: value for name, value in full(thing).items() if name in said}
