"""Words of a mirrored picture: left becomes right in texts about it, where that is certain; else it is not mirrored.

A question on what is left of a car is falsified by a mirrored picture, and one on the right answer is not. Only what is
known to mean a side is changed; a text with any doubt in it says that its picture has to stay as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

OTHER = {"left": "right", "right": "left"}

COMPOUND = frozenset(
    ("most", "-most", "hand", "-hand", "handed", "-handed", "side", "-side", "ward", "-ward", "wards", "-wards")
)
"""What `left` and `right` are one word with where they mean a side."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NOUNS = _words(
    "side sides hand hands arm arms leg legs foot feet eye eyes ear ears wrist shoulder knee corner edge half part "
    "portion end border wall lane wing"
)
"""What has a left and a right one; a side is meant before them."""
BEFORE = _words(
    "the to on at from far upper lower top bottom front back rear center centre middle toward towards facing looking "
    "pointing turning turn turned turns faces looks points further farther furthest extreme his her its their your my "
    "our or and"
)
"""After these a side is meant, if what comes next is the end, a sign, a word of AFTER or one that ends in -ing."""
AFTER = (
    _words("of and or in is are was were has have had with that which who than on at by as about called look looks")
    | NOUNS
)
SHORT = _words("on to at in the its it is and or both side from left right")
"""A text of no other words is about sides: an answer."""

_SIDE = re.compile(r"\b(left|right)([a-z-]*)", re.IGNORECASE)
_PAIR = re.compile(r"\b(left|right)(\s+(?:and|or|to)\s+|/|\s*-\s*to\s*-\s*)(left|right)\b", re.IGNORECASE)
_WORD = re.compile(r"[a-z']+", re.IGNORECASE)
_DOUBTFUL = re.compile(
    r"""\b(?:
        right\s+(?:now|away|answers?|angles?|of\s+way|side\s+(?:up|down)|before|after|or\s+wrong|thing)
      | wrong\s+or\s+right | (?:all|alright|just|is\s+this|be|that's)\s+right
      | (?:what|which|much|many|nothing|anything|something|none|all|little|half|some|any)
        (?:'s|\s+(?:is|are|was|were|has\s+been))?\s+left
      | (?:have|has|had|be|been|being|she|he|they|who|just|already)\s+left
      | (?:left|right)\s+(?:image|picture|photo|photograph|box|panel|frame|screen|one|ones|alone|behind|over)s?
      | (?:letters?|words?|texts?|written|writes?|writing|wrote|spell\w*|says?|reads?|digits?|license|logo|brand|
           clockwise|counterclockwise|anticlockwise|o'clock|east|eastern|west|western|north\w*|south\w*)
      | (?:what|which)\s+(?:time|numbers?|name|names|street|company|year|date|day)
      | (?:what\s+is\s+the|what's\s+the)\s+(?:time|number|name)
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)
"""What may mean no side, which of several pictures, or what a mirror makes unreadable."""
_COUNTED = re.compile(r"\b(?:first|second|third|fourth|fifth|sixth|last)\b", re.IGNORECASE)
"""Counted from a side, and from the left where none is named."""
_FOREIGN = re.compile(
    r"\b(?:links|rechts|linke[nrsm]?|rechte[nrsm]?|gauche|droite?|izquierd[ao]|derech[ao]|sinistr[ao]|destr[ao]|"
    r"esquerd[ao]|direit[ao])\b",
    re.IGNORECASE,
)


def mirrored_texts(texts: Sequence[str], foreign: Sequence[str] = ()) -> tuple[str, ...] | None:
    """Return the English texts about a picture as they are true of its mirror image; None where that is not certain.

    Args:
        texts: Question, answers and choices, all together: what one of them calls left, the others must too.
        foreign: Texts in other languages, which are never changed: where sides are named, nothing is certain.

    Returns:
        The texts, in their order; mirroring them again gives those that were given.
    """
    found: list[str] = []
    for text in texts:
        changed = _mirrored(text)
        if changed is None:
            return None
        found.append(changed)
    if foreign and (found != list(texts) or any(_FOREIGN.search(text) for text in foreign)):
        return None
    return tuple(found)


def _mirrored(text: str) -> str | None:
    if _DOUBTFUL.search(text):
        return None
    sides = [*_SIDE.finditer(text)]
    if not sides:
        return None if _COUNTED.search(text) else text
    words = {word.lower() for word in _WORD.findall(text)}
    if not words <= SHORT:
        paired = {place for pair in _PAIR.finditer(text) for place in (pair.start(1), pair.start(3))}
        if not all(side.start() in paired or _is_side(text, side) for side in sides):
            return None
    elif any(side[2] for side in sides):
        return None
    return _SIDE.sub(lambda side: _as_written(OTHER[side[1].lower()], side[1]) + side[2], text)


def _is_side(text: str, side: re.Match[str]) -> bool:
    if side[2]:
        return side[2].lower() in COMPOUND
    rest = text[side.end() :]
    words, before = _WORD.findall(rest), _WORD.findall(text[: side.start()])
    following = words[0].lower() if words and rest[:1].isspace() else ""
    if following in NOUNS or following == "of":
        return True
    if not before or before[-1].lower() not in BEFORE:
        return False
    return not following or following in AFTER or following.endswith("ing")


def _as_written(word: str, like: str) -> str:
    """Return a word in the capitals of another."""
    if like.isupper():
        return word.upper()
    return word.capitalize() if like[0].isupper() else word
