"""Rules of mining against the same rules one candidate at a time, and the laws of its draws."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.errors import UsageError
from quincunx.index.exact import NOTHING
from quincunx.index.mined import ABSENT, CAUSES, FREE, Candidates, Histogram, Rules, above, causes, choose, copies
from quincunx.seeds import address
from reference import mining as reference

ROOMY = (1, 40)


def drawn(queries: int, width: int, seed: int) -> tuple[Candidates, dict[str, np.ndarray]]:
    """Candidates with few different scores and texts, so that ties and copies are common."""
    draw = np.random.default_rng(seed)
    documents = draw.permuted(np.tile(np.arange(50), (queries, 1)), axis=1)[:, :width]
    for row in documents:  # some queries have fewer candidates
        row[draw.integers(0, width + 1) :] = NOTHING
    contents = draw.integers(0, 2**64, 20, dtype=np.uint64)[documents % 20]
    flags = [draw.random(documents.shape) < share for share in (0.2, 0.1)]
    more = {
        "scores": draw.integers(-4, 5, documents.shape).astype(np.float32) / 4,
        "lowest": draw.integers(-4, 5, queries).astype(np.float32) / 4,
        "votes": draw.integers(0, 4, documents.shape),
        "hardness": draw.integers(0, 4, documents.shape).astype(np.float32),
        "queries": draw.integers(0, 2**64, queries, dtype=np.uint64),
    }
    return Candidates(documents, contents, *flags), more


numbers = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5]))


@st.composite
def some_rules(draw: st.DrawFn) -> Rules:
    agree = draw(st.one_of(st.none(), st.integers(1, 3)))
    return Rules(
        ranks=ROOMY,
        num=draw(st.integers(1, 6)),
        sampling=draw(st.sampled_from(["top", "random", "weighted"])),
        seed=draw(st.integers(0, 3)),
        margin=draw(numbers),
        relative_margin=draw(numbers),
        max_score=draw(st.one_of(st.none(), st.just(0.75))),
        min_score=draw(st.one_of(st.none(), st.just(-0.5))),
        agree=agree,
        keep_suspects=agree is not None and draw(st.booleans()),
    )


def one_by_one(candidates: Candidates, more: dict[str, np.ndarray], rules: Rules) -> tuple[list[Any], list[list[int]]]:
    found, taken = [], []
    for query, row in enumerate(candidates.documents.tolist()):
        each = [
            {
                "known": bool(candidates.known[query, column]),
                "empty": bool(candidates.empty[query, column]),
                "content": int(candidates.contents[query, column]),
                "votes": int(more["votes"][query, column]),
                "score": float(more["scores"][query, column]),
            }
            for column, document in enumerate(row)
            if document != NOTHING
        ]
        lowest = float(more["lowest"][query])
        why = [reference.cause(one, each[:place], lowest, rules) for place, one in enumerate(each)]
        free = [
            (column, float(more["hardness"][query, column]), each[column]["content"])
            for column, cause in enumerate(why)
            if cause is None
        ]
        seed = address(rules.seed, "negatives")
        found.append(why)
        taken.append(reference.chosen(int(more["queries"][query]), free, rules.num, rules.sampling, seed))
    return found, taken


def whole(candidates: Candidates, more: dict[str, np.ndarray], rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    found = causes(candidates, rules, more["scores"], more["lowest"], more["votes"])
    return found, choose(found == FREE, more["hardness"], more["queries"], candidates.contents, rules)


@settings(max_examples=150, deadline=None)
@given(some_rules(), st.integers(1, 5), st.integers(1, 12), st.integers(0, 10_000))
def test_rules_are_those_of_one_candidate_at_a_time(rules, queries, width, seed):
    candidates, more = drawn(queries, width, seed)
    found, taken = whole(candidates, more, rules)
    why, wanted = one_by_one(candidates, more, rules)
    words = [*CAUSES, None]
    assert [[words[one] for one in row if one != ABSENT] for row in found] == why
    assert [[int(place) for place in row if place != NOTHING] for row in taken] == wanted
    assert taken.shape == (queries, rules.num)


@settings(max_examples=40, deadline=None)
@given(some_rules(), st.integers(2, 9), st.integers(0, 1000), st.integers(1, 8))
def test_a_query_fares_alike_whatever_is_asked_with_it(rules, queries, seed, cut):
    candidates, more = drawn(queries, 8, seed)
    cut = min(cut, queries - 1)
    parts = []
    for rows in (slice(None, cut), slice(cut, None)):
        some = Candidates(*(getattr(candidates, name)[rows] for name in ("documents", "contents", "known", "empty")))
        parts.append(whole(some, {name: value[rows] for name, value in more.items()}, rules))
    for whole_one, *pieces in zip(whole(candidates, more, rules), *parts, strict=True):
        assert (whole_one == np.concatenate(pieces)).all()


def test_what_scores_nothing_finite_passes_no_limit():
    documents = np.array([[0, 1]])
    clear = np.zeros((1, 2), np.bool_)
    candidates = Candidates(documents, documents.astype(np.uint64), clear, clear)
    scores = np.array([[np.nan, 0.1]], np.float32)
    for name, value in (("margin", 0.1), ("relative_margin", 0.1), ("max_score", 0.5), ("min_score", 0.0)):
        rules = Rules(**{name: value})
        found = causes(candidates, rules, scores, np.array([0.9], np.float32))
        assert found.tolist() == [[CAUSES.index(name), FREE]]


def test_a_relative_margin_is_below_the_positive_where_scores_are_negative():
    documents = np.array([[0, 1, 2]])
    clear = np.zeros((1, 3), np.bool_)
    candidates = Candidates(documents, documents.astype(np.uint64), clear, clear)
    scores = np.array([[-3.5, -4.3, -5.0]], np.float32)
    found = causes(candidates, Rules(relative_margin=0.1), scores, np.array([-4.0], np.float32))
    # of -4 a tenth less is -4.4: (1 - 0.1) * -4 = -3.6 would let -4.3 pass, which is within the margin
    assert [CAUSES[one] if one < FREE else None for one in found[0]] == ["relative_margin", "relative_margin", None]


def test_equal_scores_are_not_above():
    assert above(np.array([[1.0, 2.0]], np.float32), np.array([1.0], np.float32)).tolist() == [[False, True]]


def test_the_first_of_equal_texts_is_no_copy():
    documents = np.array([[4, 5, 6, NOTHING]])
    assert copies(documents, np.array([[7, 7, 7, 7]], np.uint64)).tolist() == [[False, True, True, False]]


@pytest.mark.parametrize(("sampling", "shares"), [("random", [1, 1, 1, 1]), ("weighted", [12, 6, 4, 3])])
def test_a_draw_has_the_probabilities_it_says(sampling, shares):
    queries, rules = 20_000, Rules(num=1, sampling=sampling, seed=5)
    contents = np.broadcast_to(np.arange(4, dtype=np.uint64), (queries, 4))
    hardness = np.broadcast_to(np.array([1, 0, 3, 2], np.float32), (queries, 4))
    found = choose(np.ones((queries, 4), np.bool_), hardness, np.arange(queries, dtype=np.uint64), contents, rules)
    counts = Counter(found[:, 0].tolist())
    by_hardness = [counts[column] / queries for column in (2, 3, 0, 1)]
    assert by_hardness == pytest.approx([share / sum(shares) for share in shares], abs=0.015)


def test_another_seed_draws_others_and_documents_keep_their_numbers_wherever_they_stand():
    draw = np.random.default_rng(0)
    free, contents = np.ones((50, 30), np.bool_), draw.integers(0, 2**60, (50, 30)).astype(np.uint64)
    queries, flat = np.arange(50, dtype=np.uint64), np.zeros((50, 30), np.float32)

    def texts(seed: int, order: np.ndarray) -> list[set[int]]:
        found = choose(free, flat, queries, contents[:, order], Rules(sampling="random", seed=seed))
        return [set(row) for row in np.take_along_axis(contents[:, order], found, 1).tolist()]

    straight, shuffled = np.arange(30), draw.permutation(30)
    assert texts(1, straight) == texts(1, shuffled)
    assert texts(1, straight) != texts(2, straight)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60), st.integers(1, 59), st.integers(0, 99))
def test_a_histogram_counts_everything_and_does_not_care_in_which_order(values, cut, seed):
    array = np.array(values)
    one, other = Histogram(), Histogram()
    one.add(array)
    shuffled = np.random.default_rng(seed).permutation(array)
    other.add(shuffled[:cut])
    other.add(shuffled[cut:])
    assert one.bars() == other.bars() and one.bars(7) == other.bars(7)
    edges, counts = one.bars(7)
    assert len(counts) <= 7 and sum(counts) == len(values)
    assert counts == [int(((array >= low) & (array < high)).sum()) for low, high in pairwise(edges)]
    width = max(one.bars(512)[0][1] - one.bars(512)[0][0], 1e-12)
    assert one.below(0.5) == pytest.approx(np.quantile(array, 0.5, method="inverted_cdf"), abs=width)


def test_a_histogram_passes_over_what_is_not_finite_and_takes_any_size():
    found = Histogram()
    found.add(np.array([np.inf, -np.inf, np.nan]))
    assert len(found) == 0 and found.bars() == ([], [])
    found.add(np.array([1e30, 1e30, -3e38]))
    assert sum(found.bars()[1]) == len(found) == 3


@pytest.mark.parametrize(
    ("given_rules", "answer"),
    [
        ({"ranks": (30, 10)}, "ranks 30:10 are out of order"),
        ({"ranks": (0, 10)}, "from 1 on"),
        ({"num": 0}, "0 negatives a query"),
        ({"ranks": (11, 13), "num": 4}, "4 negatives cannot be taken of the 3 candidates"),
        ({"sampling": "hard"}, "there are: top, random, weighted"),
        ({"seed": -1}, "the seed is -1"),
        ({"margin": float("nan")}, "expected a finite number"),
        ({"margin": -0.1}, "margin is -0.1"),
        ({"relative_margin": 1.0}, "from 0 to below 1"),
        ({"relative_margin": -0.1}, "from 0 to below 1"),
        ({"max_score": 0.1, "min_score": 0.2}, "no score is left"),
        ({"agree": 0}, "expected 1 or more rankings"),
        ({"keep_suspects": True}, "no effect without agree"),
    ],
)
def test_rules_without_meaning_are_refused(given_rules, answer):
    with pytest.raises(UsageError, match=answer):
        Rules(**given_rules)


def test_a_rule_that_looks_at_scores_needs_some():
    nothing = np.zeros((1, 1), np.bool_)
    candidates = Candidates(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.uint64), nothing, nothing)
    with pytest.raises(ValueError, match="margin compare scores"):
        causes(candidates, Rules(margin=0.1))
    with pytest.raises(ValueError, match="no votes"):
        causes(candidates, Rules(agree=1))
