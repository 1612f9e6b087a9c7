"""A made language for the task of translation: another order of words, endings that agree, a mark of the second thing.

It is an invertible code with a grammar, not a natural language: nothing in it is ambiguous, so the picture is never
needed to translate. Results on it say that a model was wired and trained, and nothing about translation.

    a large red star is left of a small blue ring    ->    selo rubo mando ti olnu lazu pitu vaska
    NOUN COLOUR [PATTERN] [SIZE]  ti  NOUN COLOUR [PATTERN] [SIZE]  RELATION     adjectives end as their noun does
"""

from __future__ import annotations

from typing import NamedTuple

from quincunx.recipes.vision_language.data.world.words import Where, indefinite, phrase

NOUNS = {
    "circle": "roda",
    "square": "kanta",
    "triangle": "miko",
    "star": "selo",
    "cross": "dremu",
    "ring": "olnu",
}
"""Shape -> noun; its last letter is its gender."""
STEMS = {
    "red": "rub",
    "green": "verl",
    "blue": "laz",
    "yellow": "gial",
    "purple": "morv",
    "orange": "tanj",
    "cyan": "sael",
    "white": "blen",
    "small": "pit",
    "large": "mand",
    "plain": "nud",
    "striped": "zebr",
}
"""Adjective -> stem; the gender of the noun is added."""
RELATIONS = {"left of": "vaska", "right of": "deska", "above": "supri", "below": "infri", "and": "kem"}
"""Relation -> the word at the end of a sentence."""
MARK = "ti"
"""Stands before the second thing."""
ORDER = ("colour", "pattern", "size")
"""Adjectives, after the noun."""


class Pair(NamedTuple):
    """What a sentence says: two things, and how the first stands to the second, or that both are there (`and`)."""

    first: Where
    second: Where
    relation: str


def say(pair: Pair) -> str:
    """Return the English sentence."""
    one, two = (indefinite(phrase(where)) for where in (pair.first, pair.second))
    return f"there is {one} and {two}" if pair.relation == "and" else f"{one} is {pair.relation} {two}"


def translate(pair: Pair) -> str:
    """Return the sentence of the made language."""
    return f"{_phrase(pair.first)} {MARK} {_phrase(pair.second)} {RELATIONS[pair.relation]}"


def _phrase(where: Where) -> str:
    noun = NOUNS[where["shape"]]
    return " ".join([noun, *(STEMS[where[name]] + noun[-1] for name in ORDER if name in where)])
