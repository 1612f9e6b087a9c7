"""The capacity probe: against closed forms, against the figures it is known by, and that it measures what it says."""

from __future__ import annotations

import math

import pytest
import torch

from quincunx.errors import UsageError
from quincunx.nn.attention import capacity as module
from quincunx.nn.attention.capacity import COLUMNS, MEMORIES, capacity, capacity_table, retrieval

UNITARY, INVOLUTION, EXACT, TENSOR = MEMORIES


@pytest.mark.parametrize("width", [15, 64])
def test_one_pair_is_exact_but_under_the_involution_of_a_gaussian_key(width):
    for memory in (UNITARY, EXACT, TENSOR):
        row = capacity(memory, width, 1, 50, seed=1, dtype=torch.float64)
        assert abs(row.cosine - 1) < 1e-12 and row.accuracy == 1
    row = capacity(INVOLUTION, width, 1, 200, seed=1)
    # mean over root mean square of the power spectrum of the key, exponential but for its ends: a little over √½
    assert 0.7 < row.cosine < 0.8 and row.cosine_error < 0.01


@pytest.mark.parametrize("width", [64, 512])
@pytest.mark.parametrize(("pairs", "repetitions"), [(4, 400), (16, 100), (64, 40), (256, 10), (2000, 3)])
def test_the_cosine_is_one_over_the_root_of_the_pairs_whatever_the_width(width, pairs, repetitions):
    row = capacity(UNITARY, width, pairs, repetitions, seed=2)
    assert abs(row.cosine - pairs**-0.5) < 4 * row.cosine_error + 0.005


@pytest.mark.parametrize(("width", "pairs"), [(64, 64), (64, 256), (512, 64)])
def test_the_cosine_of_a_tensor_product_falls_with_the_pairs_over_the_width(width, pairs):
    row = capacity(TENSOR, width, pairs, 30, seed=2)
    assert abs(row.cosine - (1 + (pairs - 1) / width) ** -0.5) < 4 * row.cosine_error + 0.005


@pytest.mark.parametrize(
    ("memory", "width", "pairs", "repetitions", "known", "single_draw"),
    [
        # known: means of many repetitions, to two or three places; single draw: what one memory of each size had shown
        (UNITARY, 64, 8, 200, 0.894, 0.88),
        (UNITARY, 64, 16, 100, 0.582, 0.69),
        (UNITARY, 64, 64, 50, 0.106, 0.09),
        (UNITARY, 512, 16, 50, 0.9995, 1.00),
        (UNITARY, 512, 64, 40, 0.671, 0.69),
        (UNITARY, 512, 256, 10, 0.096, 0.09),
        (TENSOR, 64, 64, 40, 0.999, 1.00),
        (TENSOR, 64, 256, 20, 0.746, 0.77),
        (TENSOR, 64, 2000, 4, 0.0225, 0.02),
        (TENSOR, 512, 2000, 2, 1.0, 1.00),
    ],
)
def test_nearest_values_are_right_as_often_as_known(memory, width, pairs, repetitions, known, single_draw):
    row = capacity(memory, width, pairs, repetitions, seed=3)
    assert abs(row.accuracy - known) < 4 * row.accuracy_error + 0.003
    of_one = math.sqrt(row.accuracy * (1 - row.accuracy) / pairs)  # error of a share of n in one memory
    assert abs(row.accuracy - single_draw) < 2 * math.hypot(of_one, row.accuracy_error) + 0.005


@pytest.mark.parametrize("pairs", [8, 64])
def test_the_exact_inverse_amplifies_what_the_involution_bears(pairs):
    rows = {memory: capacity(memory, 64, pairs, 60, seed=4) for memory in (UNITARY, INVOLUTION, EXACT)}
    assert rows[EXACT].cosine < 0.7 * rows[INVOLUTION].cosine
    assert rows[EXACT].accuracy < 0.7 * rows[INVOLUTION].accuracy
    assert rows[INVOLUTION].cosine < rows[UNITARY].cosine


def test_retrieval_counts_what_is_nearest_by_cosine():
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    retrieved = torch.tensor([[9.0, 1.0], [0.3, 0.4], [0.1, 0.1]])
    cosine, accuracy = retrieval(retrieved, values)
    assert math.isclose(float(accuracy), 2 / 3, rel_tol=1e-6)  # the second is closer to the third value
    assert math.isclose(float(cosine), (9 / math.sqrt(82) + 0.8 + 1) / 3, rel_tol=1e-6)


def test_errors_are_standard_errors_over_repetitions():
    row = capacity(UNITARY, 16, 4, 2, seed=5)
    single = []
    for repetition in range(2):
        keys, values = module._draw(16, 4, 5, repetition)
        single.append(float(retrieval(MEMORIES[UNITARY](keys, values), values)[0]))
    assert math.isclose(row.cosine, sum(single) / 2, rel_tol=1e-6)
    assert math.isclose(row.cosine_error, abs(single[0] - single[1]) / 2, rel_tol=1e-4)


def test_a_point_depends_on_its_seed_alone_not_on_its_neighbours_nor_on_batches(monkeypatch):
    table = capacity_table(widths=(16, 8), pairs=(2, 5), repetitions=6, seed=9)
    assert [row[:3] for row in table] == [
        (memory, width, n) for memory in MEMORIES for width in (16, 8) for n in (2, 5)
    ]
    assert all(row == capacity(*row[:4], seed=9) for row in table)
    assert capacity(UNITARY, 16, 5, 6, seed=10) != capacity(UNITARY, 16, 5, 6, seed=9)
    monkeypatch.setattr(module, "BATCH_NUMBERS", 100)  # one repetition, and six of its rows at once
    again = capacity_table(widths=(16, 8), pairs=(2, 5), repetitions=6, seed=9)
    for row, other in zip(table, again, strict=True):
        assert row[:4] == other[:4] and row[4:] == pytest.approx(other[4:], abs=1e-6)


def test_rows_are_plain_data_under_their_columns():
    (row, *_) = capacity_table(widths=(8,), pairs=(2,), repetitions=2)
    assert tuple(row._asdict()) == COLUMNS
    assert [type(field) for field in row] == [str, int, int, int, float, float, float, float]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("hrr", 8, 2, 2), "unitary keys"),
        ((UNITARY, 1, 2, 2), "width is 1"),
        ((UNITARY, 8, 0, 2), "pairs is 0"),
        ((UNITARY, 8, 2, 1), "repetitions is 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, found):
    with pytest.raises(UsageError, match=found):
        capacity(*arguments, seed=0)
