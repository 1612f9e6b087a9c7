"""Reads the texts of the shape world and says what is true, knowing the words and what is in a picture, nothing else.

A picture is a list of things, each a dictionary of shape, colour, size, pattern, x and y (y grows downwards), as
`scenes.jsonl` has them. Written apart from what makes the texts.
"""

from __future__ import annotations

import re
from typing import Any

VALUES = {
    "shape": ["circle", "square", "triangle", "star", "cross", "ring"],
    "colour": ["red", "green", "blue", "yellow", "purple", "orange", "cyan", "white"],
    "size": ["small", "large"],
    "pattern": ["plain", "striped"],
}
KIND = {value: name for name, values in VALUES.items() for value in values}
PLURALS = {**{f"{shape}s": shape for shape in VALUES["shape"]}, "crosses": "cross", "things": "thing"}
NUMBERS = {word: number for number, word in enumerate(["zero", "one", "two", "three", "four", "five", "six"])}
SIDES = "left of|right of|above|below"

Things = list[dict[str, Any]]


def conditions(words: str) -> dict[str, str]:
    """Return what `large red stars` or `a plain thing` asks for."""
    found: dict[str, str] = {}
    for word in words.split():
        single = PLURALS.get(word, word)
        if single in ("a", "an", "the", "thing"):
            continue
        assert KIND[single] not in found, words
        found[KIND[single]] = single
    return found


def is_side(one: dict[str, Any], other: dict[str, Any], side: str) -> bool:
    if side in ("left of", "right of"):
        return one["x"] < other["x"] if side == "left of" else one["x"] > other["x"]
    return one["y"] < other["y"] if side == "above" else one["y"] > other["y"]


def which(words: str, things: Things) -> Things:
    """Return the things that words mean: an adjective and a noun, of which some stand beside another such."""
    found = re.match(rf"(.*?) ({SIDES}) (.*)", words)
    if superlative := re.match(r"(?:the )?(leftmost|rightmost|topmost|lowest) (.*)", words):
        kin = which(superlative[2], things)
        axis = "x" if superlative[1] in ("leftmost", "rightmost") else "y"
        low = superlative[1] in ("leftmost", "topmost")
        return [sorted(kin, key=lambda thing: thing[axis] if low else -thing[axis])[0]]
    if not found:
        asked = conditions(words)
        return [thing for thing in things if all(thing[name] == value for name, value in asked.items())]
    others = which(found[3], things)
    near = which(found[1], things)
    return [one for one in near if any(one is not other and is_side(one, other, found[2]) for other in others)]


def only(words: str, things: Things) -> dict[str, Any]:
    """Return the one thing that words mean."""
    found = which(words, things)
    assert len(found) == 1, (words, len(found))
    return found[0]


def answer(question: str, things: Things) -> str:
    """Return the answer to a question about one picture."""
    asked = question.removesuffix("?")
    if found := re.fullmatch(r"what (\w+) is the (.*)", asked):
        return only(found[2], things)[found[1]]
    if found := re.fullmatch(r"how many (.*) are there", asked):
        return str(len(which(found[1], things)))
    if found := re.fullmatch(r"is there (.*?) (and|or) (an? .*)", asked):
        first, second = bool(which(found[1], things)), bool(which(found[3], things))
        return yes((first and second) if found[2] == "and" else (first or second))
    if found := re.fullmatch(r"is there (.*)", asked):
        return yes(bool(which(found[1], things)))
    if found := re.fullmatch(r"are the (.*) and the (.*) of the same (\w+)", asked):
        return yes(only(found[1], things)[found[3]] == only(found[2], things)[found[3]])
    if found := re.fullmatch(r"is the (.*?) (?:an? )?(\w+) or (?:an? )?(\w+)", asked):
        thing = only(found[1], things)
        return next(value for value in (found[2], found[3]) if thing[KIND[value]] == value)
    if (found := re.fullmatch(r"is the (.*) (\w+)", asked)) and KIND.get(found[2], "shape") != "shape":
        return yes(only(found[1], things)[KIND[found[2]]] == found[2])
    found = re.fullmatch(rf"is the (.*?) ({SIDES}) the (.*)", asked)
    assert found, question
    return yes(is_side(only(found[1], things), only(found[3], things), found[2]))


def yes(true: bool) -> str:
    return "yes" if true else "no"


