"""METEOR-lite: METEOR (Banerjee and Lavie 2005) with exact and stemmed words, without synonyms and paraphrases.

Its figures are not those of METEOR 1.5, which knows paraphrases and weighs words: they serve to compare captions with
one another, not with published tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from quincunx.metrics.caption.stem import stem
from quincunx.metrics.measured import Measured, mean

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5
"""Weight of recall in the F-measure, power and weight of the penalty for scattered matches: those of 2005."""
BEAM = 512
"""Alignments that are kept at a time; all of them, unless both texts repeat many words."""

NOWHERE = -2
"""Place of the match of the word before, where that has none: no place follows it."""

States = dict[tuple[int, int], tuple[int, int]]
"""(words of the reference that are taken, as bits; place of the match of the word before) -> (by stem only, chunks)."""


def meteor_lite(references: Mapping[str, Sequence[Sequence[str]]], captions: Mapping[str, Sequence[str]]) -> Measured:
    """Return METEOR-lite between 0 and 1: of each caption the best over its references, and their mean.

    Args:
        references: Id -> references, each a list of words.
        captions: Id -> caption, a list of words.
    """
    return mean(
        list(references), [max(one(captions[name], text) for text in texts) for name, texts in references.items()]
    )


def one(caption: Sequence[str], reference: Sequence[str]) -> float:
    """Return METEOR-lite of a caption and a single reference: F (1 - 0.5 (chunks / matches)^3)."""
    matches, chunks = align(caption, reference)
    if not matches:
        return 0.0
    precision, recall = matches / len(caption), matches / len(reference)
    score = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    return score * (1 - GAMMA * (chunks / matches) ** BETA)


def align(caption: Sequence[str], reference: Sequence[str]) -> tuple[int, int]:
    """Return how many words of two texts can be matched, and in how few chunks.

    Each word is matched with at most one of the same stem. Of all alignments that match the most words, and among them
    the most by the words themselves, that with the fewest chunks counts: runs of matches that stand in both texts one
    after another. Where both texts repeat so many words that there are more than `BEAM` alignments to follow, the best
    so far are followed at each word.
    """
    places: dict[str, list[int]] = {}
    for place, word in enumerate(reference):
        places.setdefault(stem(word), []).append(place)
    stems = [stem(word) for word in caption]
    spare = Counter(stems)  # of each stem, how many words of the caption stay without a match
    spare.subtract({text: len(found) for text, found in places.items()})
    seen: Counter[str] = Counter()
    states: States = {(0, NOWHERE): (0, 0)}
    for word, text in zip(caption, stems, strict=True):
        candidates = places.get(text, ())
        seen[text] += 1
        following: States = {}
        for (taken, before), (stemmed, chunks) in states.items():
            free = [place for place in candidates if not taken >> place & 1]
            for place in free:
                cost = (stemmed + (reference[place] != word), chunks + (place != before + 1))
                _keep(following, (taken | 1 << place, place), cost)
            matched = len(candidates) - len(free)
            if seen[text] - matched <= spare[text]:
                _keep(following, (taken, NOWHERE), (stemmed, chunks))
        states = following if len(following) <= BEAM else _best(following)
    matches = sum(min(count, len(places.get(text, ()))) for text, count in seen.items())
    return matches, min(states.values())[1]


def _keep(states: States, state: tuple[int, int], cost: tuple[int, int]) -> None:
    if state not in states or cost < states[state]:
        states[state] = cost


def _best(states: States) -> States:
    return dict(sorted(states.items(), key=lambda item: (item[1], item[0]))[:BEAM])
