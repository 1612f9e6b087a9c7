"""Translations: figures that sacrebleu 2.6 gives, a slow reference for corpora, words cut as mteval-v13a does."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.errors import DataError
from quincunx.metrics.translation import translation_scores, words_13a
from reference.caption import clipped, closest

SENTENCES = st.lists(st.sampled_from(["ab", "ba", "c", "d"]), max_size=7).map(" ".join)
CORPORA = st.lists(
    st.tuples(st.lists(SENTENCES.filter(bool), min_size=1, max_size=3), SENTENCES), min_size=1, max_size=4
)


def corpus_bleu(pairs) -> float:
    """Return BLEU with halves for orders without a match."""
    value, smooth = 1.0, 1
    matched = 0
    for length in range(1, 5):
        matches = sum(clipped(text.split(), [other.split() for other in others], length) for others, text in pairs)
        guesses = sum(max(len(text.split()) - length + 1, 0) for _, text in pairs)
        matched += matches
        if not guesses:
            return 0.0
        if not matches:
            smooth *= 2
        value *= (matches / guesses if matches else 1 / (smooth * guesses)) ** 0.25
    words = sum(len(text.split()) for _, text in pairs)
    wanted = sum(closest(text.split(), [other.split() for other in others]) for others, text in pairs)
    return value * math.exp(min(0.0, 1 - wanted / words)) if matched else 0.0


def letters(text: str, length: int) -> Counter[str]:
    joined = text.replace(" ", "")
    return Counter(joined[start : start + length] for start in range(len(joined) - length + 1))


def sentence_chrf(text: str, reference: str) -> float:
    precisions, recalls = [], []
    for length in range(1, 7):
        ours, theirs = letters(text, length), letters(reference, length)
        if ours and theirs:
            common = (ours & theirs).total()
            precisions.append(common / ours.total())
            recalls.append(common / theirs.total())
    if not any(precisions):
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 5 * precision * recall / (4 * precision + recall)


@settings(max_examples=150, deadline=None)
@given(CORPORA)
def test_values_are_the_references(pairs):
    found = translation_scores(
        {str(n): others for n, (others, _) in enumerate(pairs)}, {str(n): text for n, (_, text) in enumerate(pairs)}
    )
    assert found["bleu"].value == pytest.approx(corpus_bleu(pairs))
    for (others, text), value in zip(pairs, found["chrf"].samples, strict=True):
        assert value == pytest.approx(max(sentence_chrf(text, other) for other in others))


def test_sacrebleus_figures():
    references = {
        "1": ["The dog bit the man.", "The dog had bit the man."],
        "2": ["It was not unexpected.", "No one was surprised."],
        "3": ["The man bit him first.", "The man had bitten the dog."],
    }
    translations = {"1": "The dog bit the man.", "2": "It wasn't surprising.", "3": "The man had just bitten him."}
    found = translation_scores(references, translations)
    assert 100 * found["bleu"].value == pytest.approx(48.530827009929865, abs=1e-9)
    assert 100 * found["chrf"].value == pytest.approx(59.72751782684763, abs=1e-9)
    assert [100 * value for value in found["bleu"].samples] == pytest.approx(
        [100.00000000000004, 14.794015674776452, 29.071536848410968], abs=1e-9
    )
    assert [100 * value for value in found["chrf"].samples] == pytest.approx(
        [100.0, 35.34635301425291, 51.87740799504779], abs=1e-9
    )
    assert found["bleu"].interval().low < found["bleu"].value < found["bleu"].interval().high


def test_case_counts_unless_told_otherwise():
    texts = {"1": ["Ein Hund rennt schnell."]}, {"1": "ein hund rennt schnell."}
    assert translation_scores(*texts)["bleu"].value < 0.6
    assert translation_scores(*texts, lowercase=True)["bleu"].value == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world!", "Hello , world !"),
        ("3.5 of 1,000 (about 10-12%).", "3.5 of 1,000 ( about 10 - 12 % ) ."),
        ("it's a semi-circle", "it's a semi-circle"),
        ("&quot;A&amp;B&quot; &lt;x&gt;", '" A & B " < x >'),
        ("a-\nb\nc <skipped>", "ab c"),
        ("", ""),
    ],
)
def test_words_are_those_of_mteval(text, expected):
    assert " ".join(words_13a(text)) == expected


@pytest.mark.parametrize(
    ("references", "translations", "said"),
    [
        ({"1": ["a"]}, {}, "translations: 1 of 1 sentences have none: '1'"),
        ({"1": []}, {"1": "a"}, "references, id '1': found \\[\\]"),
        ({"1": ["a", " "]}, {"1": "a"}, "references, id '1', number 1: found ' '"),
        ({"1": ["a"]}, {"1": 5}, "translations, id '1': found 5, expected a text"),
    ],
)
def test_errors_name_the_id(references, translations, said):
    with pytest.raises(DataError, match=said):
        translation_scores(references, translations)
