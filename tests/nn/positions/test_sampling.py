"""Positions drawn at random: sorted, without repetition, in range, and functions of key and length alone."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.errors import DataError
from quincunx.nn.positions.hashed import hashes, uniforms
from quincunx.nn.positions.sampling import even, lookup, prefix, sample
from quincunx.seeds import address
from reference import blotching as plain_hash
from reference import positions as plain


def lengths_of(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


def test_hashes_are_those_of_the_reference_bit_for_bit():
    keys = torch.tensor([0, 7, -3, 2**63 - 1])
    words = hashes(keys, 20, salt=5)
    numbers = uniforms(keys, 20, salt=5)
    for row, key in enumerate(keys.tolist()):
        for place in range(20):
            assert int(words[row, place]) == plain_hash.signed(plain_hash.hashed(key, place, 5))
            assert float(numbers[row, place]) == plain_hash.uniform(key, place, 5)
    assert torch.equal(hashes(keys.view(torch.uint64), 20, salt=5), words)


@pytest.mark.parametrize("keys", [torch.zeros(3), torch.zeros(3, 2, dtype=torch.int64)])
def test_keys_of_another_kind_are_refused(keys):
    with pytest.raises(TypeError, match="int64 tensor of one dimension"):
        hashes(keys, 4)


def test_uniforms_fill_the_unit_interval_evenly():
    numbers = uniforms(torch.arange(200), 500)
    assert float(numbers.min()) >= 0 and float(numbers.max()) < 1
    counts = torch.histc(numbers, 20, 0, 1)
    assert float(((counts - 5000) ** 2 / 5000).sum()) < 50  # chi-squared of 19 degrees: above with chance 1e-4


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=4),
    size=st.integers(12, 30),
    more=st.integers(0, 5),
    continuous=st.booleans(),
)
def test_rows_are_those_of_the_reference_whatever_stands_beside_them(rows, size, more, continuous):
    lengths = torch.tensor([length for length, _ in rows])
    keys = torch.tensor([key for _, key in rows])
    longest = int(lengths.max()) + more
    drawn = sample(lengths, longest, size, keys=keys, continuous=continuous)
    assert drawn.shape == (len(rows), longest)
    for row, (length, key) in enumerate(rows):
        found = drawn[row, :length]
        wanted = plain.sample_reals(length, size, key) if continuous else plain.sample(length, size, key)
        assert found.tolist() == pytest.approx(wanted, rel=1e-6)
        assert torch.equal(drawn[row, length:], (found[-1:] if length else drawn.new_zeros(1)).expand(longest - length))
        assert bool((found.diff() > 0).all())
        assert length == 0 or (float(found[0]) >= 0 and float(found[-1]) <= size - 1)
        alone = sample(lengths[row : row + 1], length, size, keys=keys[row : row + 1], continuous=continuous)
        assert torch.equal(alone[0], found)


def test_every_set_of_numbers_is_as_likely_as_any_other():
    count = 6000
    keys = torch.tensor([address(1, "positions", row) for row in range(count)])
    drawn = sample(torch.full((count,), 3), 3, 6, keys=keys)
    sets = dict.fromkeys(combinations(range(6), 3), 0)
    for row in drawn.tolist():
        sets[tuple(row)] += 1
    expected = count / len(sets)
    assert sum((found - expected) ** 2 / expected for found in sets.values()) < 50  # 19 degrees of freedom


def test_real_numbers_that_would_round_to_the_same_are_told_apart():
    # near 100,000 single precision has 128 numbers to the unit, and a draw of 100,000 one: some fall together
    keys = torch.arange(3)
    drawn = sample(torch.full((3,), 100_000), 100_000, 100_000, keys=keys, continuous=True)
    plainly = (uniforms(keys, 100_000) * 99_999).sort(dim=1).values.float()
    assert int((plainly.diff() == 0).sum()) > 100
    assert bool((drawn.diff() > 0).all()) and float(drawn.max()) <= 99_999
    assert float((drawn - plainly).abs().max()) <= 0.02


def test_as_many_numbers_as_there_are_leave_no_choice():
    assert sample(lengths_of(5, 1), 5, 5, keys=torch.tensor([3, 4]))[0].tolist() == [0, 1, 2, 3, 4]
    assert sample(lengths_of(1), 1, 1, keys=torch.tensor([3]), continuous=True).tolist() == [[0.0]]


def test_even_positions_against_a_golden_drawn_by_hand():
    assert even(lengths_of(4, 1, 10, 0), 10, 10).tolist() == [
        [1, 3, 5, 7, 7, 7, 7, 7, 7, 7],
        [4, 4, 4, 4, 4, 4, 4, 4, 4, 4],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert even(lengths_of(3, 1), 4, 9, continuous=True).tolist() == [[2.0, 4.0, 6.0, 6.0], [4.0, 4.0, 4.0, 4.0]]


@given(size=st.integers(1, 60), data=st.data())
def test_even_positions_are_increasing_and_in_range(size, data):
    length = data.draw(st.integers(1, size))
    spread = even(lengths_of(length), length, size)[0]
    assert bool((spread.diff() > 0).all()) and int(spread[0]) >= 0 and int(spread[-1]) < size


@pytest.mark.parametrize("continuous", [False, True])
def test_even_positions_are_the_mean_of_the_draws(continuous):
    keys = torch.arange(20_000)
    drawn = sample(torch.full((20_000,), 4), 4, 50, keys=keys, continuous=continuous).double().mean(0)
    spread = even(lengths_of(4), 4, 50, continuous=continuous)[0].double()
    rounding = 0 if continuous else 1
    assert bool((drawn - spread > -0.3).all()) and bool((drawn - spread < rounding + 0.3).all())


def test_prefix_counts():
    assert prefix(lengths_of(3, 0), 5, 9).tolist() == [[0, 1, 2, 2, 2], [0, 0, 0, 0, 0]]
    counted = prefix(lengths_of(3), 3, 9, continuous=True)
    assert counted.dtype == torch.float32 and counted.tolist() == [[0.0, 1.0, 2.0]]


def test_lookup_gives_every_token_the_number_of_its_rank():
    drawn = torch.tensor([[2, 5, 9], [0, 1, 7]])
    assert lookup(drawn, torch.tensor([[0, 0, 2, 1], [2, 1, 0, 0]])).tolist() == [[2, 2, 9, 5], [7, 1, 0, 0]]
    for ranks in ([[0, 3]], [[-1, 0]]):
        with pytest.raises(DataError, match="3 positions were drawn"):
            lookup(drawn[:1], torch.tensor(ranks))


def test_a_longer_draw_for_generation_keeps_the_positions_of_the_tokens_before():
    # drawn once for 12 tokens: the prompt reads 5 of them, every further token the next, with or without a cache
    drawn = sample(lengths_of(12), 12, 40, keys=torch.tensor([9]))
    ranks = torch.arange(12)[None]
    whole = lookup(drawn, ranks)
    assert torch.equal(torch.cat([lookup(drawn, ranks[:, :5]), lookup(drawn, ranks[:, 5:])], dim=1), whole)


@pytest.mark.parametrize("made", [sample, even, prefix])
def test_sequences_longer_than_the_range_are_refused(made):
    keys = {"keys": torch.arange(2)} if made is sample else {}
    with pytest.raises(DataError, match=r"needs 6 positions, the range holds 5 numbers.*max_posencs"):
        made(lengths_of(6, 2), 6, 5, **keys)
    with pytest.raises(DataError, match=r"must lie in 0 \.\. 3"):
        made(lengths_of(4, 2), 3, 9, **keys)
    with pytest.raises(DataError, match="at least 1"):
        made(lengths_of(0, 0), 3, 0, **keys)
