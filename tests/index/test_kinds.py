"""Every kind of index against sorting everything by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexes import clustered, sorted_by_hand, source
from quincunx.errors import DataError, MissingExtra, UsageError
from quincunx.index.building import build
from quincunx.index.exact import NOTHING
from quincunx.index.indexed import Index
from quincunx.index.options import KINDS, OPTIONS

WIDTH = 32
VECTORS = clustered(1500, WIDTH)
QUERIES = clustered(50, WIDTH, seed=1)
EXACT = [name for name, kind in KINDS.items() if kind.exact]


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Index]:
    """An index of each kind, not to be changed."""
    folder = tmp_path_factory.mktemp("indexes")
    return {kind: build(source(VECTORS), folder / kind, kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_finds_nearly_all_of_what_sorting_finds_with_exact_scores(indexes, kind):
    found = indexes[kind].search(QUERIES, 10)
    wanted, scores = sorted_by_hand(QUERIES, VECTORS, 10)
    shared = np.mean(
        [len(set(row) & set(best)) / 10 for row, best in zip(found.documents.tolist(), wanted, strict=True)]
    )
    assert shared == 1 if kind in EXACT else shared >= 0.95
    by_hand = np.einsum("qd,qkd->qk", QUERIES.astype(np.float64), VECTORS[found.documents])
    np.testing.assert_allclose(found.scores, by_hand, atol=1e-6)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    if kind in EXACT:
        np.testing.assert_allclose(found.scores, scores, atol=1e-6)
        assert found.documents.tolist() == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_an_opened_index_is_the_one_that_was_made(indexes, kind, tmp_path: Path):
    opened = Index.open(indexes[kind].folder, verify=True)
    found, wanted = opened.search(QUERIES, 10), indexes[kind].search(torch.from_numpy(QUERIES), 10)
    np.testing.assert_array_equal(found.documents, wanted.documents)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    assert (opened.kind, opened.made["weights"], opened.width, len(opened)) == (kind, "a", WIDTH, 1500)
    assert opened.ids[:2] == ["d0", "d1"]


@pytest.mark.parametrize("kind", KINDS)
def test_k_beyond_the_corpus_gives_all_of_it_then_nothing(kind, tmp_path: Path):
    vectors = clustered(20, WIDTH)
    index = build(source(vectors), tmp_path / "index", kind)
    found = index.search(QUERIES[:3], 25)
    wanted, _ = sorted_by_hand(QUERIES[:3], vectors, 20)
    assert found.documents[:, :20].tolist() == wanted
    assert (found.documents[:, 20:] == NOTHING).all()
    assert np.isneginf(found.scores[:, 20:]).all() and np.isfinite(found.scores[:, :20]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_searched_as_one(kind, tmp_path: Path):
    index = build(source(VECTORS), tmp_path / "index", kind, shard_size=400)
    assert [part.count for part in index.parts] == [400, 400, 400, 300]
    found = index.search(QUERIES, 10)
    wanted, _ = sorted_by_hand(QUERIES, VECTORS, 10)
    if kind in EXACT:
        assert found.documents.tolist() == wanted
    else:
        assert (
            np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.documents.tolist(), wanted, strict=True)]) > 0.95
        )
    np.testing.assert_array_equal(index.vectors(found.documents[:, 0]), VECTORS[found.documents[:, 0]])


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 60),
    different=st.integers(1, 12),
    k=st.integers(1, 70),
    size=st.integers(1, 60),
    kind=st.sampled_from(EXACT),
    seed=st.integers(0, 99),
)
def test_equal_vectors_come_in_the_order_of_the_documents(tmp_path_factory, rows, different, k, size, kind, seed):
    generator = np.random.default_rng(seed)
    vectors = clustered(different, 24, seed)[generator.integers(0, different, rows)]
    queries = clustered(3, 24, seed + 1000)
    index = build(source(vectors), tmp_path_factory.mktemp("index") / "index", kind, shard_size=size)
    found = index.search(queries, k)
    wanted, _ = sorted_by_hand(queries, vectors, k)
    assert [[d for d in row if d != NOTHING] for row in found.documents.tolist()] == wanted


def test_a_thousand_copies_of_one_text_do_not_hide_their_order(tmp_path: Path):
    vectors = np.concatenate([clustered(200, WIDTH), np.repeat(QUERIES[:1], 1000, axis=0)])
    for kind in EXACT:
        found = build(source(vectors), tmp_path / kind, kind).search(QUERIES[:2], 30)
        assert found.documents[0].tolist() == list(range(200, 230))
        assert len(set(found.scores[0].tolist())) == 1


def test_without_faiss_flat_finds_the_same_and_others_say_what_to_install(indexes, tmp_path: Path, monkeypatch):
    with_faiss = indexes["flat"].search(QUERIES, 30)
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.delitem(sys.modules, "quincunx.index.faiss_kinds", raising=False)
    for index in (Index.open(indexes["flat"].folder), build(source(VECTORS), tmp_path / "flat", "flat")):
        found = index.search(QUERIES, 30)
        np.testing.assert_array_equal(found.documents, with_faiss.documents)
        np.testing.assert_array_equal(found.scores, with_faiss.scores)
    for kind in ("int8", "binary", "exact"):
        assert build(source(VECTORS), tmp_path / kind, kind).recall(QUERIES).recall >= 0.95
    with pytest.raises(
        MissingExtra, match=r"kind hnsw needs the package faiss-cpu: pip install 'quincunx\[retrieval\]'"
    ):
        build(source(VECTORS), tmp_path / "hnsw", "hnsw")
    assert not (tmp_path / "hnsw").exists()
    with pytest.raises(MissingExtra, match="kind ivf needs the package faiss-cpu"):
        Index.open(indexes["ivf"].folder).search(QUERIES, 3)


@pytest.mark.parametrize("kind", ["pq", "ivfpq"])
def test_a_part_too_small_to_train_is_compared_one_by_one(kind, tmp_path: Path):
    index = build(source(VECTORS[:40]), tmp_path / "index", kind, shard_size=35)
    assert [part.kind for part in index.parts] == [kind, "flat"]
    assert index.search(QUERIES, 3).documents.tolist() == sorted_by_hand(QUERIES, VECTORS[:40], 3)[0]


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("ivf", {"nprobe": 1}, {"nprobe": 1000}),
        ("hnsw", {"ef_search": 1}, {"ef_search": 1500}),
        ("pq", {"oversample": 1}, {"oversample": 100}),
        ("ivfpq", {"nprobe": 1, "oversample": 1}, {"nprobe": 1000, "oversample": 100}),
        ("binary", {"oversample": 1}, {"oversample": 100}),
        ("int8", {"oversample": 1}, {"oversample": 30}),
    ],
)
def test_options_of_a_search_decide_what_it_finds(tmp_path: Path, kind, low, high):
    made = {"code_bytes": 2} if "code_bytes" in KINDS[kind].defaults else {}
    # vectors that lie nowhere in particular are the hardest
    vectors, queries = clustered(1500, WIDTH, spread=50.0), clustered(40, WIDTH, seed=1, spread=50.0)
    index = build(source(vectors), tmp_path / "index", kind, **made)
    little, much = index.recall(queries, **low).recall, index.recall(queries, **high).recall
    assert little < much == 1 if kind != "int8" else little <= much == 1


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("tree", {}, "no index kind 'tree': choose one of exact, flat, ivf"),
        ("flat", {"nprobe": 3}, "nprobe is no option here: an index of kind flat takes none"),
        ("hnsw", {"nlist": 3}, "an index of kind hnsw takes M, ef_construction, ef_search"),
        ("ivf", {"nprobe": 0}, "nprobe is 0: expected a whole number, 1 or more"),
        ("ivf", {"nlist": True}, "nlist is True"),
        ("pq", {"code_bytes": 7}, "Use one of 1, 2, 4, 8, 16"),
    ],
)
def test_options_that_do_not_go_are_refused_and_leave_nothing(tmp_path: Path, kind, options, said):
    with pytest.raises(UsageError, match=said):
        build(source(VECTORS), tmp_path / "index", kind, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_search_refuses_what_has_no_answer(indexes):
    index = indexes["ivf"]
    with pytest.raises(UsageError, match="nlist is no option here: an index of kind ivf takes nprobe"):
        index.search(QUERIES, 3, nlist=4)
    with pytest.raises(UsageError, match="k is 0"):
        index.search(QUERIES, 0)
    with pytest.raises(UsageError, match=r"shape \[50, 31\] for an index of width 32"):
        index.search(QUERIES[:, 1:], 3)
    bad = QUERIES.copy()
    bad[4, 2] = np.nan
    with pytest.raises(DataError, match="query 4 "):
        index.search(bad, 3)
    assert index.search(QUERIES[:0], 3).documents.shape == (0, 3)


def test_bad_vectors_and_ids_are_named_and_nothing_is_left(tmp_path: Path):
    bad = VECTORS.copy()
    bad[7, 3] = np.inf
    with pytest.raises(DataError, match=r"document 'd7' \(row 7 "):
        build(source(bad), tmp_path / "index")
    with pytest.raises(DataError, match="id 'x' stands twice in the source, at rows 1 and 3"):
        build(source(VECTORS[:4], ["a", "x", "b", "x"]), tmp_path / "index")
    with pytest.raises(DataError, match=r"id 7 \(row 0 "):
        build(source(VECTORS[:2], [7, "8"]), tmp_path / "index")  # type: ignore[list-item]
    with pytest.raises(DataError, match="no documents"):
        build(source(VECTORS[:0]), tmp_path / "index")
    with pytest.raises(UsageError, match="shard_size is 0"):
        build(source(VECTORS), tmp_path / "index", shard_size=0)
    assert list(tmp_path.iterdir()) == []


def test_ids_are_any_text_and_stay_it(tmp_path: Path):
    ids = ["007", "7", "²", "a b", "", "d\n1", "null", "東京"]
    build(source(VECTORS[: len(ids)], ids), tmp_path / "index", shard_size=3)
    index = Index.open(tmp_path / "index")
    assert index.ids == ids
    found = index.search(VECTORS[: len(ids)], 1).documents[:, 0]
    assert [index.ids[number] for number in found.tolist()] == ids


def test_inner_products_of_vectors_of_any_length_are_found(tmp_path: Path):
    lengths = np.exp(0.5 * np.random.default_rng(3).standard_normal((1500, 1)))
    vectors = (VECTORS * lengths).astype(np.float32)
    for kind in KINDS:
        index = build(source(vectors, similarity="dot"), tmp_path / kind, kind)
        assert index.recall(QUERIES).recall >= (1 if kind in EXACT else 0.9), kind
        assert index.longest >= np.linalg.norm(vectors.astype(np.float64), axis=1).max()


@pytest.mark.parametrize("kind", ["exact", "int8", "ivf"])
def test_a_search_within_autocast_is_the_same(indexes, kind):
    wanted = indexes[kind].search(QUERIES, 10)
    with torch.autocast("cpu", torch.bfloat16):
        found = indexes[kind].search(QUERIES, 10)
    np.testing.assert_array_equal(found.documents, wanted.documents)
    np.testing.assert_array_equal(found.scores, wanted.scores)


def test_recall_counts_what_is_missing(indexes):
    measured = indexes["ivf"].recall(QUERIES, nprobe=1)
    found = indexes["ivf"].search(QUERIES, 10, nprobe=1).documents.tolist()
    wanted, _ = sorted_by_hand(QUERIES, VECTORS, 10)
    by_hand = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, wanted, strict=True)])
    assert measured.recall == pytest.approx(by_hand) and by_hand < 1
    assert (measured.queries, measured.of_documents, measured.k) == (50, False, 10)
    own = indexes["hnsw"].recall(sample=30)
    assert own.recall >= 0.95 and own.queries == 30 and own.of_documents
    assert indexes["flat"].recall(sample=10**6).queries == 1500
    with pytest.raises(UsageError, match="no queries"):
        indexes["flat"].recall(QUERIES[:0])


def test_a_document_does_not_count_among_its_own_results(tmp_path: Path):
    # each vector is alone in its direction: all an index could find for it is itself
    index = build(source(np.eye(64, dtype=np.float32)), tmp_path / "index", "ivf", nlist=64, nprobe=1)
    assert index.recall(k=1, sample=64).recall == 1  # anything else scores 0, and any of them will do
    found = index.search(np.eye(64, dtype=np.float32), 1)
    assert found.documents[:, 0].tolist() == list(range(64))


def test_every_option_is_some_kinds_and_every_kind_has_its_row():
    used = {name for kind in KINDS.values() for name in kind.defaults}
    assert used == set(OPTIONS)
    page = (Path(__file__).parents[2] / "docs/indexes.md").read_text(encoding="utf-8")
    for kind in KINDS:
        assert f"| `{kind}` |" in page
    for name in OPTIONS:
        assert f"`{name}`" in page
