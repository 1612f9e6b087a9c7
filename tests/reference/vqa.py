"""The VQA challenge's accuracy step by step: each person's answer is put aside and the others are counted."""

from __future__ import annotations

import re
from collections.abc import Sequence

NUMBERS = "zero one two three four five six seven eight nine ten"
DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(NUMBERS.split())}
APOSTROPHES = {"dont": "don't", "isnt": "isn't", "im": "im", "couldntve": "couldntve", "couldnt've": "couldn't've"}
"""A few; `im` and `couldntve` stay as they are."""


def punctuation(text: str) -> str:
    found = text
    for mark in ';/[]"{}()=+\\_-><@`,?!':
        beside = mark + " " in text or " " + mark in text
        found = found.replace(mark, "" if beside or re.search(r"\d,\d", text) else " ")
    removed, kept = 0, ""
    for place, letter in enumerate(found):
        if letter == "." and not found[place + 1 : place + 2].isdigit() and removed < 32:
            removed += 1
        else:
            kept += letter
    return kept


def words(text: str) -> str:
    found = [DIGITS.get(word, word) for word in text.lower().split()]
    return " ".join(APOSTROPHES.get(word, word) for word in found if word not in ("a", "an", "the"))


def clean(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def accuracy(answer: str, people: Sequence[str]) -> float:
    """Return the official accuracy of one answer."""
    given, said = clean(answer), [clean(text) for text in people]
    if len(set(said)) > 1:
        given, said = words(punctuation(given)), [words(punctuation(text)) for text in said]
    values = []
    for person in range(len(said)):
        others = said[:person] + said[person + 1 :]
        values.append(min(1.0, sum(other == given for other in others) / 3))
    return sum(values) / len(values)
