"""Certified search of a poly-encoder against scoring everything, ties and adversaries included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.index.building import Arrays, build, delete
from quincunx.index.certified import Corpus, Directions, Found, exact_scores, search_certified, search_named
from quincunx.index.exact import NOTHING, search
from reference.poly_search import best, score


def corpus_of(vectors: np.ndarray, asked: list[tuple[int, int]] | None = None) -> Corpus:
    """The corpus of vectors with exact search; `asked` gets (directions, depth) of every question."""

    def nearest(directions: np.ndarray, depth: int) -> Found:
        if asked is not None:
            asked.append((len(directions), depth))
        return search(torch.from_numpy(directions), torch.from_numpy(vectors), depth)

    return Corpus.of(vectors, nearest)


def made(seed: int, queries: int, codes: int, documents: int, width: int, levels: int, spread: float):
    """Codes and documents: of few levels, so that many scores tie, or of any numbers."""
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        if levels:
            return generator.integers(-levels, levels + 1, shape).astype(np.float32)
        return generator.standard_normal(shape).astype(np.float32)

    about = draw(queries, 1, width)
    return (about + np.float32(spread) * draw(queries, codes, width)).astype(np.float32), draw(documents, width)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    queries=st.integers(1, 3),
    codes=st.integers(1, 6),
    documents=st.integers(1, 60),
    width=st.integers(1, 6),
    k=st.integers(1, 12),
    levels=st.sampled_from([0, 1, 2]),
    spread=st.sampled_from([0.0, 0.125, 1.0]),
    scale=st.sampled_from([0.0, 0.25, 1.0, 4.0]),
    slack=st.sampled_from([0.0, 0.5, 100.0]),
    most=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_equals_scoring_everything(seed, queries, codes, documents, width, k, levels, spread, scale, slack, most):
    some, vectors = made(seed, queries, codes, documents, width, levels, spread)
    generator = np.random.default_rng(seed + 1)
    mask = generator.random((queries, codes)) < 0.8
    result = search_certified(some, mask, corpus_of(vectors), k, scale=scale, slack=slack, most=most)
    for query in range(queries):
        there = some[query][mask[query]]
        # each document scored by itself; sums that cancel make other zeros in another order of adding
        alone = [exact_scores(there, vectors[d : d + 1], scale)[0] if len(there) else 0.0 for d in range(documents)]
        plain = [score(there, vector, scale) if len(there) else 0.0 for vector in vectors]
        np.testing.assert_allclose(alone, plain, rtol=2e-7, atol=1e-14)
        wanted = np.argsort(-np.array(alone), kind="stable")[:k]
        numbers = result.found.documents[query]
        assert numbers[numbers != NOTHING].tolist() == wanted.tolist()
        assert result.found.scores[query, : len(wanted)].tolist() == [alone[document] for document in wanted]
        assert np.isneginf(result.found.scores[query, len(wanted) :]).all()


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    codes=st.integers(1, 8),
    width=st.integers(1, 6),
    spread=st.sampled_from([0.0, 0.1, 0.5, 2.0]),
    scale=st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    slack=st.sampled_from([0.0, 0.2, 3.0, 1000.0]),
)
def test_no_document_scores_above_its_bound(seed, codes, width, spread, scale, slack):
    some, documents = made(seed, 1, codes, 50, width, 0, spread)
    longest = float(np.linalg.norm(documents.astype(np.float64), axis=1).max())
    directions = Directions.of(some[0], scale, longest, slack)
    products = documents.astype(np.float64) @ directions.centres.astype(np.float64).T
    bounds = (products + directions.slacks).max(axis=1)
    assert (np.array([score(some[0], document, scale) for document in documents]) <= bounds).all()
    assert len(directions.slacks) <= codes
    if slack == 1000.0:
        assert len(directions.slacks) == 1


def test_the_slack_of_a_group_is_nearly_reached():
    """Two codes left and right of their mean, a document along them: a (p R)^2 / 4 where that is small, r R else."""
    codes = np.array([[1.0, 0.05], [1.0, -0.05]], np.float32)
    document = np.array([0.0, 1.0], np.float32)
    directions = Directions.of(codes, 1.0, 1.0, 10.0)
    reached = score(codes, document, 1.0) - float(document @ directions.centres[0])
    assert len(directions.slacks) == 1
    assert 0.99 * directions.slacks[0] < reached < directions.slacks[0]
    wide = Directions.of(100 * codes, 1.0, 1.0, 10.0)
    assert 0.99 * wide.slacks[0] < score(100 * codes, document, 1.0) < wide.slacks[0]


def test_equal_codes_share_a_direction():
    codes = np.repeat(np.array([[1.0, 2.0], [3.0, 0.5]], np.float32), 3, axis=0)
    assert len(Directions.of(codes, 1.0, 5.0).slacks) == 2


def clustered(documents: int, seed: int = 0, m: int = 8, width: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Documents in clusters, and the codes of queries each of which is after one cluster."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((documents // 20, width))
    vectors = np.repeat(centres, 20, axis=0) + 0.3 * generator.standard_normal((documents, width))
    codes = centres[:6, None] + 0.5 * generator.standard_normal((6, m, width))
    return codes.astype(np.float32), vectors.astype(np.float32)


def test_scores_a_small_share_of_a_corpus_in_clusters_and_says_how_many():
    codes, vectors = clustered(3000)
    asked: list[tuple[int, int]] = []
    result = search_certified(codes, None, corpus_of(vectors, asked), 10)
    assert result.held.all()
    assert result.share < 0.03
    assert (result.scored >= 10).all()
    assert asked[0] == (8, 10), "each code's ten nearest come first"
    for query in range(len(codes)):
        assert result.found.documents[query].tolist() == [d for d, _ in best(codes[query], vectors, 10, 1.0)]
    assert "certified for 6 of 6 queries" in result.note
    assert f"{result.share:.1%}" in result.note


def test_one_direction_serves_codes_that_lie_close():
    codes, vectors = clustered(3000)
    close = codes.mean(axis=1, keepdims=True) + 0.01 * (codes - codes.mean(axis=1, keepdims=True))
    asked: list[tuple[int, int]] = []
    close = close.astype(np.float32)
    together = search_certified(close, None, corpus_of(vectors, asked), 10, slack=2.0)
    alone = search_certified(close, None, corpus_of(vectors), 10)
    assert {directions for directions, _ in asked} == {1}
    assert (together.found.documents == alone.found.documents).all()
    assert (together.found.scores == alone.found.scores).all()
    assert together.held.all()


def test_where_the_bound_does_not_hold_everything_is_scored_and_that_is_said():
    """Small logits weigh all codes alike, so a score is near the mean of the products, far from the largest."""
    generator = np.random.default_rng(0)
    codes = generator.standard_normal((4, 8, 16)).astype(np.float32)
    vectors = generator.standard_normal((500, 16)).astype(np.float32)
    result = search_certified(codes, None, corpus_of(vectors), 5, scale=0.01)
    assert not result.held.any()
    assert (result.scored == 500).all() and result.share == 1.0
    assert "for 4 the bound did not hold in time, and every document was scored" in result.note
    for query in range(4):
        assert result.found.documents[query].tolist() == [d for d, _ in best(codes[query], vectors, 5, 0.01)]


def test_ties_at_the_last_place_are_all_looked_at():
    """A hundred equal documents, of which the first must be found, though an index names any of them."""
    vectors = np.concatenate([np.zeros((30, 4)), np.tile([1.0, 0, 0, 0], (100, 1)), np.zeros((370, 4))])
    vectors = vectors.astype(np.float32)
    codes = np.array([[[2.0, 0, 0, 0], [1.5, 0, 0, 0]]], np.float32)

    def last_first(directions: np.ndarray, depth: int) -> Found:
        turned = search(torch.from_numpy(directions), torch.from_numpy(vectors[::-1].copy()), depth)
        return Found(np.where(turned.documents == NOTHING, NOTHING, len(vectors) - 1 - turned.documents), turned.scores)

    result = search_certified(codes, None, Corpus.of(vectors, last_first), 3, most=0.5)
    assert result.found.documents.tolist() == [[30, 31, 32]]
    assert result.held.all() and result.scored[0] >= 100


def test_scores_do_not_depend_on_what_is_scored_together():
    generator = np.random.default_rng(1)
    codes = generator.standard_normal((16, 48)).astype(np.float32)
    vectors = generator.standard_normal((301, 48)).astype(np.float32)
    whole = exact_scores(codes, vectors, 1.0)
    assert [exact_scores(codes, vectors[n : n + 1], 1.0)[0] for n in range(301)] == whole.tolist()


def test_numbers_with_gaps_and_a_corpus_smaller_than_k():
    """Documents may have been deleted: their numbers are left out everywhere."""
    codes, vectors = clustered(200)
    numbers = np.arange(3, 200, 14)

    def nearest(directions: np.ndarray, depth: int) -> Found:
        found = search(torch.from_numpy(directions), torch.from_numpy(vectors[numbers]), depth)
        return Found(np.where(found.documents == NOTHING, NOTHING, numbers[found.documents]), found.scores)

    corpus = Corpus(nearest, lambda wanted: vectors[wanted], numbers, 20.0)
    for most in (0.0, 1.0):
        result = search_certified(codes, None, corpus, 30, most=most)
        for query in range(len(codes)):
            wanted = [numbers[d] for d, _ in best(codes[query], vectors[numbers], 30, 1.0)]
            assert result.found.documents[query].tolist() == wanted + [NOTHING] * (30 - len(numbers))


@pytest.mark.parametrize("kind", ["flat", "exact", "hnsw"])
def test_on_an_index_of_its_own_folder_in_parts_and_with_deletions(tmp_path, kind):
    pytest.importorskip("faiss", reason="faiss is not installed")
    codes, vectors = clustered(600)
    made = {"weights": "w", "tokenizer": "t", "similarity": "dot", "dimension": 32}
    build(Arrays([f"d{n}" for n in range(600)], vectors, made), tmp_path / "index", kind, shard_size=250)
    index = delete(tmp_path / "index", [f"d{n}" for n in range(0, 600, 3)])

    def nearest(directions: np.ndarray, depth: int) -> Found:
        return index.search(directions, depth, compare_all=True)

    corpus = Corpus(nearest, index.vectors, index.documents, index.longest)
    result = search_certified(codes, None, corpus, 10)
    assert result.held.all() and result.share < 0.3
    kept = np.array([n for n in range(600) if n % 3])
    for query in range(len(codes)):
        wanted = best(codes[query], vectors[kept], 10, 1.0)
        assert result.found.documents[query].tolist() == [int(kept[d]) for d, _ in wanted]


def test_an_empty_corpus_and_no_codes():
    nothing = search_certified(np.ones((2, 3, 4), np.float32), None, corpus_of(np.empty((0, 4), np.float32)), 3)
    assert (nothing.found.documents == NOTHING).all() and nothing.share == 0
    without = search_certified(
        np.ones((1, 3, 4), np.float32), np.zeros((1, 3), bool), corpus_of(np.ones((5, 4), np.float32)), 3
    )
    assert without.found.documents.tolist() == [[0, 1, 2]] and without.found.scores.tolist() == [[0, 0, 0]]


def test_what_an_index_names_is_scored_but_not_certified():
    codes, vectors = clustered(3000)
    result = search_named(codes, None, corpus_of(vectors), 10, 40)
    assert not result.held.any() and (result.scored >= 40).all() and result.share < 0.1
    for query in range(len(codes)):
        documents = [d for d, _ in best(codes[query], vectors, 10, 1.0)]
        assert result.found.documents[query].tolist() == documents


def test_misuse_is_refused():
    codes, corpus = np.ones((1, 2, 3), np.float32), corpus_of(np.ones((4, 3), np.float32))
    with pytest.raises(ValueError, match="at least one"):
        search_certified(codes, None, corpus, 0)
    with pytest.raises(ValueError, match="0 or more"):
        search_certified(codes, None, corpus, 1, scale=-1.0)
