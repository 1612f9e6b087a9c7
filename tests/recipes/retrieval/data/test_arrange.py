"""Which examples make up an epoch and which of them a batch: functions of (seed, epoch) alone."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.data.order import Order
from quincunx.errors import UsageError
from quincunx.recipes.retrieval.data.arrange import Mixture, NoDuplicates, SameDataset
from quincunx.recipes.retrieval.data.ragged import Ragged, offsets_of

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=4)


def texts(rows: list[list[int]]) -> Ragged:
    return Ragged(
        offsets_of(np.array([len(row) for row in rows])), np.array([x for row in rows for x in row], np.int64)
    )


def order(arrangement, batch_size: int, **settings) -> Order:
    return Order(sum(arrangement.groups), batch_size, 3, arrangement=arrangement, **settings)


@given(SIZES, st.data())
def test_a_weight_says_how_often_each_anchor_comes(sizes, data):
    weights = [data.draw(st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0])) for _ in sizes]
    mixture = Mixture.of(sizes, weights)
    assert mixture.counts == tuple(max(1, int(n * w + 0.5)) for n, w in zip(sizes, weights, strict=True))
    epochs = 5
    numbers = [mixture.examples(7, epoch) for epoch in range(epochs)]
    for k, size in enumerate(sizes):
        start = mixture.starts[k]
        for drawn in numbers:
            assert ((drawn >= start) & (drawn < start + size)).sum() == mixture.counts[k]
        seen = Counter(np.concatenate(numbers).tolist())
        times = [seen[int(start) + i] for i in range(size)]
        assert max(times) - min(times) <= 1, "none again before each came as often"
        assert sum(times) == epochs * mixture.counts[k]


def test_without_weights_each_anchor_comes_once():
    mixture = Mixture.of([4, 3])
    assert sorted(mixture.examples(1, 5).tolist()) == list(range(7))
    assert mixture.groups == (7,)


def test_a_mixture_is_the_same_for_the_same_seed_and_another_for_others():
    mixture = Mixture.of([40], [0.5])
    assert mixture.examples(1, 3).tolist() == Mixture.of([40], [0.5]).examples(1, 3).tolist()
    assert sorted(mixture.examples(1, 2)) != sorted(mixture.examples(1, 4))
    assert sorted(mixture.examples(1, 2)) != sorted(mixture.examples(2, 2))


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")], [1.0, float("inf")]])
def test_weights_that_say_nothing_are_refused(weights):
    with pytest.raises(UsageError, match="weights"):
        Mixture.of([3, 4], weights)


@given(SIZES, st.integers(1, 9), st.integers(1, 3), st.booleans(), st.integers(0, 3))
def test_batches_of_one_set_each(sizes, batch_size, accumulation, bucketing, epoch):
    mixture = Mixture.of(sizes)
    lengths = (np.arange(sum(sizes)) * 7919) % 31 if bucketing else None
    made = order(SameDataset(mixture), batch_size, lengths=lengths, window=2, accumulation=accumulation)
    batches = made.epoch(epoch)
    assert made.batches_per_epoch == len(batches) == sum(-(-size // batch_size) for size in sizes)
    assert sorted(np.concatenate(batches).tolist()) == list(range(sum(sizes)))
    sets = [np.searchsorted(mixture.starts, batch, side="right") - 1 for batch in batches]
    assert all(len(set(found.tolist())) == 1 for found in sets)
    assert all(len(batch) <= batch_size for batch in batches)
    short = Counter(int(found[0]) for found, batch in zip(sets, batches, strict=True) if len(batch) < batch_size)
    assert not short or max(short.values()) == 1, "one short batch a set at most"


def test_sets_alternate_within_an_epoch():
    batches = order(SameDataset(Mixture.of([200, 200])), 10).epoch(0)
    sets = [int(batch[0] >= 200) for batch in batches]
    assert sum(a != b for a, b in pairwise(sets)) > 8
    assert sum(sets[:20]) > 4


@given(st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=3), min_size=1, max_size=60), st.data())
def test_no_duplicates_loses_nothing_and_keeps_the_number_of_batches(rows, data):
    batch_size, look_ahead = data.draw(st.integers(1, 9)), data.draw(st.integers(0, 20))
    arrangement = NoDuplicates(Mixture.of([len(rows)]), texts(rows), look_ahead)
    made = order(arrangement, batch_size)
    batches = made.epoch(data.draw(st.integers(0, 2)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(rows)))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert len(batches) == -(-len(rows) // batch_size)
    repeats = sum(
        any(set(rows[i]) & set(rows[j]) for j in batch[:place])
        for batch in (found.tolist() for found in batches)
        for place, i in enumerate(batch)
    )
    assert arrangement.repeats(batches) == repeats


def test_texts_that_can_be_kept_apart_are():
    rows = [[i // 4] for i in range(400)]  # every text four times
    arrangement = NoDuplicates(Mixture.of([400]), texts(rows))
    plain = Order(400, 50, 3).epoch(0)
    batches = order(arrangement, 50).epoch(0)
    assert arrangement.repeats(batches) < arrangement.repeats(plain) / 4
    assert all(arrangement.repeats([batch]) == 0 for batch in batches[:-1]), "what is left over comes last"


def test_what_cannot_be_kept_apart_is_in_the_batches_all_the_same():
    arrangement = NoDuplicates(Mixture.of([30]), texts([[0]] * 30), look_ahead=4)
    batches = order(arrangement, 10).epoch(0)
    assert [len(batch) for batch in batches] == [10, 10, 10]
    assert arrangement.repeats(batches) == 27


def test_an_example_set_aside_comes_with_the_next_batch():
    arrangement = NoDuplicates(Mixture.of([6]), texts([[0], [0], [1], [2], [3], [4]]))
    batches = arrangement.cut(np.arange(6), 3)
    assert [batch.tolist() for batch in batches] == [[0, 2, 3], [1, 4, 5]]


def test_of_many_that_are_aside_the_oldest_come_first():
    arrangement = NoDuplicates(Mixture.of([5]), texts([[0, 1, 2], [0], [1], [2], [5]]))
    assert [batch.tolist() for batch in arrangement.cut(np.arange(5), 2)] == [[0, 4], [1, 2], [3]]


def test_both_together():
    rows = [[i // 2] for i in range(40)]
    mixture = Mixture.of([20, 20])
    both = SameDataset(mixture, NoDuplicates(mixture, texts(rows)))
    batches = order(both, 5).epoch(1)
    assert sorted(np.concatenate(batches).tolist()) == list(range(40))
    assert all((batch >= 20).all() or (batch < 20).all() for batch in batches)
    assert len(batches) == 8
    assert NoDuplicates(mixture, texts(rows)).repeats(batches) <= 2


@pytest.mark.parametrize("kind", ["mixed", "same", "apart"])
def test_any_update_can_be_asked_for_in_any_order(kind):
    """So that a resumed run meets the batches it would have met."""
    mixture = Mixture.of([23, 14], [1.0, 1.5])
    arrangement = {
        "mixed": mixture,
        "same": SameDataset(mixture),
        "apart": NoDuplicates(mixture, texts([[i // 3] for i in range(37)])),
    }[kind]
    forward = order(arrangement, 4, accumulation=2)
    wanted = [[batch.tolist() for batch in forward.update(update)] for update in range(20)]
    backward = order(arrangement, 4, accumulation=2)
    assert [[batch.tolist() for batch in backward.update(u)] for u in reversed(range(20))] == wanted[::-1]
    assert forward.epoch(0)[0].tolist() != forward.epoch(1)[0].tolist()
