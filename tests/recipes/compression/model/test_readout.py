"""From states to embeddings: windows, layers, mixtures, projections."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quincunx.errors import UsageError
from quincunx.recipes.compression.model.readout import Projection, layer_number, mixture, pooled
from reference import compression as reference


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(1, 5), st.integers(0, 3))
def test_pooling_is_the_mean_of_equal_windows_of_what_is_seen(lengths, count, gap):
    generator = torch.Generator().manual_seed(sum(lengths) + count)
    width = max(lengths) + gap + 1
    states = torch.randn(len(lengths), width, 3, generator=generator, dtype=torch.float64)
    # tokens that are seen lie anywhere in the row
    seen = torch.zeros(len(lengths), width, dtype=torch.bool)
    for row, length in enumerate(lengths):
        seen[row, torch.randperm(width, generator=generator)[:length]] = True
    found, there = pooled(states, seen, count)
    for row in range(len(lengths)):
        means, filled = reference.pooled(states[row][seen[row]].tolist(), count)
        assert there[row].tolist() == filled
        expected = torch.tensor(means, dtype=torch.float64)
        assert torch.allclose(found[row], expected if lengths[row] else torch.zeros(count, 3).double(), atol=1e-12)


def test_layers_are_named_by_number_half_or_from_the_end():
    assert [layer_number(layer, 4) for layer in ("half", 0, 4, -1, -2, "output")] == [2, 0, 4, 4, 3, None]
    for layer in (5, -6):
        with pytest.raises(UsageError, match=rf"compress.layer is {layer}, and the model has layers 0"):
            layer_number(layer, 4)


def test_a_mixture_lies_among_the_embeddings():
    table = torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 4.0]])
    even = mixture(torch.zeros(1, 1, 3), table)
    sure = mixture(torch.tensor([[[0.0, 200.0, 0.0]]]), table)
    assert torch.allclose(even, table.mean(0)) and torch.equal(sure[0, 0], table[1])


def test_projections_begin_where_they_should():
    states = torch.randn(2, 3, 4)
    assert Projection("none", 4, 2)(states) is states
    assert torch.equal(Projection("linear", 4, 2)(states), states)
    sizes = [tuple(each.shape) for each in Projection("mlp", 4, 3).parameters()]
    assert sizes == [(12, 4), (12,), (4, 12), (4,)]
