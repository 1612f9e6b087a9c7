"""The order of examples is a pure function of seed and epoch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.data.order import Order, permutation


@given(st.integers(0, 300), st.integers(0, 2**63 - 1))
def test_a_permutation_holds_every_number_once(count, seed):
    assert sorted(permutation(count, seed).tolist()) == list(range(count))


def test_the_permutation_never_changes():
    """Pinned, because a resumed run must meet the order it was begun with, on any version and platform."""
    assert permutation(12, 7).tolist() == PINNED
    assert not np.array_equal(permutation(12, 7), permutation(12, 8))


@given(st.integers(1, 60), st.integers(0, 2**63 - 1))
def test_the_permutation_sorts_splitmix64_hashes(count, seed):
    """Against the hash written out in Python integers."""

    def splitmix64(number: int) -> int:
        state = (seed + (number + 1) * 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    assert permutation(count, seed).tolist() == sorted(range(count), key=splitmix64)


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.booleans())
def test_every_example_once_an_epoch(count, batch, window, accumulation, epoch, bucketing):
    lengths = (np.arange(count) * 7919) % 31 if bucketing else None
    order = Order(count, batch, 3, lengths=lengths, window=window, accumulation=accumulation)
    updates = range(epoch * order.updates_per_epoch, (epoch + 1) * order.updates_per_epoch)
    batches = [indices for update in updates for indices in order.update(update)]
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert len(batches) == order.batches_per_epoch
    assert all(len(indices) <= batch for indices in batches)


def test_any_update_can_be_asked_for_in_any_order():
    lengths = np.arange(100) % 13
    forward = Order(100, 8, 5, lengths=lengths, accumulation=2)
    wanted = [[b.tolist() for b in forward.update(u)] for u in range(20)]
    backward = Order(100, 8, 5, lengths=lengths, accumulation=2)
    assert [[b.tolist() for b in backward.update(u)] for u in reversed(range(20))] == wanted[::-1]


def test_epochs_and_seeds_differ():
    order, other = Order(50, 50, 1), Order(50, 50, 2)
    assert not np.array_equal(order.epoch(0)[0], order.epoch(1)[0])
    assert not np.array_equal(order.epoch(0)[0], other.epoch(0)[0])


def test_bucketing_puts_like_lengths_together_but_shuffles_batches():
    lengths = permutation(1000, 1)
    batches = Order(1000, 10, 3, lengths=lengths, window=100).epoch(0)
    spread = [int(lengths[b].max() - lengths[b].min()) for b in batches]
    assert max(spread) == 9
    firsts = [int(lengths[b].min()) for b in batches]
    assert firsts != sorted(firsts)


def test_overfit_repeats_the_first_batch():
    order = Order(50, 8, 1, overfit=True, accumulation=2)
    first = Order(50, 8, 1).epoch(0)[0].tolist()
    assert [[b.tolist() for b in order.update(u)] for u in (0, 9)] == [[first, first], [first, first]]


def test_no_examples():
    with pytest.raises(ValueError, match="no training examples"):
        Order(0, 8, 1)


PINNED = [1, 10, 8, 5, 7, 0, 9, 4, 6, 3, 2, 11]
