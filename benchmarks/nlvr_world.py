"""Scenes and statements in the manner of NLVR (Suhr et al. 2017): three boxes of scattered shapes, or towers of blocks.

What people wrote about such pictures is far too little to learn to read and to count from, so a model first learns from
statements that a grammar makes and a program decides, about scenes drawn at random. The grammar was written by somebody
who had read the real sentences; none of their pictures or labels goes into it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nlvr_scene import BOX, COLOURS, SHAPES, Box, Scene, Thing

# --- scenes at random


def make_scene(rng: random.Random, towers: bool) -> Scene:
    """Return three boxes with towers of one to four blocks, or with one to eight things apart from each other."""
    return tuple(_tower(rng) if towers else _scattered(rng) for _ in range(3))


def _tower(rng: random.Random) -> Box:
    return tuple(Thing("square", rng.choice([*COLOURS]), 20, 40, 80 - 21 * floor) for floor in range(rng.randint(1, 4)))


def _scattered(rng: random.Random) -> Box:
    things: list[Thing] = []
    for _ in range(rng.randint(1, 8)):
        side = rng.choice((10, 20, 20, 20, 30))
        for _ in range(20):
            x, y = (_along(rng, side) for _ in range(2))
            if all(_apart(x, y, side, other) for other in things):
                things.append(Thing(rng.choice(SHAPES), rng.choice([*COLOURS]), side, x, y))
                break
    return tuple(things)


def _along(rng: random.Random, side: int) -> int:
    """Return a coordinate, a third of them at a wall."""
    place = rng.random()
    return 0 if place < 0.1 else BOX - side if place < 0.35 else rng.randint(2, BOX - side - 2)


def _apart(x: int, y: int, side: int, other: Thing) -> bool:
    return (
        x >= other.x + other.side or other.x >= x + side or y >= other.y + other.side or other.y >= y + side
    )  # fmt: skip


# --- statements

Holds = Callable[[Box], bool]
Kept = Callable[[Thing], bool]


@dataclass(frozen=True)
class Said:
    """A sentence, and when it is true."""

    text: str
    holds: Callable[[Scene], bool]


def _number(rng: random.Random, number: int) -> str:
    return str(number) if rng.random() < 0.3 else ("no", "one", "two", "three", "four", "five", "six")[number]


def _counted(rng: random.Random, most: int) -> tuple[str, int, Callable[[int], bool]]:
    """Return a quantity in words, the number in it, and which counts it is true of."""
    number = rng.randint(1, most)
    word = _number(rng, number)
    if rng.random() < 0.15 and number == 1:
        return "a", 1, lambda count: count >= 1
    kind = rng.choice(("exactly", "exactly", "only", "", "at least", "more than"))
    if kind == "at least":
        return f"at least {word}", number, lambda count: count >= number
    if kind == "more than":
        return f"more than {word}", number, lambda count: count > number
    return f"{kind} {word}".strip(), number, lambda count: count == number


def _touches(thing: Thing) -> dict[str, bool]:
    near = 1
    left, right = thing.x <= near, thing.x + thing.side >= BOX - near
    top, base = thing.y <= near, thing.y + thing.side >= BOX - near
    return {
        "edge": left or right or top or base,
        "base": base,
        "top": top,
        "right": right,
        "left": left,
        "corner": (left or right) and (top or base),
    }


PLACES = {
    "touching the edge": ("edge", True),
    "touching the wall": ("edge", True),
    "touching an edge": ("edge", True),
    "not touching any edge": ("edge", False),
    "touching the base": ("base", True),
    "closely touching the bottom of a box": ("base", True),
    "touching the top": ("top", True),
    "closely touching right wall of a box": ("right", True),
    "closely touching left wall of a box": ("left", True),
    "touching a corner": ("corner", True),
    "closely touching a corner of a box": ("corner", True),
}


def _things(rng: random.Random, towers: bool, place: float = 0.0) -> tuple[str, str, Kept]:
    """Return things of a kind in words, as one and as several, and which things they are."""
    colour = rng.choice([*COLOURS, None]) if rng.random() < 0.85 else None
    shape = rng.choice([*SHAPES, None, None]) if not towers else None
    noun = shape or (
        rng.choice(("block", "block", "block", "square", "item")) if towers else rng.choice(("item", "object"))
    )
    where = rng.choice([*PLACES]) if rng.random() < place else None
    words = f"{colour or ''} {noun}".strip()

    def kept(thing: Thing) -> bool:
        if where is not None and _touches(thing)[PLACES[where][0]] != PLACES[where][1]:
            return False
        return (colour is None or thing.colour == colour) and (shape is None or thing.shape == shape)

    behind = f" {where}" if where else ""
    return f"{words}{behind}", f"{words}s{behind}", kept


def _phrase(
    rng: random.Random, towers: bool, most: int, place: float = 0.0
) -> tuple[str, int, Callable[[Sequence[Thing]], bool]]:
    """Return so many things of a kind in words, the number in it, and when a collection of things has them."""
    quantity, number, right = _counted(rng, most)
    one, several, kept = _things(rng, towers, place)
    several_of_them = number > 1 or quantity.startswith("more")
    return f"{quantity} {several if several_of_them else one}", number, lambda things: right(sum(map(kept, things)))


def _whole_picture(rng: random.Random, towers: bool) -> Said:
    """So many things in all boxes together."""
    if rng.random() < 0.12:
        one, several, kept = _things(rng, towers, 0.7)
        text = rng.choice((f"there is no {one}", f"there are no {several}"))
        return Said(text, lambda scene: not any(kept(thing) for box in scene for thing in box))
    words, number, right = _phrase(rng, towers, 4, 0.0 if towers else 0.7)
    be = "is" if number == 1 and "more" not in words else "are"
    return Said(f"there {be} {words}", lambda scene: right([thing for box in scene for thing in box]))


def _of_a_box(rng: random.Random, towers: bool) -> tuple[str, Holds]:
    """Return something that a box may have, to stand behind `with`, and which boxes have it."""
    kind = rng.choice(("count", "count", "only", "two", "colours", "size", *(("top", "over") * 3 if towers else ())))
    one, other = rng.sample([*COLOURS], 2)
    noun = "block" if towers and rng.random() < 0.8 else rng.choice(("item", "object"))
    if kind == "only":
        if rng.random() < 0.5:
            return f"only {one} {noun}s", _only(one)
        text = rng.choice((f"only {one} and {other} {noun}s", f"{noun}s of only {one} and {other} color"))
        return text, lambda box: {thing.colour for thing in box} == {one, other}
    if kind == "two":
        (first, _, left), (second, _, right) = (_phrase(rng, towers, 2) for _ in range(2))
        if rng.random() < 0.25:
            thing, _, kept = _things(rng, towers)
            return f"{first} and no {thing}", lambda box: left(box) and not any(map(kept, box))
        return f"{first} and {second}", lambda box: left(box) and right(box)
    if kind == "colours":
        count = rng.randint(1, 3)
        if count == 1:
            text = rng.choice((f"all {noun}s of the same color", "only one color", f"{noun}s of the same color"))
        else:
            text = rng.choice((f"{noun}s of {_number(rng, count)} different colors", f"{_number(rng, count)} colors"))
        return text, lambda box: len({thing.colour for thing in box}) == count
    if kind == "size":
        quantity, number, right = _counted(rng, 4 if towers else 6)
        plural = number > 1 or quantity.startswith("more")
        return f"{quantity} {noun}{'s' * plural}", lambda box: right(len(box))
    if kind in ("top", "over"):
        return (_end if kind == "top" else _above)(rng, noun)
    words, _, right = _phrase(rng, towers, 3 if towers else 5, 0.0 if towers else 0.3)
    return words, right


def _end(rng: random.Random, noun: str) -> tuple[str, Holds]:
    """Return what a tower begins or ends with, and which towers do."""
    colour, end = rng.choice([*COLOURS]), rng.choice(("top", "top", "base", "bottom"))
    place = -1 if end == "top" else 0
    if rng.random() < 0.3:
        high = rng.randint(2, 4)
        text = f"{_number(rng, high)} blocks and a {colour} block at the {end}"
        return text, lambda box: len(box) == high and box[place].colour == colour
    return f"a {colour} {noun} at the {end}", lambda box: box[place].colour == colour


def _above(rng: random.Random, noun: str) -> tuple[str, Holds]:
    """Return which block lies on which, and in which towers."""
    one, other = rng.choice([*COLOURS]), rng.choice([*COLOURS])
    word = rng.choice(("over", "above", "on", "on top of", "below"))
    low, high = (one, other) if word == "below" else (other, one)
    return f"a {one} {noun} {word} a {other} {noun}", lambda box: any(
        (below.colour, above.colour) == (low, high) for below, above in pairwise(box)
    )


def _boxes(rng: random.Random, towers: bool) -> Said:
    """So many boxes that have something."""
    words, has = _of_a_box(rng, towers)
    name = (
        rng.choice(("tower", "tower", "tower", "box"))
        if towers
        else rng.choice(("box", "box", "box", "grey box", "grey square"))
    )
    names = {"box": "boxes", "grey box": "grey boxes"}.get(name, f"{name}s")
    link, links = rng.choice(
        (
            ("with", "with"),
            ("with", "with"),
            ("which has", "which have"),
            ("that contains", "that contain"),
            ("having", "having"),
        )
    )
    kind = rng.random()
    if kind < 0.1:
        return Said(f"each {name} has {words}", lambda scene: all(map(has, scene)))
    if kind < 0.16:
        return Said(f"none of the {names} has {words}", lambda scene: not any(map(has, scene)))
    if kind < 0.24:
        return Said(f"one of the {names} {rng.choice(('contains', 'has'))} {words}", lambda scene: any(map(has, scene)))
    if kind < 0.5:
        return Said(f"there is a {name} {link} {words}", lambda scene: any(map(has, scene)))
    quantity, number, right = _counted(rng, 2)
    several = number > 1 or quantity.startswith("more")
    which = f"are {quantity} {names} {links}" if several else f"is {quantity} {name} {link}"
    text = f"there {which} {words}"
    return Said(text, lambda scene: right(sum(map(has, scene))))


def _others(rng: random.Random, towers: bool) -> Said:
    """What the others do not say: a certain tower, all things of a kind."""
    colour = rng.choice([*COLOURS])
    if towers:
        high, end = rng.randint(1, 4), rng.choice(("top", "base"))
        place = -1 if end == "top" else 0
        name = rng.choice(
            (f"tower with {_number(rng, high)} block{'s' * (high > 1)}", f"{_number(rng, high)} blocks tower")
        )
        text = rng.choice((f"the {name} has a {colour} block at the {end}", f"the {end} of the {name} is {colour}"))
        return Said(text, lambda scene: any(len(box) == high and box[place].colour == colour for box in scene))
    if rng.random() < 0.5:
        text = f"all {colour} {rng.choice(('items', 'objects'))} are in the same box"
        return Said(text, lambda scene: sum(any(thing.colour == colour for thing in box) for box in scene) == 1)
    _, several, kept = _things(rng, False)
    text = rng.choice((f"{several} are not touching any edge", f"none of the {several} are touching an edge"))
    return Said(text, lambda scene: not any(kept(t) and _touches(t)["edge"] for box in scene for t in box))


def _simple(rng: random.Random, towers: bool) -> Said:
    """That there is something, in any box or in all: what a model can learn first."""
    colour = rng.choice([*COLOURS])
    if towers and rng.random() < 0.6:
        text, has = _end(rng, "block") if rng.random() < 0.7 else (f"only {colour} blocks", _only(colour))
        link = rng.choice(("with", "which has", "that contains", "having"))
        return Said(f"there is a tower {link} {text}", lambda scene: any(map(has, scene)))
    one, several, kept = _things(rng, towers, 0.0 if towers else 0.5)
    if rng.random() < 0.2:
        text = rng.choice((f"there is no {one}", f"there are no {several}"))
        return Said(text, lambda scene: not any(kept(thing) for box in scene for thing in box))
    behind = f"there is a {rng.choice(('tower', 'box') if towers else ('box', 'grey box'))} with a {one}"
    text = rng.choice((f"there is a {one}", f"there is at least one {one}", behind))
    return Said(text, lambda scene: any(kept(thing) for box in scene for thing in box))


def _only(colour: str) -> Holds:
    return lambda box: all(thing.colour == colour for thing in box)


def statement(rng: random.Random, towers: bool, simple: float = 0.4) -> Said:
    """Return a statement about scenes of a kind, of the simple sort with a probability."""
    if rng.random() < simple:
        return _simple(rng, towers)
    kind = rng.random()
    return (_boxes if kind < 0.62 else _whole_picture if kind < 0.92 else _others)(rng, towers)


def made(seed: int, sentences: int) -> Iterator[tuple[str, Scene, str, bool]]:
    """Yield examples, four a sentence where it can be true and false: the sentence's name, a scene, text, truth."""
    rng = random.Random(seed)
    number = 0
    while number < sentences:
        towers = rng.random() < 0.6
        found = statement(rng, towers)
        true: list[Scene] = []
        false: list[Scene] = []
        for _ in range(60):
            scene = make_scene(rng, towers)
            (true if found.holds(scene) else false).append(scene)
            if len(true) >= 2 and len(false) >= 2:
                break
        else:
            continue
        for scene, truth in [*((each, True) for each in true[:2]), *((each, False) for each in false[:2])]:
            yield f"s{number}", scene, found.text, truth
        number += 1


