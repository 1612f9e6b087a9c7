"""Porter's stemmer (M. F. Porter, "An algorithm for suffix stripping", Program 14, 1980), as published.

Words of one or two letters stay as they are, as in Porter's own program.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

Rule = tuple[str, str]

STEP_2: Sequence[Rule] = (
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("abli", "able"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
)
STEP_3: Sequence[Rule] = (
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
)
STEP_4: Sequence[str] = (
    *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate"),
    *("iti", "ous", "ive", "ize"),
)

_SYLLABLES = re.compile("v+c+")


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Return the stem of an English word in lower case."""
    if len(word) <= 2:
        return word
    word = _step_1b(_step_1a(word))
    if word.endswith("y") and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    for rules in (STEP_2, STEP_3):
        word = _longest(word, rules)
    return _step_5(_step_4(word))


def _step_1a(word: str) -> str:
    """Take plurals back."""
    for end, other in (("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")):
        if word.endswith(end):
            return word.removesuffix(end) + other
    return word


def _step_1b(word: str) -> str:
    """Take -ed and -ing back, and mend what is left."""
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for end in ("ed", "ing"):
        if word.endswith(end):
            left = word.removesuffix(end)
            return _mended(left) if _has_vowel(left) else word
    return word


def _mended(word: str) -> str:
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if _double(word) and word[-1] not in "lsz":
        return word[:-1]
    return word + "e" if _measure(word) == 1 and _short(word) else word


def _longest(word: str, rules: Sequence[Rule]) -> str:
    """Apply the rule with the longest ending that fits, where something is left before it."""
    fitting = [rule for rule in rules if word.endswith(rule[0])]
    if not fitting:
        return word
    end, other = max(fitting, key=lambda rule: len(rule[0]))
    left = word.removesuffix(end)
    return left + other if _measure(left) > 0 else word


def _step_4(word: str) -> str:
    fitting = [end for end in STEP_4 if word.endswith(end)]
    if not fitting:
        return word
    end = max(fitting, key=len)
    left = word.removesuffix(end)
    return left if _measure(left) > 1 and (end != "ion" or left.endswith(("s", "t"))) else word


def _step_5(word: str) -> str:
    """Take a last -e away, and one of two l."""
    if word.endswith("e"):
        left = word[:-1]
        if _measure(left) > 1 or (_measure(left) == 1 and not _short(left)):
            word = left
    return word[:-1] if word.endswith("ll") and _measure(word) > 1 else word


def _kinds(word: str) -> str:
    """Return v for each vowel and c for each consonant; y is a vowel after a consonant."""
    kinds = ""
    for letter in word:
        kinds += "v" if letter in "aeiou" or (letter == "y" and kinds.endswith("c")) else "c"
    return kinds


def _measure(word: str) -> int:
    """Return how often vowels are followed by consonants."""
    return len(_SYLLABLES.findall(_kinds(word)))


def _has_vowel(word: str) -> bool:
    return "v" in _kinds(word)


def _double(word: str) -> bool:
    """Tell whether a word ends in the same consonant twice."""
    return len(word) > 1 and word[-1] == word[-2] and _kinds(word).endswith("c")


def _short(word: str) -> bool:
    """Tell whether a word ends in consonant, vowel, consonant, the last no w, x or y."""
    return _kinds(word).endswith("cvc") and word[-1] not in "wxy"
