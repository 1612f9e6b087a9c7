"""Vectors of positions: rows at whole numbers, between the rows what lies between."""

from __future__ import annotations

import math

import pytest
import torch

from quincunx.errors import DataError
from quincunx.nn.positions import PositionTable, sinusoids
from quincunx.nn.positions.tables import sinusoids_at
from quincunx.nn.rows import attach_rows

KINDS = ("sinusoidal", "random")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("learnable", [False, True])
def test_whole_positions_take_the_rows_of_the_table(kind, learnable):
    table = PositionTable(kind, 9, 5, learnable=learnable)
    positions = torch.tensor([[0, 3, 8], [8, 8, 1]])
    assert torch.equal(table(positions), table.table[positions])
    # a whole number means the same in either type
    torch.testing.assert_close(table(positions.float()), table(positions), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kind", "learnable"), [("sinusoidal", True), ("random", False), ("random", True)])
def test_between_two_rows_a_table_is_interpolated(kind, learnable):
    table = PositionTable(kind, 6, 4, learnable=learnable)
    rows = table.table.detach()
    found = table(torch.tensor([[2.25, 4.5, 5.0]])).detach()
    torch.testing.assert_close(found[0, 0], 0.75 * rows[2] + 0.25 * rows[3])
    torch.testing.assert_close(found[0, 1], 0.5 * rows[4] + 0.5 * rows[5])
    torch.testing.assert_close(found[0, 2], rows[5])


def test_sinusoids_are_computed_at_the_number_itself():
    table = PositionTable("sinusoidal", 100, 7, scale=0.5)
    found = table(torch.tensor([[17.3]]))[0, 0]
    for column in range(7):
        angle = float(torch.tensor(17.3)) / 10000 ** (2 * (column // 2) / 7)
        assert float(found[column]) == pytest.approx(
            0.5 * (math.cos(angle) if column % 2 else math.sin(angle)), abs=1e-6
        )
    assert torch.equal(sinusoids_at(torch.arange(20), 6), sinusoids(20, 6))


def test_what_is_trained_and_what_is_kept():
    names = {
        (kind, learnable): (
            list(PositionTable(kind, 5, 4, learnable=learnable).state_dict()),
            len(list(PositionTable(kind, 5, 4, learnable=learnable).parameters())),
        )
        for kind in KINDS
        for learnable in (False, True)
    }
    assert names == {
        ("sinusoidal", False): ([], 0),
        ("sinusoidal", True): (["table"], 1),
        ("random", False): (["table"], 0),  # noise cannot be computed anew
        ("random", True): (["table"], 1),
    }


def test_gradients_reach_the_rows_that_were_used():
    table = PositionTable("random", 6, 2, learnable=True)
    table(torch.tensor([[1.25, 4.0]])).sum().backward()
    assert table.table.grad is not None
    assert table.table.grad[:, 0].tolist() == pytest.approx([0, 0.75, 0.25, 0, 1, 0])


def test_random_rows_have_the_given_size_and_follow_the_generator():
    torch.manual_seed(4)
    first = PositionTable("random", 1000, 50, scale=0.3)
    torch.manual_seed(4)
    second = PositionTable("random", 1000, 50, scale=0.3)
    assert torch.equal(first.table, second.table)
    assert float(first.table.std()) == pytest.approx(0.3, rel=0.02) and abs(float(first.table.mean())) < 0.005


def test_dropout_is_on_the_vectors_alone_and_addressed_by_row():
    table = PositionTable("sinusoidal", 60, 8, dropout=0.5)
    context = attach_rows(table)
    assert context is not None
    positions = torch.arange(50).expand(3, 50)
    context.set(5, torch.arange(3))
    whole = table(positions)
    share = float((whole == 0).float().mean())
    assert 0.4 < share < 0.6
    context.set(5, torch.tensor([2]))
    assert torch.equal(table(positions[2:]), whole[2:])
    assert torch.equal(table(positions[2:, :20]), whole[2:, :20])
    assert not torch.equal(table(positions[2:], salt=1), whole[2:])
    assert torch.equal(table.eval()(positions)[0], table.table[:50])


@pytest.mark.parametrize("positions", [torch.tensor([[0, 6]]), torch.tensor([[-1, 2]]), torch.tensor([[0.0, 5.5]])])
@pytest.mark.parametrize("kind", KINDS)
def test_positions_outside_the_table_are_refused(kind, positions):
    with pytest.raises(DataError, match=r"the table has 6 rows, for 0 to 5.*max_posencs"):
        PositionTable(kind, 6, 4)(positions)
