"""The order of examples is a pure function of seed and epoch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.data.order import Order, counter_hash, cut, permutation


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


@pytest.mark.parametrize("count", [3, 8, 50])
@pytest.mark.parametrize("accumulation", [1, 2, 3, 5])
def test_updates_that_flow_are_one_sequence_of_full_ones(count: int, accumulation: int):
    order = Order(count, 4, 1, accumulation=accumulation, flows=True)
    plain = Order(count, 4, 1)
    whole = [batch.tolist() for epoch in range(40) for batch in plain.epoch(epoch)]
    found = [[batch.tolist() for batch in order.update(update)] for update in range(8)]
    assert all(len(update) == accumulation for update in found)
    assert [batch for update in found for batch in update] == whole[: 8 * accumulation]
    fresh = Order(count, 4, 1, accumulation=accumulation, flows=True)
    assert [batch.tolist() for batch in fresh.update(7)] == found[7], "any update can be asked for first"


def test_overfit_repeats_the_first_batch():
    order = Order(50, 8, 1, overfit=True, accumulation=2)
    first = Order(50, 8, 1).epoch(0)[0].tolist()
    assert [[b.tolist() for b in order.update(u)] for u in (0, 9)] == [[first, first], [first, first]]
    flowing = Order(50, 8, 1, overfit=True, accumulation=2, flows=True)
    assert [b.tolist() for b in flowing.update(9)] == [first, first]


def test_no_examples():
    with pytest.raises(ValueError, match="no training examples"):
        Order(0, 8, 1)


class Halves:
    """The even numbers and the odd ones apart, below 2 * count; every other epoch begins at the second half."""

    groups = (7, 5)

    def examples(self, seed: int, epoch: int) -> np.ndarray:
        return np.arange(12) * 2 % 12 + np.arange(12) // 6 + 12 * (epoch % 2)

    def cut(self, shuffled: np.ndarray, batch_size: int) -> list[np.ndarray]:
        return [*cut(shuffled[:7], batch_size), *cut(shuffled[7:], batch_size)]


def test_an_arrangement_chooses_an_epochs_examples_and_cuts_them():
    order = Order(12, 4, 3, arrangement=Halves())
    assert order.batches_per_epoch == 2 + 2
    for epoch in range(4):
        batches = order.epoch(epoch)
        assert [len(batch) for batch in batches] == [4, 3, 4, 1]
        assert sorted(np.concatenate(batches).tolist()) == [12 * (epoch % 2) + i for i in range(12)]
    plain = np.concatenate(Order(12, 4, 3).epoch(0))
    wanted = Halves().examples(3, 0)[plain]
    assert np.concatenate(order.epoch(0)).tolist() == wanted.tolist(), "in the order that is shuffled for all"


def test_bucketing_goes_before_an_arrangement():
    lengths = permutation(24, 5)
    order = Order(12, 4, 3, arrangement=Halves(), lengths=lengths, window=50)
    ordered = sorted(range(12), key=lambda i: lengths[i])
    batches = sorted((batch.tolist() for batch in order.epoch(0)), key=lambda batch: ordered.index(batch[0]))
    assert batches == [ordered[:4], ordered[4:7], ordered[7:11], ordered[11:]]


def test_an_arrangement_keeps_to_its_numbers():
    with pytest.raises(ValueError, match="has 12 examples an epoch, expected 11"):
        Order(11, 4, 3, arrangement=Halves())

    class Short(Halves):
        def cut(self, shuffled: np.ndarray, batch_size: int) -> list[np.ndarray]:
            return cut(shuffled, batch_size)

    with pytest.raises(ValueError, match="made 3 batches, expected 4"):
        Order(12, 4, 3, arrangement=Short()).epoch(0)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**40), st.integers(0, 50))
def test_hashes_of_hashes_address_two_numbers(seed, first, second):
    """A second round takes the hashes of the first as its seeds, as the one-number hash would one by one."""
    outer = counter_hash(np.array([first]), seed)
    assert counter_hash(np.array([second]), outer).tolist() == counter_hash(np.array([second]), int(outer[0])).tolist()


PINNED = [1, 10, 8, 5, 7, 0, 9, 4, 6, 3, 2, 11]
