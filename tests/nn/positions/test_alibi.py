"""Linear biases of attention scores."""

from __future__ import annotations

import pytest
import torch

from quincunx.nn.positions.alibi import bias, slopes
from reference import positions as plain


def test_slopes_of_the_paper():
    assert slopes(8).tolist() == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    assert slopes(1).tolist() == [1 / 256]


@pytest.mark.parametrize("heads", [*range(1, 20), 32, 40])
def test_slopes_against_the_recursion(heads):
    assert slopes(heads).tolist() == pytest.approx(plain.slopes(heads))


def test_biases_against_goldens_drawn_by_hand():
    counted = torch.arange(4)[None]
    causal = bias(counted, counted, 1)
    assert (causal * 256).tolist() == [[[[0, 0, 0, 0], [-1, 0, 0, 0], [-2, -1, 0, 0], [-3, -2, -1, 0]]]]
    symmetric = bias(counted, counted, 1, causal=False)
    assert (symmetric * 256).tolist() == [[[[0, -1, -2, -3], [-1, 0, -1, -2], [-2, -1, 0, -1], [-3, -2, -1, 0]]]]


def test_each_row_has_its_own_positions_and_each_head_its_slope():
    queries = torch.tensor([[5, 9], [2, 3]])
    keys = torch.tensor([[0, 5, 7], [1, 2, 3]])
    found = bias(queries, keys, 2, dtype=torch.float64)
    for b in range(2):
        for head, slope in enumerate([2**-4, 2**-8]):
            for q in range(2):
                for k in range(3):
                    assert float(found[b, head, q, k]) == -slope * max(0, int(queries[b, q] - keys[b, k]))


def test_real_positions_and_half_precision_keep_distances():
    found = bias(torch.tensor([[10.75]]), torch.tensor([[10.25]]), 1, dtype=torch.float64)
    assert found.item() == -0.5 / 256
    # 70001 and 70003 are one number in bfloat16, their distance is not
    half = bias(torch.tensor([[70003]]), torch.tensor([[70001]]), 1, dtype=torch.bfloat16)
    assert half.item() == -2 / 256
