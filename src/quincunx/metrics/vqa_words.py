"""How answers to visual questions are made comparable: case, punctuation, number words, articles, contractions.

The rules are those of the VQA challenge (Antol et al. 2015; Goyal et al. 2017). `official` answers letter by letter as
its script does, oversights included; `fixed` does what the script's rules are meant to do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

MODES = ("official", "fixed")

NUMBERS: Mapping[str, str] = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
ARTICLES = frozenset(("a", "an", "the"))
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'

CONTRACTED = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's isn't
    it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've shouldn't
    somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's
    they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's
    where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
"""
"""Written without their apostrophe they are taken for a slip, and get it back."""
TWICE = """
    couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've something'd've
    there'd've they'd've we'd've who'd've wouldn't've y'all'll you'd've
"""
"""Written without one of two apostrophes."""
FIRST_PERSON = ("i'm", "i've")
"""The script knows them with a capital, which no word has any more when it is looked up."""

_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_FIRST = 32
"""Periods that the script removes: it passes a flag (re.UNICODE) where the number of replacements is expected."""


def normalised(answer: str, mode: str = "official") -> str:
    """Return an answer as it is compared.

    - Line ends and tabs become spaces.
    - Each punctuation mark that anywhere stands beside a space is removed, any other becomes a space; where a comma
      stands between digits, all marks are removed.
    - Periods are removed unless a digit follows (`official`: the first 32 only).
    - Lower case; number words up to ten become digits, `none` 0; articles are left out; lost apostrophes come back.

    Args:
        answer: Any text.
        mode: `official` or `fixed`.
    """
    text = without_breaks(answer)
    compact = _COMMA_IN_NUMBER.search(text) is not None
    left = text
    for mark in PUNCTUATION:
        if mark in left:
            beside = compact or f"{mark} " in text or f" {mark}" in text
            left = left.replace(mark, "" if beside else " ")
    left = _PERIOD.sub("", left, count=_FIRST if mode == "official" else 0)
    words = (NUMBERS.get(word, word) for word in left.lower().split())
    table = contractions(mode)
    return " ".join(table.get(word, word) for word in words if word not in ARTICLES)


def without_breaks(answer: str) -> str:
    """Return an answer with line ends and tabs as spaces, without spaces round it."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=len(MODES))
def contractions(mode: str) -> Mapping[str, str]:
    """Return what is written for a contraction -> the contraction.

    `official` has a few more entries, which turn `somebody'd` into `somebodyd`, and lacks `im` and `ive`.
    """
    table = {word.replace("'", ""): word for word in CONTRACTED.split()}
    for word in TWICE.split():
        first, second, third = word.split("'")
        table[f"{first}{second}'{third}"] = word
        table[f"{first}'{second}{third}"] = word
    table |= {"y'alld've": "y'all'd've", "y'all'dve": "y'all'd've", "yall'd've": "y'all'd've"}
    if mode == "official":
        return table | {"somebody'd": "somebodyd", "ow's'at": "'ow's'at", "'ows'at": "'ow's'at", "'ow'sat": "'ow's'at"}
    mended = {word.replace("'", ""): word for word in (*FIRST_PERSON, "somebody'd")}
    return table | mended | {"id've": "i'd've", "i'dve": "i'd've"}
