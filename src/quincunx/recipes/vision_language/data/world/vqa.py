"""Questions about colours, shapes, counts, existence and places, answered by ten annotators who now and then err.

As in VQA v2 (Goyal et al. 2017), an answer's weight is a third for each annotator who gave it, at most 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from quincunx.recipes.vision_language.data.answers import soft_answers
from quincunx.recipes.vision_language.data.record import Example
from quincunx.recipes.vision_language.data.world.draws import Draws
from quincunx.recipes.vision_language.data.world.scene import ATTRIBUTES, OPPOSITE, RELATIONS, Scene, related
from quincunx.recipes.vision_language.data.world.words import (
    Where,
    indefinite,
    near_misses,
    phrase,
    select,
    telling,
)

ANNOTATORS = 10
ERROR = 0.12
"""How likely an annotator errs; never more than four of the ten do."""


class Asked(NamedTuple):
    """A question and its answer."""

    text: str
    answer: str
    wrong: Sequence[str]
    """What who errs may say."""
    question_type: str
    answer_type: str


def questions(seed: int, scene: Scene, count: int = 2) -> list[Example]:
    """Return questions about a scene, each of another kind: a pure function of its arguments."""
    draws = Draws(seed, "shapeworld", scene.split, "vqa", scene.number)
    asked: list[Asked] = []
    for kind in draws.shuffled(list(KINDS)):
        if len(asked) < count and (found := KINDS[kind](draws, scene)) is not None:
            asked.append(found)
    return [_example(draws, scene, number, one) for number, one in enumerate(asked)]


def _example(draws: Draws, scene: Scene, number: int, asked: Asked) -> Example:
    said: list[str] = []
    for _ in range(ANNOTATORS):
        errs = draws.chance(ERROR) and len(said) - said.count(asked.answer) < 4
        said.append(draws.choice(asked.wrong) if errs else asked.answer)
    more = {"annotations": said, "question_type": asked.question_type, "answer_type": asked.answer_type}
    return Example(f"{scene.id}-vqa-{number}", "vqa", (scene.id,), asked.text, soft_answers(said), more)


def _attribute(name: str, draws: Draws, scene: Scene) -> Asked | None:
    """Ask for the colour or shape of the one thing that other attributes tell from the rest."""
    for thing in draws.shuffled(scene.things):
        if described := telling(scene, thing, without=(name,)):
            answer = getattr(thing, name)
            text = f"what {name} is the {phrase(draws.choice(described))}?"
            wrong = [value for value in ATTRIBUTES[name] if value != answer]
            return Asked(text, answer, wrong, f"what {name}", "other")
    return None


def _colour(draws: Draws, scene: Scene) -> Asked | None:
    return _attribute("colour", draws, scene)


def _shape(draws: Draws, scene: Scene) -> Asked | None:
    return _attribute("shape", draws, scene)


def _count(draws: Draws, scene: Scene) -> Asked | None:
    """Ask how many there are, each number that some description has being as likely."""
    by_number: dict[int, list[Where]] = {}
    for where in _descriptions(draws, scene):
        by_number.setdefault(len(select(scene, where)), []).append(where)
    number = draws.choice(sorted(by_number))
    where = draws.choice(by_number[number])
    wrong = [str(number + 1), str(number - 1)] if number else ["1"]
    return Asked(f"how many {phrase(where, plural=True)} are there?", str(number), wrong, "how many", "number")


def _descriptions(draws: Draws, scene: Scene) -> list[Where]:
    """Return all descriptions by one or two attributes of what is there, and some that fit nothing."""
    there: list[Where] = [
        {name: getattr(thing, name) for name in names}
        for thing in scene.things
        for count in (1, 2)
        for names in combinations(ATTRIBUTES, count)
    ]
    nothing = [{"shape": shape} for shape in ATTRIBUTES["shape"] if not select(scene, {"shape": shape})]
    nothing += [next(near_misses(draws, scene, there[1]), there[0])]
    unique = {tuple(sorted(where.items())): where for where in [*there, *nothing]}
    return list(unique.values())


def _existence(draws: Draws, scene: Scene) -> Asked | None:
    """Ask whether there is a thing of two attributes, a `no` being off by one of them."""
    names = draws.choice([("colour", "shape"), ("pattern", "shape"), ("size", "shape"), ("colour", "pattern")])
    thing = draws.choice(scene.things)
    where: Where | None = {name: getattr(thing, name) for name in names}
    if draws.chance(0.5):
        where = next(near_misses(draws, scene, where), None)
    if where is None:
        return None
    answer, wrong = ("yes", "no") if select(scene, where) else ("no", "yes")
    return Asked(f"is there {indefinite(phrase(where))}?", answer, [wrong], "is there", "yes/no")


def _relation(draws: Draws, scene: Scene) -> Asked | None:
    """Ask whether one thing is left of, right of, above or below another, of which it is or is the opposite."""
    pairs = [
        (one, other, relation)
        for one in scene.things
        for other in scene.things
        for relation in RELATIONS
        if one is not other and related(one, other, relation)
    ]
    for one, other, relation in draws.shuffled(pairs)[:8]:
        first, second = telling(scene, one), telling(scene, other)
        if first and second:
            answer, wrong = ("yes", "no") if draws.chance(0.5) else ("no", "yes")
            said = relation if answer == "yes" else OPPOSITE[relation]
            text = f"is the {phrase(draws.choice(first))} {said} the {phrase(draws.choice(second))}?"
            return Asked(text, answer, [wrong], "is the", "yes/no")
    return None


KINDS: Mapping[str, Callable[[Draws, Scene], Asked | None]] = {
    "colour": _colour,
    "shape": _shape,
    "count": _count,
    "existence": _existence,
    "relation": _relation,
}
"""Kind of question -> what asks one, None where a scene does not allow it."""
