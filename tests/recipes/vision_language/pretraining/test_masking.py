"""What is hidden of a text can be put back, and is as much as was asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.recipes.vision_language.pretraining.masking import (
    MOST_SPANS,
    hide_by_markers,
    hide_by_mask,
    picks,
    spans,
)

Restored = Callable[[str, str], str]
WORD = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=5).filter(
    lambda word: "extra_id" not in word
)


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def hidden_slowly(words: Sequence[str], hidden: Sequence[int], mask: str | None) -> str:
    """Return the text with a mask (None: a numbered marker) in the place of each run of hidden words, word by word."""
    found: list[str] = []
    runs = 0
    for number, word in enumerate(words):
        if number not in hidden:
            found.append(word)
        elif number - 1 not in hidden:
            found.append(mask or f"<extra_id_{runs}>")
            runs += 1
    return " ".join(found)


@given(st.lists(WORD, min_size=1, max_size=40), st.floats(0.01, 0.99), st.integers(0, 999))
@settings(max_examples=150, deadline=None)
def test_a_text_comes_back_whole(restored: Restored, words: list[str], rate: float, seed: int) -> None:
    hidden = picks(len(words), rate, generator(seed))
    source, target = hide_by_markers(words, spans(hidden))
    assert source == hidden_slowly(words, hidden, None)
    assert restored(source, target) == " ".join(words)
    masked, whole = hide_by_mask(words, spans(hidden), "<mask>")
    assert (masked, whole) == (hidden_slowly(words, hidden, "<mask>"), " ".join(words))


@pytest.mark.parametrize(
    ("count", "rate", "number"), [(1, 0.15, 1), (6, 0.15, 1), (7, 0.29, 2), (100, 0.29, 29), (20, 0.15, 3)]
)
def test_so_many_are_hidden(count: int, rate: float, number: int) -> None:
    found = picks(count, rate, generator(1))
    assert len({*found}) == len(found) == number
    assert found == sorted(found)
    assert {*found} <= {*range(count)}


def test_each_is_hidden_as_often() -> None:
    times = np.zeros(6)
    for seed in range(3000):
        times[picks(6, 0.4, generator(seed))] += 1
    assert np.abs(times / 3000 - 1 / 3).max() < 0.04


def test_neighbours_are_one_span() -> None:
    assert spans([0, 1, 3, 6, 7, 8]) == [(0, 2), (3, 4), (6, 9)]
    words = ["a", "red", "cube", "left", "of", "a", "ball"]
    assert hide_by_markers(words, spans([1, 2, 5])) == (
        "a <extra_id_0> left of <extra_id_1> ball",
        "<extra_id_0> red cube <extra_id_1> a <extra_id_2>",
    )
    assert hide_by_mask(words, spans([1, 2, 5]), "[M]")[0] == "a [M] left of [M] ball"


def test_there_are_only_a_hundred_markers(restored: Restored) -> None:
    words = [f"w{number}" for number in range(400)]
    found = spans(range(0, 400, 2))
    assert len(found) == MOST_SPANS
    source, target = hide_by_markers(words, found)
    assert target.endswith("<extra_id_99>")
    assert restored(source, target) == " ".join(words)
