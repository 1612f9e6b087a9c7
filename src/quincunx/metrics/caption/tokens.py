"""Words of captions as the Penn Treebank tokenizer cuts them, in lower case and without punctuation.

The COCO captioning evaluation cuts captions with Stanford's PTBTokenizer 3.4.1 in Java and drops the punctuation; this
follows its rules for English as captions have it. Rare abbreviations, web addresses and the like may be cut otherwise.
"""

from __future__ import annotations

import re

DROPPED = frozenset(("''", "'", "``", "`", '"', ".", "?", "!", ",", ":", "-", "--", "...", ";"))
"""Brackets are not among them: the evaluation means to drop them too, but looks for them in upper case."""
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}

PLAIN = str.maketrans({
    "’": "'", "‘": "`", "“": "``", "”": "''", "–": "--", "—": "--", "…": "...",
    "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3",
    "£": "#", "€": "$", "¢": " cents ", "\u00a0": " ", "\u00ad": "",
})  # fmt: skip

ABBREVIATIONS = """
    mr mrs ms dr prof gen col lt sgt capt rev hon gov sen rep pres sr jr st ave blvd rd inc corp ltd co bros
    etc vs ft fig nos jan feb mar apr jun jul aug sep sept oct nov dec
"""
"""They keep their period."""
JOINED = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "wanna": ("wan", "na"),
    "gotta": ("got", "ta"),
    "gimme": ("gim", "me"),
    "lemme": ("lem", "me"),
}
"""Words that are two."""

_LETTER = r"[^\W\d_]"
_WORD = rf"(?:{_LETTER}|\d)+"
_TOKEN = re.compile(
    rf"""
    (?P<tag> </?{_LETTER}+> | (?<!\w) [\#@] {_LETTER} \w* )
  | (?P<number> (?:\d+ (?:[.,:/]\d+)+ | (?<!\w) [.:]\d+) )
  | (?P<initials> {_LETTER} (?:\.{_LETTER})+ \. )
  | (?P<abbreviation> (?:{"|".join(ABBREVIATIONS.split())}) \. (?!\w) | no\. (?=\ ?\d) | {_LETTER} \. (?=\ \w|$) )
  | (?P<word> {_WORD} (?: [-/'_.] {_WORD} )* )
  | (?P<clitic> '(?:s|m|d|ll|re|ve|n'|\d\ds)(?!\w) | 't(?=is\b|was\b) )
  | (?P<mark> \.{{2,}} | -{{2,}} | _+ | [?!]+ | '' | `` | \*+ | \S )
    """,
    re.VERBOSE,
)
_CLITIC = re.compile(r"(?:n't|'(?:s|m|d|ll|re|ve))$")


def ptb_words(text: str) -> list[str]:
    """Return the words of a caption: `A man's hat (red).` gives `a man 's hat -lrb- red -rrb-`."""
    words: list[str] = []
    for match in _TOKEN.finditer(text.translate(PLAIN).lower()):
        token = match.group()
        if match.lastgroup == "word":
            words += _parts(token)
        elif token not in DROPPED:
            words.append(BRACKETS.get(token, token))
    return words


def _parts(word: str) -> list[str]:
    """Cut a word before what is contracted to it."""
    if word in JOINED:
        return list(JOINED[word])
    clitic = _CLITIC.search(word)
    if clitic and clitic.start():
        return [word[: clitic.start()], clitic.group()]
    return [word]