def holds(statement: str, left: Things, right: Things) -> bool:
    """Tell whether a statement about two pictures is true."""
    sides = {"left": left, "right": right}
    if found := re.fullmatch(r"there (?:is|are) exactly (\w+) (.*) in the two pictures", statement):
        return len(which(found[2], left)) + len(which(found[2], right)) == NUMBERS[found[1]]
    if found := re.fullmatch(r"the (left|right) picture has more (.*) than the (left|right) picture", statement):
        assert found[1] != found[3]
        return len(which(found[2], sides[found[1]])) > len(which(found[2], sides[found[3]]))
    if found := re.fullmatch(r"both pictures show (.*)", statement):
        return bool(which(found[1], left)) and bool(which(found[1], right))
    if found := re.fullmatch(r"(.*) is in one of the pictures only", statement):
        return bool(which(found[1], left)) != bool(which(found[1], right))
    if found := re.fullmatch(r"there are at least (\w+) (.*) in the (left|right) picture", statement):
        return len(which(found[2], sides[found[3]])) >= NUMBERS[found[1]]
    found = re.fullmatch(r"no (.*) is in the (left|right) picture", statement)
    assert found, statement
    return not which(found[1], sides[found[2]])


def describes(sentence: str, things: Things) -> bool:
    """Tell whether a sentence about one picture is true."""
    if found := re.fullmatch(r"the picture shows (\w+) things and one of them is (.*)", sentence):
        return len(things) == NUMBERS[found[1]] and bool(which(found[2], things))
    if found := re.fullmatch(r"(.*) and (another thing|(\w+) other things)", sentence):
        return bool(which(found[1], things)) and len(things) == (NUMBERS[found[3]] if found[3] else 1) + 1
    if found := re.fullmatch(r"there is (an? \w.*?) and (an? .*)", sentence):
        return bool(which(found[1], things)) and bool(which(found[2], things))
    if found := re.fullmatch(rf"({SIDES}) (.*) there is (.*)", sentence):
        return bool(which(f"{found[3]} {found[1]} {found[2]}", things))
    return bool(which(sentence.removeprefix("there is ").replace(" is ", " ", 1), things))


def farthest(question: str, things: Things) -> dict[str, Any]:
    """Return the thing that `which thing is the leftmost?` asks for."""
    found = re.fullmatch(r"which thing is the (\w+)\?", question)
    assert found
    return only(f"{found[1]} thing", things)


def mentioned_pairs(text: str) -> set[tuple[str, str]]:
    """Return the pairs of colour and shape that stand together in a text."""
    colours, shapes = "|".join(VALUES["colour"]), "|".join(VALUES["shape"])
    found = re.findall(rf"\b({colours}) (?:(?:plain|striped|small|large) )*({shapes})(?:s|es)?\b", text)
    return {(colour, shape) for colour, shape in found}


# The made language, read by its grammar.

_NOUNS = dict(zip(["roda", "kanta", "miko", "selo", "dremu", "olnu"], VALUES["shape"], strict=True))
_STEMS = dict(
    zip(
        ["rub", "verl", "laz", "gial", "morv", "tanj", "sael", "blen", "pit", "mand", "nud", "zebr"],
        [*VALUES["colour"], *VALUES["size"], *VALUES["pattern"]],
        strict=True,
    )
)
_RELATIONS = {"vaska": "left of", "deska": "right of", "supri": "above", "infri": "below", "kem": "and"}


def back(sentence: str) -> str:
    """Return the English of a sentence of the made language."""
    words = sentence.split()
    relation, mark = _RELATIONS[words[-1]], words.index("ti")
    parts: list[str] = []
    for noun, *adjectives in (words[:mark], words[mark + 1 : -1]):
        assert all(word[-1] == noun[-1] for word in adjectives), sentence
        said = {KIND[_STEMS[word[:-1]]]: _STEMS[word[:-1]] for word in adjectives}
        assert [name for name in ("colour", "pattern", "size") if name in said] == list(said), sentence
        english = " ".join([*(said[name] for name in ("size", "pattern", "colour") if name in said), _NOUNS[noun]])
        parts.append(f"{'an' if english[0] in 'aeiou' else 'a'} {english}")
    return f"there is {parts[0]} and {parts[1]}" if relation == "and" else f"{parts[0]} is {relation} {parts[1]}"
