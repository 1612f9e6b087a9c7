"""Measures of captions as their papers have them: one caption at a time, n-grams in plain dictionaries."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations, permutations, product

Words = Sequence[str]
Texts = Mapping[str, Sequence[Words]]

TINY, SMALL = 1e-15, 1e-9


def grams(words: Words, length: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + length]) for start in range(len(words) - length + 1))


def clipped(caption: Words, references: Sequence[Words], length: int) -> int:
    """Return how many n-grams of a caption are in a reference, each at most as often as in one of them."""
    return sum(
        min(count, max(grams(other, length)[gram] for other in references))
        for gram, count in grams(caption, length).items()
    )


def closest(caption: Words, references: Sequence[Words]) -> int:
    return min((abs(len(other) - len(caption)), len(other)) for other in references)[1]


def bleu(references: Texts, captions: Mapping[str, Words], longest: int) -> float:
    """Return BLEU of a corpus; of one caption, when there is one."""
    value = 1.0
    for length in range(1, longest + 1):
        matches = sum(clipped(captions[name], texts, length) for name, texts in references.items())
        guesses = sum(max(len(captions[name]) - length + 1, 0) for name in references)
        value *= (matches + TINY) / (guesses + SMALL)
    value **= 1 / longest
    words = sum(len(captions[name]) for name in references)
    wanted = sum(closest(captions[name], texts) for name, texts in references.items())
    ratio = (words + TINY) / (wanted + SMALL)
    return value * math.exp(1 - 1 / ratio) if ratio < 1 else value


def common(one: Words, two: Words) -> int:
    """Return the length of the longest common subsequence by its recursion."""

    @cache
    def length(a: int, b: int) -> int:
        if not a or not b:
            return 0
        if one[a - 1] == two[b - 1]:
            return length(a - 1, b - 1) + 1
        return max(length(a - 1, b), length(a, b - 1))

    return length(len(one), len(two))


def rouge_l(caption: Words, references: Sequence[Words], beta: float = 1.2) -> float:
    if not caption:
        return 0.0
    precision = max(common(caption, other) / len(caption) for other in references)
    recall = max(common(caption, other) / len(other) for other in references)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision) if precision else 0.0


def cider(references: Texts, captions: Mapping[str, Words], name: str, published: bool = True) -> float:
    """Return CIDEr of one caption: CIDEr-D, as published, or the plain cosine."""
    total = 0.0
    for length in range(1, 5):
        seen = Counter(
            gram for texts in references.values() for gram in {gram for text in texts for gram in grams(text, length)}
        )

        def vector(words: Words, length: int = length, seen: Counter[tuple[str, ...]] = seen) -> dict[tuple, float]:
            counts = grams(words, length)
            return {gram: n * (math.log(len(references)) - math.log(max(1, seen[gram]))) for gram, n in counts.items()}

        ours = vector(captions[name])
        for text in references[name]:
            theirs = vector(text)
            dot = sum(
                (min(weight, theirs.get(gram, 0.0)) if published else weight) * theirs.get(gram, 0.0)
                for gram, weight in ours.items()
            )
            sizes = [math.sqrt(sum(weight**2 for weight in side.values())) for side in (ours, theirs)]
            value = dot / (sizes[0] * sizes[1]) if all(sizes) else 0.0
            if published:
                pairs = [max(len(words) - 1, 0) for words in (captions[name], text)]
                value *= math.exp(-((pairs[0] - pairs[1]) ** 2) / (2 * 6.0**2))
            total += value / len(references[name])
    return 10 * total / 4


def alignments(caption: Words, reference: Words, same) -> Iterator[dict[int, int]]:
    """Yield all ways to match words one to one: place in the caption -> place in the reference."""
    kinds = sorted({same(word) for word in caption} & {same(word) for word in reference})
    ways = []
    for kind in kinds:
        ours = [place for place, word in enumerate(caption) if same(word) == kind]
        theirs = [place for place, word in enumerate(reference) if same(word) == kind]
        most = min(len(ours), len(theirs))
        ways.append(
            [
                tuple(zip(some, order, strict=True))
                for some in combinations(ours, most)
                for order in permutations(theirs, most)
            ]
        )
    for parts in product(*ways):
        yield {ours: theirs for part in parts for ours, theirs in part}


def fewest_chunks(caption: Words, reference: Words, same) -> tuple[int, int]:
    """Return matches and chunks of the best of all alignments: most matches, most exact ones, fewest chunks."""

    def cost(pairs: dict[int, int]) -> tuple[int, int]:
        stemmed = sum(caption[ours] != reference[theirs] for ours, theirs in pairs.items())
        chunks = sum(pairs.get(ours - 1, -9) != theirs - 1 for ours, theirs in pairs.items())
        return stemmed, chunks

    best = min(alignments(caption, reference, same), key=cost)
    return len(best), cost(best)[1]
