"""Draws from rows of different lengths: what is drawn is addressed, and every choice is alike probable."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.recipes.retrieval.data.ragged import Ragged, joined, offsets_of

ROWS = st.lists(st.lists(st.integers(0, 99), max_size=7), min_size=1, max_size=6)


def ragged(rows: list[list[int]], scores: bool = False) -> Ragged:
    flat = [value for row in rows for value in row]
    values = np.array(flat, np.int64)
    return Ragged(offsets_of(np.array([len(row) for row in rows])), values, values / np.float32(2) if scores else None)


@given(ROWS, st.data())
def test_everything_of_some_rows(rows, data):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    made = ragged(rows, scores=True)
    owners, places = made.all(np.array(chosen, np.int64))
    wanted = [(i, value) for i, row in enumerate(chosen) for value in rows[row]]
    assert list(zip(owners.tolist(), made.values[places].tolist(), strict=True)) == wanted
    picked = made.pick(np.array(chosen, np.int64))
    assert [picked.row(i).tolist() for i in range(len(chosen))] == [rows[row] for row in chosen]
    assert picked.scores is not None
    assert picked.scores.tolist() == [value / 2 for _, value in wanted]


@given(
    ROWS, st.one_of(st.none(), st.integers(0, 9)), st.sampled_from(["first", "random", "window"]), st.integers(0, 50)
)
def test_a_draw_takes_each_place_once_in_order_and_as_many_as_there_are(rows, count, how, seed):
    made = ragged(rows)
    chosen = np.arange(len(rows))
    owners, places = made.draw(chosen, count, how, seed)
    assert (np.diff(places) > 0).all(), "places ascend within a row and from row to row"
    for row, values in enumerate(rows):
        own = places[owners == row] - made.offsets[row]
        assert len(own) == (len(values) if count is None else min(count, len(values)))
        assert ((own >= 0) & (own < len(values))).all()
        if how == "first":
            assert own.tolist() == list(range(len(own)))
        if how == "window" and len(own):
            assert own.tolist() == list(range(own[0], own[0] + len(own)))


@pytest.mark.parametrize(("length", "count"), [(5, 2), (4, 3), (6, 1)])
def test_every_subset_is_alike_probable(length, count):
    """Chi-squared far below what a bias of a few percent would give."""
    made = ragged([list(range(length))] * 6000)
    owners, places = made.draw(np.arange(6000), count, "random", 3)
    subsets = (places - made.offsets[owners]).reshape(6000, count)
    found = Counter(map(tuple, subsets.tolist()))
    kinds = list(combinations(range(length), count))
    expected = 6000 / len(kinds)
    assert set(found) == set(kinds)
    assert sum((found[kind] - expected) ** 2 / expected for kind in kinds) < 4 * len(kinds)


def test_windows_begin_everywhere():
    made = ragged([list(range(5))] * 400)
    owners, places = made.draw(np.arange(400), 3, "window", 3)
    begins = (places - made.offsets[owners]).reshape(400, 3)[:, 0]
    assert Counter(begins.tolist()).keys() == {0, 1, 2}
    assert min(Counter(begins.tolist()).values()) > 80


@pytest.mark.parametrize("how", ["random", "window"])
def test_a_draw_belongs_to_seed_and_row_alone(how):
    made = ragged([list(range(9))] * 20)
    whole = made.draw(np.arange(20), 3, how, 5)[1].reshape(20, 3)
    some = made.draw(np.array([7, 3]), 3, how, 5)[1].reshape(2, 3)
    assert some.tolist() == [whole[7].tolist(), whole[3].tolist()]
    assert made.draw(np.arange(20), 3, how, 6)[1].tolist() != whole.flatten().tolist()


def test_joined_rows_are_numbered_through_and_lack_no_score():
    both = joined([ragged([[1], [2, 3]], scores=True), ragged([[0, 4]])], [0, 100])
    assert [both.row(i).tolist() for i in range(3)] == [[1], [2, 3], [100, 104]]
    assert both.scores is not None
    assert np.array_equal(both.scores, np.array([0.5, 1, 1.5, np.nan, np.nan], np.float32), equal_nan=True)
    assert joined([ragged([[1]]), ragged([[2]])], [0, 0]).scores is None
