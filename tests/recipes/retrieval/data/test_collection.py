from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.recipes.retrieval.data.collection import Collection, Relations, first_of_each
from quincunx.recipes.retrieval.data.texts import Texts

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(-1, 3)))


def build(rows: list[tuple[int, int, int]], queries: int = 5) -> Relations:
    pairs = np.array([row[:2] for row in rows], np.int64).reshape(-1, 2)
    grades = np.array([row[2] for row in rows], np.int32)
    return Relations.build(pairs, queries, grades=grades, scores=grades.astype(np.float32) / 2)


def plain(rows: list[tuple[int, int, int]]) -> dict[int, dict[int, int]]:
    """Query -> document -> grade, the first of each pair counting."""
    found: dict[int, dict[int, int]] = {query: {} for query in range(5)}
    for query, document, grade in rows:
        found[query].setdefault(document, grade)
    return found


def listed(relations: Relations) -> dict[int, list[tuple[int, int]]]:
    spans = {query: relations.span(query) for query in range(len(relations.offsets) - 1)}
    return {
        query: list(zip(relations.documents[span].tolist(), relations.grades[span].tolist(), strict=True))
        for query, span in spans.items()
    }


@given(PAIRS)
def test_relations_are_by_query_in_the_order_given(rows):
    relations, expected = build(rows), plain(rows)
    assert listed(relations) == {query: list(of.items()) for query, of in expected.items()}
    assert relations.scores.tolist() == [grade / 2 for grade in relations.grades]
    assert relations.counts.tolist() == [len(of) for of in expected.values()]
    assert [tuple(pair) for pair in relations.pairs.tolist()] == [(q, d) for q, of in expected.items() for d in of]


@given(PAIRS)
def test_only_grades_above_zero_are_positive(rows):
    positive = build(rows).positive
    expected = {query: [(d, g) for d, g in of.items() if g > 0] for query, of in plain(rows).items()}
    assert listed(positive) == expected
    assert positive.scores.tolist() == [grade / 2 for grade in positive.grades]


@given(PAIRS)
def test_the_other_way_round_holds_the_same_pairs(rows):
    relations = build(rows)
    turned = relations.by_document(7)
    assert sorted(turned.pairs[:, ::-1].tolist()) == sorted(relations.pairs.tolist())
    for document in range(7):
        assert turned.of(document).tolist() == [q for q, of in plain(rows).items() if document in of]


@given(PAIRS, st.lists(st.integers(0, 4), unique=True))
def test_picked_queries_are_numbered_anew(rows, chosen):
    picked = build(rows).pick(np.array(chosen, np.int64))
    assert listed(picked) == {place: list(plain(rows)[query].items()) for place, query in enumerate(chosen)}


@given(PAIRS, PAIRS)
def test_containing_is_membership(rows, asked):
    pairs = np.array([row[:2] for row in asked], np.int64).reshape(-1, 2)
    known = plain(rows)
    assert build(rows).contain(pairs).tolist() == [document in known[query] for query, document in pairs.tolist()]


def test_pairs_that_cannot_be_are_refused():
    for pairs in ([[5, 0]], [[0, -1]], [[-1, 0]]):
        with pytest.raises(ValueError, match="queries from 0 to 4"):
            Relations.build(np.array(pairs), 5)
    with pytest.raises(ValueError, match="as many grades"):
        Relations.build(np.array([[0, 0]]), 5, grades=np.ones(2, np.int32))
    with pytest.raises(IndexError, match="query 5 of 5"):
        build([]).of(5)
    assert first_of_each(np.array([[1, 2], [0, 2], [1, 2], [1, 0]])).tolist() == [0, 1, 3]


@pytest.fixture
def collection() -> Collection:
    return Collection(
        "small",
        Texts.of(["d0", "d1", "d2"], ["zero", "one", "two"]),
        Texts.of(["q0", "q1", "q2", "q3"], ["a", "b", "c", "d"]),
        Relations.build(np.array([[1, 0], [1, 2], [3, 1]]), 4, grades=np.array([1, 0, 2], np.int32)),
        Relations.build(np.array([[2, 0]]), 4, grades=np.zeros(1, np.int32)),
        "f" * 32,
    )


def test_a_pair_judged_not_relevant_is_no_positive(collection: Collection):
    """Guide 001's package took every line of the qrels for a positive."""
    assert collection.positives.pairs.tolist() == [[1, 0], [3, 1]]
    assert collection.relevant.pairs.tolist() == [[1, 0], [1, 2], [3, 1]]
    assert collection.positive_scores is None


def test_a_limit_takes_queries_that_have_relations_and_leaves_the_documents(collection: Collection):
    first = collection.take(2)
    assert (list(first.queries.ids), len(first.documents)) == (["q1", "q2"], 3)
    assert (first.relevant.pairs.tolist(), first.negatives.pairs.tolist()) == ([[0, 0], [0, 2]], [[1, 0]])
    assert first.fingerprint != collection.fingerprint
    assert "first 2 of 3 queries" in first.notes[0]


def test_a_limit_beyond_the_last_query_takes_all(collection: Collection):
    """Guide 001's package could index past the end."""
    assert collection.take(3) is collection is collection.take(10**9)
