"""No text is a negative of one that it is relevant to, or the same as; and no mask takes a positive away."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.recipes.retrieval.objective.counts import DIRECTIONS
from quincunx.recipes.retrieval.objective.masks import Identity, KnownPairs, Pool, matches
from reference import retrieval as reference
from retrieval_toys import drawn, known_hashes, make


@given(st.lists(st.integers(-3, 3), max_size=8), st.lists(st.integers(-3, 3), max_size=8))
@settings(deadline=None)
def test_matches_are_all_equal_pairs(left, right):
    i, j = matches(torch.tensor(left, dtype=torch.int64), torch.tensor(right, dtype=torch.int64))
    wanted = [(a, b) for a, x in enumerate(left) for b, y in enumerate(right) if x == y]
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == wanted


def entries(seed: int) -> dict[str, Identity]:
    """Texts of another batch as the entries of a memory: some of them are in this one too."""
    links = drawn(6, seed + 500).links
    return {side: Identity(links[f"{side}_keys"], links[f"{side}_hashes"]) for side in ("query", "document")}


@given(st.integers(0, 200), st.sampled_from(sorted(DIRECTIONS)), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_negatives_are_those_of_the_plain_rule(seed, direction, memory, everything_known):
    """Against sets of pairs, over random batches with copies, shared positives and false explicit negatives."""
    batch = drawn(6, seed, positives=3, negatives=3)
    known = known_hashes() if everything_known else None
    stored = entries(seed) if memory else {}
    relevant = None if known is None else KnownPairs(known)
    pool = Pool.of(batch.links, stored.get("query"), stored.get("document"), relevant)
    plain = {side: (torch.empty(0), one.keys.tolist(), one.hashes.tolist()) for side, one in stored.items()}
    pairs = [] if known is None else [(q, d) for q, d in known.tolist()]
    world = reference.World(batch.links, plain, pairs)
    found = pool.candidates(direction)
    side = 0 if direction.startswith("query") else 1
    assert found.anchors.tolist() == sorted({pair[side] for pair in world.positives})
    assert found.anchors[found.place].tolist() == [pair[side] for pair in world.positives]
    for row, anchor in enumerate(found.anchors.tolist()):
        assert found.negatives[row].nonzero()[:, 0].tolist() == world.negatives(direction, anchor)


@pytest.mark.parametrize("direction", ["query_to_document", "document_to_query"])
def test_explicit_negatives_alone(direction):
    for seed in range(20):
        batch = drawn(6, seed, positives=2, negatives=3)
        pool, world = Pool.of(batch.links), reference.World(batch.links)
        found = pool.candidates(direction, in_batch=False)
        wanted = [world.negatives(direction, anchor, in_batch=False) for anchor in found.anchors.tolist()]
        assert [row.nonzero()[:, 0].tolist() for row in found.negatives] == wanted


def test_each_reason_masks_one_pair_and_is_counted():
    """Four queries with a document each; nothing is masked until there is a reason."""
    plain = {"query_keys": [0, 1, 2, 3], "document_keys": [0, 1, 2, 3], "positives": [(i, i) for i in range(4)]}

    def off_diagonal(**changes):
        found = Pool.of(make(**{**plain, **changes}).links).candidates("query_to_document")
        missing = ~found.negatives & ~torch.eye(len(found.negatives), found.negatives.shape[1], dtype=torch.bool)
        assert int(found.masked) == int(missing.sum())
        return missing.nonzero().tolist()

    assert off_diagonal() == []
    # judged relevant
    assert off_diagonal(known=[(0, 0), (1, 1), (2, 2), (3, 3), (0, 2)]) == [[0, 2]]
    # document 3 has the key, or the content, of document 1
    assert off_diagonal(document_keys=[0, 1, 2, 1], document_hashes=[5, 6, 7, 8]) == [[1, 3], [3, 1]]
    assert off_diagonal(document_hashes=[5, 6, 7, 6]) == [[1, 3], [3, 1]]
    # query 2 asks what query 0 asks
    assert off_diagonal(query_hashes=[5, 6, 5, 8]) == [[0, 2], [2, 0]]
    # document 3 has the text of query 1
    assert off_diagonal(query_hashes=[5, 6, 7, 8], document_hashes=[1, 2, 3, 6]) == [[1, 3]]


def test_masks_reach_into_a_memory():
    batch = make([0, 1], [0, 1], [(0, 0), (1, 1)])
    keys, hashes = torch.tensor([0, 90, 91, 92]), torch.tensor([1, 2001, 1000, 7])
    stored = Identity(keys, hashes)
    never = ~Pool.of(batch.links, stored_documents=stored).candidates("query_to_document").negatives[:, 2:]
    # the document of query 0 by key, that of query 1 by content, the text of query 0 itself, something else
    assert never.tolist() == [[True, False, True, False], [False, True, False, False]]
    relevant = KnownPairs(torch.tensor([[1001, 7], [5, 7]]))
    negatives = ~Pool.of(batch.links, stored_documents=stored, relevant=relevant).to_documents
    assert negatives[:, 2:].tolist() == [[False, True, False, True], [True, False, True, False]]


def test_a_known_pair_is_no_usable_explicit_negative():
    batch = make([0, 1], [0, 1, 2], [(0, 0), (1, 1)], [(0, 2), (1, 2), (0, 1)], known=[(0, 0), (1, 1), (1, 2)])
    assert Pool.of(batch.links).usable_negatives.tolist() == [True, False, True]
