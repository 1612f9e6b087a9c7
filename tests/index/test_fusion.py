"""Fused rankings against sums written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.errors import UsageError
from quincunx.index.exact import NOTHING, Found
from quincunx.index.fusion import reciprocal_rank, weighted


def found(*rows: list[tuple[int, float]]) -> Found:
    """A ranking of (document, score) rows, filled up as a search fills them."""
    width = max(len(row) for row in rows)
    documents = np.full((len(rows), width), NOTHING, np.int64)
    scores = np.full((len(rows), width), -np.inf, np.float32)
    for at, row in enumerate(rows):
        for place, (document, score) in enumerate(row):
            documents[at, place], scores[at, place] = document, score
    return Found(documents, scores)


def listed(ranking: Found) -> list[list[tuple[int, float]]]:
    return [
        [(int(d), float(s)) for d, s in zip(documents, scores, strict=True) if d != NOTHING]
        for documents, scores in zip(ranking.documents, ranking.scores, strict=True)
    ]


DENSE = found([(7, 0.9), (2, 0.5), (4, 0.1)], [(1, 0.3)])
WORDS = found([(2, 12.0), (9, 6.0)], [])


def test_reciprocal_ranks_by_hand():
    (first, second) = listed(reciprocal_rank([DENSE, WORDS], 3))
    assert first == [
        (2, pytest.approx(1 / 62 + 1 / 61)),
        (7, pytest.approx(1 / 61)),
        (9, pytest.approx(1 / 62)),
    ]
    assert second == [(1, pytest.approx(1 / 61))]
    (first, _) = listed(reciprocal_rank([DENSE, WORDS], 9, constant=0, weights=[3, 1]))
    assert first == [(7, 3.0), (2, 2.5), (4, 1.0), (9, 0.5)]


@pytest.mark.parametrize(
    ("normalisation", "wanted"),
    [
        # dense 1, 0.5, 0; words 1, 0; what is absent gets 0
        ("min-max", [(2, 2 * 0.5 + 1.0), (7, 2 * 1.0), (4, 0.0), (9, 0.0)]),
        # dense 1.2247, 0, -1.2247; words 1, -1; what is absent gets what the last one has
        ("z-score", [(7, 2 * 1.2247449 - 1), (2, 1.0), (4, -2 * 1.2247449 - 1), (9, -2 * 1.2247449 - 1)]),
        ("none", [(2, 2 * 0.5 + 12.0), (7, 2 * 0.9 + 6.0), (4, 2 * 0.1 + 6.0), (9, 2 * 0.1 + 6.0)]),
    ],
)
def test_weighted_scores_by_hand(normalisation, wanted):
    (first, second) = listed(weighted([DENSE, WORDS], 4, weights=[2, 1], normalisation=normalisation))
    assert [document for document, _ in first] == [document for document, _ in wanted]
    assert [score for _, score in first] == pytest.approx([score for _, score in wanted], rel=1e-6)
    assert [document for document, _ in second] == [1]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 8), st.integers(1, 6), st.integers(0, 99))
def test_one_ranking_alone_keeps_its_order_and_equals_stand_in_the_order_of_documents(queries, results, k, seed):
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(queries):
        documents = sorted(generator.choice(20, results, replace=False).tolist())
        scores = generator.integers(0, 3, results).tolist()
        rows.append(sorted(zip(documents, map(float, scores), strict=True), key=lambda pair: (-pair[1], pair[0])))
    one = found(*rows)
    for fused in (weighted([one], k, normalisation="none"), weighted([one], k), reciprocal_rank([one], k)):
        assert [[d for d, _ in row] for row in listed(fused)] == [[d for d, _ in row[:k]] for row in rows]
    twice = weighted([one, one], k, normalisation="none")
    assert (twice.documents == weighted([one], k, normalisation="none").documents).all()


def test_equal_sums_stand_in_the_order_of_the_documents():
    one, other = found([(5, 1.0), (3, 0.5)]), found([(3, 1.0), (5, 0.5)])
    assert listed(reciprocal_rank([one, other], 2))[0][0][0] == 3


def test_nothing_found_anywhere_is_nothing():
    nothing = Found(np.full((2, 3), NOTHING, np.int64), np.full((2, 3), -np.inf, np.float32))
    for fused in (weighted([nothing, nothing], 2), reciprocal_rank([nothing, nothing], 2)):
        assert (fused.documents == NOTHING).all() and np.isneginf(fused.scores).all()


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"weights": [1]}, "1 weights for 2 rankings"),
        ({"weights": [1, -1]}, "expected 0 or more"),
        ({"weights": [0, 0]}, "one of them above 0"),
        ({"weights": [1, float("nan")]}, "expected 0 or more"),
        ({"normalisation": "softmax"}, "there are: min-max, z-score, none"),
    ],
)
def test_options_without_meaning_are_refused(options, answer):
    with pytest.raises(UsageError, match=answer):
        weighted([DENSE, WORDS], 2, **options)


def test_other_refusals():
    with pytest.raises(UsageError, match="constant"):
        reciprocal_rank([DENSE], 2, constant=-1)
    with pytest.raises(ValueError, match="at least one"):
        reciprocal_rank([DENSE], 0)
    with pytest.raises(ValueError, match=r"\[2, 1\] queries"):
        weighted([DENSE, found([(1, 1.0)])], 2)
