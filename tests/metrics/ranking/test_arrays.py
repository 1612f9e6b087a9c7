"""Measures from a search's arrays: those of the dictionaries, whatever the order of hits, ties, gaps and blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.errors import DataError, UsageError
from quincunx.metrics.ranking import TIES, Judged, arrays, id_order, score, score_arrays

NAMES = [
    "num_q", "num_ret", "num_rel", "num_rel_ret", "map", "map_cut_3", "map_at_R", "Rprec", "recip_rank",
    "recip_rank_cut_2", "first_rank", "P_1", "P_5", "recall_3", "success_2", "ndcg", "ndcg_cut_3", "set_P", "set_F",
]  # fmt: skip
IDS = ["9", "10", "007", "a", "é", "中", "😀", "B"]


def judged_of(rows: list[dict[int, int]]) -> Judged:
    """Return judgements, one {document: grade} a query, as arrays."""
    return Judged(
        np.cumsum([0, *map(len, rows)]),
        np.array([document for row in rows for document in row], np.int64),
        np.array([grade for row in rows for grade in row.values()], np.int32),
    )


@st.composite
def searches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[dict[int, int]]]:
    """Draw found [Q, K], scores [Q, K] and judgements, all over few documents and few different scores."""
    queries, width = draw(st.integers(1, 4)), draw(st.integers(0, len(IDS)))
    found = np.full((queries, width), -1)
    for row in found:
        row[:] = draw(st.permutations(range(len(IDS))))[:width]
        row[draw(st.lists(st.booleans(), min_size=width, max_size=width))] = -1
    values = st.sampled_from([0.0, -0.0, 0.5, 1.0, -1e30, np.float32(0.1)])
    scores = [[draw(values) for _ in range(width)] for _ in range(queries)]
    grades = st.dictionaries(st.integers(0, len(IDS) - 1), st.integers(-1, 3))
    return found, np.array(scores, np.float32).reshape(queries, width), [draw(grades) for _ in range(queries)]


def as_dictionaries(found, scores, rows):
    qrels = {str(q): {IDS[d]: grade for d, grade in row.items()} for q, row in enumerate(rows)}
    run = {
        str(q): {IDS[d]: float(s) for d, s in zip(found[q], scores[q], strict=True) if d >= 0}
        for q in range(len(found))
    }
    return qrels, run


@settings(max_examples=200, deadline=None)
@given(searches(), st.sampled_from(sorted(TIES)), st.booleans())
def test_arrays_and_dictionaries_agree_in_every_digit(search, ties, intersection):
    found, scores, rows = search
    qrels, run = as_dictionaries(found, scores, rows)
    options = {"order": id_order(IDS), "ties": ties, "intersection": intersection}
    try:
        expected = score(qrels, run, NAMES, ties, intersection)
    except DataError as error:
        with pytest.raises(DataError, match=str(error).split(":", maxsplit=1)[0]):
            score_arrays(found, scores, judged_of(rows), NAMES, **options)
        return
    got = score_arrays(found, scores, judged_of(rows), NAMES, **options)
    assert got.names == expected.names
    np.testing.assert_array_equal(got.values, expected.values)
    np.testing.assert_equal(got.mean, expected.mean)


@pytest.mark.parametrize("ties", sorted(TIES))
def test_blocks_and_the_sieve_change_nothing(monkeypatch, ties):
    generator = np.random.default_rng(3)
    documents, width, queries = 3 * 2**20, 40, 30
    # documents that fall on one another in the sieve, too
    few = np.arange(60)
    pool = np.unique(np.concatenate([generator.choice(documents, 100), few, few + 2**20, few + 2**21]))
    found = np.stack([generator.permutation(pool)[:width] for _ in range(queries)])
    scores = generator.integers(0, 12, found.shape).astype(np.float32)
    rows = [
        dict(zip(generator.permutation(pool)[:50].tolist(), generator.integers(-1, 4, 50).tolist(), strict=True))
        for _ in range(queries)
    ]
    order = generator.permutation(documents)
    whole = score_arrays(found, scores, judged_of(rows), NAMES, order=order, ties=ties)
    ids = {int(d): f"{order[d]:09d}" for d in pool}
    qrels = {f"{q:02d}": {ids[d]: grade for d, grade in row.items()} for q, row in enumerate(rows)}
    run = {f"{q:02d}": {ids[d]: s for d, s in zip(found[q].tolist(), scores[q], strict=True)} for q in range(queries)}
    np.testing.assert_array_equal(whole.values, score(qrels, run, NAMES, ties).values)
    assert 0 < whole.mean["map"] < 1
    for block in (1, 7 * width, 10**9):
        monkeypatch.setattr(arrays, "BLOCK", block)
        cut = score_arrays(found, scores, judged_of(rows), NAMES, order=order, ties=ties)
        np.testing.assert_array_equal(cut.values, whole.values)


@pytest.mark.parametrize("sieve", [arrays.SIEVE, 4])
def test_nothing_found_is_not_the_last_document(monkeypatch, sieve):
    # a search of a small collection pads with -1, which as an index would be the last document
    monkeypatch.setattr(arrays, "SIEVE", sieve)
    rows = [{3: 1}, {0: 1, 3: 1}]
    found = np.array([[1, -1, -1], [-1, 0, -1]])
    scores = np.array([[0.9, 5.0, np.nan], [-np.inf, 0.2, 3.0]], np.float32)
    got = score_arrays(found, scores, judged_of(rows), "num_ret,map,recip_rank", order=np.arange(4))
    assert got.of("num_ret").tolist() == [1, 1]
    assert got.of("map").tolist() == [0, 0.5]


def test_a_search_for_more_than_there_is():
    judged = judged_of([{1: 1, 0: 1, 5: 1}])
    got = score_arrays([[0, 1]], [[2.0, 1.0]], judged, "recall_100,P_100", ties="expected")
    assert got.of("recall_100").tolist() == [2 / 3] and got.of("P_100").tolist() == [0.02]


def test_a_query_whose_search_found_nothing():
    rows = [{0: 1}, {0: 1}, {}]
    found = np.array([[0], [-1], [0]])
    arguments = (found, np.ones((3, 1)), judged_of(rows), "map,num_q")
    assert score_arrays(*arguments, order=[0]).mean == {"map": 0.5, "num_q": 2}
    both = score_arrays(*arguments, order=[0], intersection=True, names=["x", "y", "z"])
    assert (both.names, both.mean) == (["x"], {"map": 1.0, "num_q": 1})
    empty = np.zeros((3, 0), np.int64)
    assert score_arrays(empty, empty, judged_of(rows), "map,num_ret", order=[0]).mean == {"map": 0.0, "num_ret": 0}
    nothing = Judged(np.zeros(4, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))
    with pytest.raises(DataError, match="no query is judged"):
        score_arrays(found, np.ones((3, 1)), nothing, "map", order=[0])


def test_order_of_ids_is_that_of_their_bytes():
    ids = ["b", "é", "a", "B", "10", "9", "\uffee", "😀"]
    expected = sorted(range(len(ids)), key=lambda number: ids[number].encode("utf-8"))
    assert np.argsort(id_order(ids)).tolist() == expected


GOOD = judged_of([{0: 1}])


@pytest.mark.parametrize(
    ("error", "said", "changes"),
    [
        (UsageError, r"found is float64\[1, 2\]", {"found": [[0.0, 1.0]]}),
        (UsageError, r"scores float64\[1, 1\]", {"scores": [[1.0]]}),
        (UsageError, "give order=id_order", {"order": None}),
        (UsageError, r"order has shape \[1\], but there is a document 1", {"order": [0]}),
        (UsageError, "places below 0 or beyond 32 bits", {"order": [0, -1]}),
        (UsageError, "places below 0 or beyond 32 bits", {"order": [0, 2**32]}),
        (UsageError, "judgements of 2 queries for the hits of 1", {"relevant": judged_of([{0: 1}, {0: 1}])}),
        (UsageError, "2 query ids for the hits of 1 queries", {"names": ["a", "b"]}),
        (UsageError, "unknown measure", {"measures": "mrr"}),
        (UsageError, "four ways", {"ties": "random"}),
        (DataError, "score of query 0, hit 1, is nan", {"scores": [[1.0, np.nan]]}),
        (DataError, "score of query 0, hit 0, is inf", {"scores": [[1e300, 1.0]]}),
        (DataError, "query 0 has found document 1 twice", {"found": [[1, 1]]}),
        (DataError, "document 1 is judged twice for query 0",
         {"relevant": Judged(np.array([0, 2]), np.array([1, 1]), np.array([1, 0]))}),
        (DataError, "offsets run from 0 to 2", {"relevant": Judged(np.array([0, 2]), np.array([1]), np.array([1]))}),
        (DataError, "offsets run from 1 to 2",
         {"relevant": Judged(np.array([1, 2]), np.array([1, 0]), np.array([1, 1]))}),
        (DataError, "a judged document has the number -1",
         {"relevant": Judged(np.array([0, 1]), np.array([-1]), np.array([1]))}),
        (DataError, "grades are whole numbers", {"relevant": Judged(np.array([0, 1]), np.array([1]), np.array([0.5]))}),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(error, said, changes):
    good = {"found": [[0, 1]], "scores": [[2.0, 1.0]], "relevant": GOOD, "measures": "map", "order": [0, 1]}
    assert score_arrays(**good).mean == {"map": 1.0}
    with pytest.raises(error, match=said):
        score_arrays(**good | changes)
