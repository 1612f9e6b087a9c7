"""Position tables."""

from __future__ import annotations

import math

import pytest
import torch

from quincunx.errors import DataError
from quincunx.nn.positions import Positions, sinusoids


@pytest.mark.parametrize("width", [8, 7, 1])
def test_fixed_table_against_the_formula(width):
    table = sinusoids(50, width)
    for t in (0, 1, 13, 49):
        for column in range(width):
            angle = t / 10000 ** (2 * (column // 2) / width)
            expected = math.cos(angle) if column % 2 else math.sin(angle)
            assert float(table[t, column]) == pytest.approx(expected, abs=1e-12)


def test_learned_tables_are_trained_and_saved_fixed_ones_neither():
    learned, fixed = Positions(30, 6, learned=True), Positions(30, 6, learned=False)
    assert list(learned.state_dict()) == ["table"]
    assert dict(fixed.state_dict()) == {} and list(fixed.parameters()) == []
    learned(torch.zeros(2, 4, 6)).sum().backward()
    gradient = learned.table.grad
    assert torch.equal(gradient[:4], torch.full((4, 6), 2.0)) and not gradient[4:].any()


def test_learned_tables_start_small():
    table = Positions(2000, 64, learned=True).table.detach()
    assert float(table.std()) == pytest.approx(0.02, rel=0.02) and abs(float(table.mean())) < 1e-3


@pytest.mark.parametrize("learned", [True, False])
def test_each_token_gets_its_own_row_and_a_sequence_beyond_the_table_is_refused(learned):
    positions = Positions(10, 4, learned)
    x = torch.randn(3, 10, 4)
    assert torch.equal(positions(x), x + positions.table)
    assert torch.equal(positions(x[:, :7]), positions(x)[:, :7])
    with pytest.raises(DataError, match=r"11 tokens, the position table 10 rows.*encoder\.max_seq_len"):
        positions(torch.zeros(1, 11, 4))
