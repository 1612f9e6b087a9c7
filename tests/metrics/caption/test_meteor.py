"""METEOR-lite: fewest chunks of all alignments, figures by hand; Porter's stems by his own examples."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.metrics.caption.meteor import align, meteor_lite, one
from quincunx.metrics.caption.stem import stem
from reference.caption import fewest_chunks

TEXTS = st.lists(st.sampled_from(["runs", "running", "run", "cat", "a", "the"]), max_size=6)


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS)
def test_the_alignment_is_the_best_of_all(caption, reference):
    assert align(caption, reference) == fewest_chunks(caption, reference, stem)


def test_figures_by_hand():
    # 3 of 4 words in 1 chunk, 3 of 3 of the reference: F = P R / (0.9 P + 0.1 R)
    score = 0.75 / (0.9 * 0.75 + 0.1)
    assert one(["the", "cat", "sat", "there"], ["the", "cat", "sat"]) == pytest.approx(score * (1 - 0.5 / 27))
    assert one(["cats", "sitting"], ["cat", "sits"]) == pytest.approx(1 - 0.5 / 8)
    assert one(["b", "a"], ["a", "b"]) == pytest.approx(1 - 0.5)
    assert one([], ["a"]) == one(["b"], ["a"]) == 0


def test_the_best_reference_counts():
    found = meteor_lite({"1": [["dog"], ["a", "cat"]], "2": [["x"]]}, {"1": ["a", "cat"], "2": ["y"]})
    assert found.by_name == pytest.approx({"1": 1 - 0.5 / 8, "2": 0})
    assert found.value == pytest.approx((1 - 0.5 / 8) / 2)


def test_words_themselves_are_matched_before_stems():
    # "run" is matched with "run", though "runs" in its place would make one chunk
    assert align(["the", "run"], ["the", "runs", "by", "run"]) == (2, 2)


def test_many_repetitions_end():
    matches, chunks = align(["the", "a"] * 30, ["a", "the", "the"] * 20)
    assert matches == 50 and 10 <= chunks <= 50


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("caresses", "caress"),
        ("ponies", "poni"),
        ("caress", "caress"),
        ("cats", "cat"),
        ("feed", "feed"),
        ("agreed", "agre"),
        ("plastered", "plaster"),
        ("bled", "bled"),
        ("motoring", "motor"),
        ("sing", "sing"),
        ("conflated", "conflat"),
        ("troubled", "troubl"),
        ("sized", "size"),
        ("hopping", "hop"),
        ("falling", "fall"),
        ("hissing", "hiss"),
        ("fizzed", "fizz"),
        ("failing", "fail"),
        ("filing", "file"),
        ("happy", "happi"),
        ("sky", "sky"),
        ("relational", "relat"),
        ("conditional", "condit"),
        ("rational", "ration"),
        ("digitizer", "digit"),
        ("vietnamization", "vietnam"),
        ("hopefulness", "hope"),
        ("sensibiliti", "sensibl"),
        ("triplicate", "triplic"),
        ("electrical", "electr"),
        ("goodness", "good"),
        ("allowance", "allow"),
        ("replacement", "replac"),
        ("adoption", "adopt"),
        ("effective", "effect"),
        ("probate", "probat"),
        ("rate", "rate"),
        ("cease", "ceas"),
        ("controll", "control"),
        ("roll", "roll"),
        ("as", "as"),
        ("is", "is"),
        ("generalizations", "gener"),
        ("oscillators", "oscil"),
    ],
)
def test_stems_of_porters_paper(word, expected):
    assert stem(word) == expected
