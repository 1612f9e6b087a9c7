"""Exact search against sorting everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.index.exact import NOTHING, search, search_by


def sorted_by_hand(scores: np.ndarray, k: int) -> list[list[int]]:
    """Best first, equal scores in the order of the documents."""
    return [sorted(range(len(row)), key=lambda d: (-row[d], d))[:k] for row in scores.tolist()]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 7), st.integers(1, 40), st.integers(1, 12), st.integers(1, 60), st.integers(1, 4), st.integers(0, 99)
)
def test_equals_sorting_everything_also_where_scores_tie(queries, documents, k, block, levels, seed):
    scores = np.random.default_rng(seed).integers(0, levels, (queries, documents)).astype(np.float32)
    tensor = torch.from_numpy(scores)
    found = search_by(lambda a, b, c, d: tensor[a:b, c:d], queries, documents, k, block)
    for row, wanted in enumerate(sorted_by_hand(scores, k)):
        assert found.documents[row, : len(wanted)].tolist() == wanted
        assert found.scores[row, : len(wanted)].tolist() == scores[row, wanted].tolist()
        assert (found.documents[row, len(wanted) :] == NOTHING).all()
        assert np.isneginf(found.scores[row, len(wanted) :]).all()


def test_finds_the_inner_products_over_many_blocks_of_queries_and_documents():
    generator = torch.Generator().manual_seed(0)
    queries, documents = torch.randn(300, 8, generator=generator), torch.randn(1000, 8, generator=generator)
    found = search(queries, documents, 5, block=256 * 97)
    wanted = (queries.double() @ documents.double().T).topk(5)
    assert (found.documents == wanted.indices.numpy()).all()
    np.testing.assert_allclose(found.scores, wanted.values.numpy(), atol=1e-5)


def test_no_documents_is_nothing_found():
    found = search(torch.ones(2, 3), torch.empty(0, 3), 4)
    assert (found.documents == NOTHING).all()
    assert found.documents.shape == (2, 4)


def test_widths_that_differ_and_no_results_are_refused():
    with pytest.raises(ValueError, match="3 wide and documents 4"):
        search(torch.ones(2, 3), torch.ones(2, 4), 1)
    with pytest.raises(ValueError, match="at least one"):
        search(torch.ones(2, 3), torch.ones(2, 3), 0)