@dataclass(frozen=True)
class Question:
    """A question, and what is right to say of a scene."""

    text: str
    answer: Callable[[Scene], str]


BOXES = ("left", "middle", "right")
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def question(rng: random.Random, towers: bool) -> Question:
    """Return a question about scenes of a kind: how many, which colour, whether there is one."""
    kind = rng.choice(("all", "all", "boxes", "one box", "is there", *(("colour", "colour") if towers else ())))
    name = "tower" if towers else "box"
    place = rng.randrange(3)
    if kind == "colour":
        end = rng.choice(("top", "base"))
        text = f"which color is at the {end} of the {BOXES[place]} tower"
        return Question(text, lambda scene: scene[place][-1 if end == "top" else 0].colour)
    if kind == "boxes":
        words, has = _of_a_box(rng, towers)
        text = f"how many {'towers' if towers else 'boxes'} have {words}"
        return Question(text, lambda scene: _count(sum(map(has, scene))))
    one, several, kept = _things(rng, towers, 0.0 if towers else 0.4)
    if kind == "is there":
        return Question(f"is there a {one}", lambda scene: "yes" if any(kept(t) for b in scene for t in b) else "no")
    if kind == "one box":
        text = f"how many {several} are in the {BOXES[place]} {name}"
        return Question(text, lambda scene: _count(sum(map(kept, scene[place]))))
    return Question(f"how many {several} are there", lambda scene: _count(sum(kept(t) for b in scene for t in b)))


def _count(number: int) -> str:
    return NUMBERS[number] if number < len(NUMBERS) else "many"


def questions(seed: int, count: int) -> Iterator[tuple[Scene, str, str]]:
    """Yield scenes, questions and answers; of those that may be answered by none, few are."""
    rng = random.Random(seed)
    for _ in range(count):
        found = _asked(rng)
        for _ in range(3):
            if found[2] not in ("none", "no"):
                break
            found = _asked(rng)
        yield found


def _asked(rng: random.Random) -> tuple[Scene, str, str]:
    towers = rng.random() < 0.5
    asked, scene = question(rng, towers), make_scene(rng, towers)
    return scene, asked.text, asked.answer(scene)
