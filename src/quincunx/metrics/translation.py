"""BLEU (Papineni et al. 2002) and chrF (Popović 2015) of translations, as sacrebleu computes them (Post 2018).

Values are shares between 0 and 1; sacrebleu prints them times 100. N sentences, R rows of sums.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np

from quincunx.errors import DataError
from quincunx.metrics.measured import Measured, Numbers, from_sums, same_ids

LONGEST = 4
"""Words of an n-gram of BLEU."""
CHARACTERS = 6
"""Characters of an n-gram of chrF."""
BETA = 2
"""How many times recall counts what precision counts in chrF2."""

ESCAPED = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_SPLIT = (
    (re.compile(r"([!-&(-+:-@\[-`{-~/])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def words_13a(text: str) -> list[str]:
    """Return the words of a text as mteval-v13a.pl cuts it, case kept: punctuation apart, but not within numbers."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for escape, mark in ESCAPED:
        text = text.replace(escape, mark)
    text = f" {text} "
    for pattern, apart in _SPLIT:
        text = pattern.sub(apart, text)
    return text.split()


def translation_scores(
    references: Mapping[str, Sequence[str]], translations: Mapping[str, str], lowercase: bool = False
) -> dict[str, Measured]:
    """Return `bleu` and `chrf` of translations.

    BLEU: n-grams of 1 to 4 words by `words_13a`, the length of the closest reference, orders without a match smoothed
    by halves ("exp"); of single sentences without the orders that they are too short for. chrF: n-grams of 1 to 6
    characters without spaces, recall counting twice; with several references the best for each sentence.

    Args:
        references: Id -> translations that are right, at least one each.
        translations: The same ids -> translation, which may be empty.
        lowercase: Whether capitals count as small letters.

    Raises:
        DataError: Ids that are not the same, an id without references, values that are no texts; with the id.
    """
    names = same_ids(references, translations, "sentence", "translations")
    pairs = [_checked(name, translations[name], references[name], lowercase) for name in names]
    counted = np.array([_bleu_sums(text, others) for text, others in pairs], np.float64)
    characters = np.array([_chrf_sums(text, others) for text, others in pairs], np.float64)
    return {
        "bleu": from_sums(names, bleu_value(counted, effective=True), counted, partial(bleu_value, effective=False)),
        "chrf": from_sums(names, chrf_value(characters), characters, chrf_value),
    }


def bleu_value(sums: Numbers, effective: bool) -> Numbers:
    """Return BLEU of rows of sums [R, 10]: matches by length, guesses by length, words, reference words.

    Args:
        sums: As above.
        effective: Leave out lengths that there are no n-grams of, instead of taking the value for 0.
    """
    return np.array([_bleu(row.tolist(), effective) for row in sums])


def chrf_value(sums: Numbers) -> Numbers:
    """Return chrF of rows of sums [R, 18]: n-grams of translations, of references, and matches, each by length."""
    ours, theirs, matches = (sums[:, start : start + CHARACTERS] for start in range(0, 3 * CHARACTERS, CHARACTERS))
    counts = (ours > 0) & (theirs > 0)
    orders = np.maximum(counts.sum(axis=1), 1)
    precision = np.divide(matches, ours, out=np.zeros_like(matches), where=counts).sum(axis=1) / orders
    recall = np.divide(matches, theirs, out=np.zeros_like(matches), where=counts).sum(axis=1) / orders
    below = BETA**2 * precision + recall
    above = (1 + BETA**2) * precision * recall
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _bleu(sums: Sequence[float], effective: bool) -> float:
    matches, guesses, words, wanted = sums[:LONGEST], sums[LONGEST : 2 * LONGEST], sums[-2], sums[-1]
    if not any(matches):
        return 0.0
    logarithm, orders, smooth = 0.0, 0, 1.0
    for match, guess in zip(matches, guesses, strict=True):
        if not guess:
            break
        if not match:
            smooth *= 2
        logarithm += math.log(match / guess if match else 1 / (smooth * guess))
        orders += 1
    if orders < LONGEST and not effective:
        return 0.0
    return math.exp(logarithm / orders + min(0.0, 1 - wanted / words))


def _bleu_sums(text: str, references: Iterable[str]) -> list[float]:
    words = words_13a(text)
    others = [words_13a(reference) for reference in references]
    matches = [_matched(_grams(words, n), [_grams(other, n) for other in others]) for n in range(1, LONGEST + 1)]
    guesses = [max(len(words) - n + 1, 0) for n in range(1, LONGEST + 1)]
    closest = min((abs(len(other) - len(words)), len(other)) for other in others)[1]
    return [*matches, *guesses, len(words), closest]


def _chrf_sums(text: str, references: Iterable[str]) -> list[float]:
    """Return the sums of the best reference, the first of equals."""
    best, rows = -1.0, [0.0] * (3 * CHARACTERS)
    ours = [_grams("".join(text.split()), n) for n in range(1, CHARACTERS + 1)]
    for reference in references:
        theirs = [_grams("".join(reference.split()), n) for n in range(1, CHARACTERS + 1)]
        # orders that the reference is too short for do not count, nor do the translation's n-grams of them
        found: list[float] = [one.total() if other else 0 for one, other in zip(ours, theirs, strict=True)]
        found += [other.total() for other in theirs]
        found += [_matched(one, [other]) for one, other in zip(ours, theirs, strict=True)]
        value = float(chrf_value(np.array([found], np.float64))[0])
        if value > best:
            best, rows = value, found
    return rows


def _grams(items: Sequence[str], length: int) -> Counter[Sequence[str]]:
    """Count the n-grams of words (as tuples) or of a text's characters (as texts)."""
    parts = items if isinstance(items, str) else tuple(items)
    return Counter(parts[start : start + length] for start in range(len(parts) - length + 1))


def _matched(ours: Counter[Sequence[str]], theirs: Sequence[Counter[Sequence[str]]]) -> int:
    """Return how many n-grams are in some reference too, each at most as often as in one of them."""
    return sum(min(count, max(other[gram] for other in theirs)) for gram, count in ours.items())


def _checked(name: str, text: object, references: object, lowercase: bool) -> tuple[str, list[str]]:
    if not isinstance(text, str):
        raise DataError(f"translations, id {name!r}: found {text!r}, expected a text")
    if isinstance(references, str) or not isinstance(references, Sequence) or not references:
        raise DataError(f"references, id {name!r}: found {references!r}, expected a list of one text or more")
    for number, reference in enumerate(references):
        if not isinstance(reference, str) or not reference.strip():
            raise DataError(f"references, id {name!r}, number {number}: found {reference!r}, expected a text")
    return (text.lower(), [one.lower() for one in references]) if lowercase else (text, list(references))
