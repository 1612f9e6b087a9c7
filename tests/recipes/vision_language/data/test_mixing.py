"""Which task a batch comes from: shares are met, nothing is lost or doubled, any epoch can be asked for anywhere."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from quincunx.config.schema import Sizes
from quincunx.data.order import Order
from quincunx.errors import UsageError
from quincunx.recipes.vision_language.data.mixing import LAWS, Law, Mixing

SIZES = (1000, 300, 45)


def mixing(law: Law, sizes=SIZES, batch_size=10, **rest) -> Mixing:
    if law == "weights":
        rest.setdefault("weights", (0.5, 0.25, 0.25)[: len(sizes)])
    if law == "annealed":
        rest.setdefault("epochs", 5)
    return Mixing(tuple(sizes), batch_size, law, **rest)


def order_of(made: Mixing, seed: int = 3, **rest) -> Order:
    return Order(sum(made.groups), made.batch_size, seed, arrangement=made, **rest)


def tasks_of(made: Mixing, batches) -> list[int]:
    """Return the task of each batch, which is one."""
    found = [set(made.task_of(batch).tolist()) for batch in batches]
    assert all(len(each) == 1 for each in found)
    return [each.pop() for each in found]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("mixed", [False, True])
def test_the_orders_and_the_plans_arithmetic_hold(law: Law, mixed: bool):
    made = mixing(law, mixed=mixed)
    for lengths in (None, np.arange(sum(SIZES)) * 7919 % 61):
        order = order_of(made, lengths=lengths, window=5, accumulation=3)
        batches = order.epoch(2)
        assert len(batches) == order.batches_per_epoch == Sizes(1, groups=made.groups).batches(10)
        assert sum(map(len, batches)) == sum(made.groups)
        assert all(batch.min() >= 0 and batch.max() < sum(SIZES) for batch in batches)
        if not mixed:
            tasks_of(made, batches)
        if law != "roundrobin":
            assert sorted(map(len, batches))[1:] == [10] * (len(batches) - 1)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("mixed", [False, True])
def test_a_run_that_goes_on_is_one_that_never_stopped(law: Law, mixed: bool):
    """Any update can be asked of a fresh order, in any sequence, in any process."""
    made = mixing(law, mixed=mixed)
    whole = order_of(made, accumulation=2)
    total = whole.updates_per_epoch * 3
    wanted = {update: [batch.tolist() for batch in whole.update(update)] for update in range(total)}
    resumed = order_of(mixing(law, mixed=mixed), accumulation=2)
    for update in [total - 1, total // 2, total // 2 + 1, 0]:
        assert [batch.tolist() for batch in resumed.update(update)] == wanted[update]
    assert [b.tolist() for b in order_of(made, seed=4).epoch(0)] != [b.tolist() for b in order_of(made).epoch(0)]
    assert [b.tolist() for b in whole.epoch(1)] != [b.tolist() for b in whole.epoch(0)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(1, 9), st.booleans(), st.integers(0, 2))
def test_roundrobin_is_one_pass_over_everything(sizes, batch_size, mixed, epoch):
    made = Mixing(tuple(sizes), batch_size, mixed=mixed)
    batches = order_of(made).epoch(epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(sum(sizes)))
    if not mixed:
        counts = Counter(tasks_of(made, batches))
        assert [counts[task] for task in range(len(sizes))] == [-(-size // batch_size) for size in sizes]


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([law for law in LAWS if law != "roundrobin"]),
    st.lists(st.integers(1, 40), min_size=3, max_size=3),
    st.integers(1, 7),
    st.booleans(),
    st.sampled_from([None, "first_exhausted", "all_exhausted", "updates"]),
)
def test_no_example_comes_again_before_all_of_its_task_did(law, sizes, batch_size, mixed, stop):
    if law == "annealed" and stop in ("first_exhausted", "all_exhausted"):
        stop = None
    made = mixing(law, sizes, batch_size, mixed=mixed, stop=stop, units=5 if stop == "updates" else None)
    order = order_of(made)
    counts = np.zeros(sum(sizes), int)
    for epoch in range(4):
        for batch in order.epoch(epoch):
            np.add.at(counts, batch, 1)
        for start, end in zip(made.starts[:-1], made.starts[1:], strict=True):
            own = counts[start:end]
            assert own.max() - own.min() <= 1
        if stop == "all_exhausted" and epoch == 0:
            assert counts.min() >= 1
        if stop == "updates":
            assert order.batches_per_epoch == 5


@pytest.mark.parametrize("mixed", [False, True])
def test_first_exhausted_ends_with_the_first_task(mixed: bool):
    made = mixing("uniform", (30, 300), 10, stop="first_exhausted", mixed=mixed)
    assert made.quotas(0).tolist() == ([30, 30] if mixed else [3, 3])
    skewed = mixing("weights", (300, 30), 10, weights=(3.0, 1.0), stop="first_exhausted")
    assert skewed.quotas(0).tolist() == [9, 3]
    assert mixing("proportional", (5, 5000), 10, stop="first_exhausted").quotas(0).tolist() == [1, 500]
    once = order_of(mixing("uniform", (30, 300), 10, stop="first_exhausted")).epoch(0)
    assert len(np.unique(np.concatenate(once))) == 60


SHARES = {
    "round_robin": [1 / 3] * 3,
    "balanced": [1 / 3] * 3,
    "uniform": [1 / 3] * 3,
    "proportional": [1000 / 1345, 300 / 1345, 45 / 1345],
    "temperature": [10 / (10 + 300**0.5 / 10**0.5 + 45**0.5 / 10**0.5)],
    "weights": [0.5, 0.25, 0.25],
}


@pytest.mark.parametrize("law", SHARES)
@pytest.mark.parametrize("mixed", [False, True])
def test_shares_are_met(law: Law, mixed: bool):
    """Within a unit, over any number of epochs, not on average alone."""
    made = mixing(law, mixed=mixed, temperature=2.0)
    assert made.shares().sum() == pytest.approx(1)
    assert made.shares()[: len(SHARES[law])] == pytest.approx(SHARES[law])
    order = order_of(made)
    unit = 1 if mixed else 10
    counts = np.zeros(3)
    for epoch in range(6):
        counts += np.bincount(made.task_of(np.concatenate(order.epoch(epoch))), minlength=3) / unit
        assert np.abs(counts - made.shares() * counts.sum()).max() <= 1 + 1e-6


def test_a_share_of_less_than_a_batch_comes_to_its_turn():
    made = mixing("weights", (500, 10), 10, weights=(1.0, 0.001), stop="updates", units=50)
    found = [int(made.quotas(epoch)[1]) for epoch in range(200)]
    assert sum(found) == pytest.approx(200 * 50 * 0.001 / 1.001, abs=1) and max(found) == 1
    assert all(made.quotas(epoch).sum() == 50 for epoch in range(200))


@pytest.mark.parametrize("stop", [None, "first_exhausted", "all_exhausted", "updates"])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_task_of_weight_0_never_comes(stop, mixed: bool):
    units = 7 if stop == "updates" else None
    made = mixing("weights", (40, 20, 30), 10, weights=(1.0, 0.0, 1.0), stop=stop, units=units, mixed=mixed)
    for epoch in range(3):
        tasks = made.task_of(np.concatenate(order_of(made).epoch(epoch)))
        assert set(tasks.tolist()) == {0, 2}


def test_temperatures_go_from_proportional_to_uniform():
    assert mixing("temperature").shares() == pytest.approx(mixing("proportional").shares())
    assert mixing("temperature", temperature=1e9).shares() == pytest.approx(mixing("uniform").shares())


def test_annealed_shares_follow_the_paper():
    made = mixing("annealed", epochs=5)
    sizes = np.array(SIZES, float)
    for epoch in range(7):
        power = 1 - 0.8 * min(epoch, 4) / 4
        assert made.shares(epoch) == pytest.approx(sizes**power / (sizes**power).sum())
    assert made.quotas(4)[2] > made.quotas(0)[2] and made.quotas(4).sum() == made.quotas(0).sum()
    counts = np.sum([made.quotas(epoch) for epoch in range(5)], axis=0)
    wanted = np.sum([made.shares(epoch) for epoch in range(5)], axis=0) * made.quotas(0).sum()
    assert np.abs(counts - wanted).max() <= 1 + 1e-6


def test_balanced_goes_on_where_the_smallest_task_ends():
    """Six tasks of unlike sizes: each has the mean number of batches, none ends the epoch."""
    made = mixing("balanced", (100, 20, 30), 10)
    assert made.quotas(0).tolist() == [5, 5, 5]
    assert len(order_of(made).epoch(0)) == 15


def test_round_robin_takes_tasks_in_turn():
    made = mixing("round_robin", (100, 20, 30), 10)
    assert tasks_of(made, order_of(made).epoch(1)) == [0, 1, 2] * 5
    mixed = mixing("round_robin", (100, 20, 30), 10, mixed=True)
    found = mixed.task_of(np.concatenate(order_of(mixed).epoch(1))).tolist()
    assert found == [0, 1, 2] * 50


@pytest.mark.parametrize("law", ["roundrobin", "proportional", "uniform", "temperature", "weights", "balanced"])
def test_tasks_come_in_any_order(law: Law):
    """Where a task's batches stand within an epoch is spread evenly, and independent of the one before."""
    made = mixing(law, (400, 240, 160), 10, temperature=3.0)
    order = order_of(made)
    sequences = [tasks_of(made, order.epoch(epoch)) for epoch in range(60)]
    length = len(sequences[0])
    tenths = np.zeros((3, 10))
    pairs = np.zeros((3, 3))
    for sequence in sequences:
        for place, task in enumerate(sequence):
            tenths[task, place * 10 // length] += 1
        for one, other in pairwise(sequence):
            pairs[one, other] += 1
    assert stats.chi2_contingency(tenths).pvalue > 1e-3
    # neighbours repeat a little less often than independent draws would, since quotas are fixed
    counts = np.array([np.mean([sequence.count(task) for sequence in sequences]) for task in range(3)])
    wanted = np.outer(counts, counts) - np.diag(counts)
    wanted *= pairs.sum() / wanted.sum()
    assert stats.chisquare(pairs.ravel(), wanted.ravel()).pvalue > 1e-3


def test_mixed_batches_hold_tasks_as_draws_without_replacement_would():
    made = mixing("uniform", (400, 240, 160), 16, mixed=True)
    order = order_of(made)
    found = [int((made.task_of(b) == 0).sum()) for epoch in range(20) for b in order.epoch(epoch) if len(b) == 16]
    quota, total = int(made.quotas(0)[0]), int(made.quotas(0).sum())
    law = stats.hypergeom(total, quota, 16)
    edges = [0, 3, 4, 5, 6, 7, 8, 17]
    observed = np.histogram(found, edges)[0]
    expected = np.array([law.cdf(high - 1) - law.cdf(low - 1) for low, high in pairwise(edges)])
    assert stats.chisquare(observed, expected * len(found) / expected.sum()).pvalue > 1e-3


def test_examples_within_a_task_are_shuffled_every_epoch():
    made = mixing("uniform", (50, 50), 10, stop="all_exhausted")
    first, second = (np.concatenate(order_of(made).epoch(epoch)) for epoch in (0, 1))
    assert [n for n in first if n < 50] != [n for n in second if n < 50]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(100))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"sizes": ()}, "every task and every batch needs an example"),
        ({"sizes": (5, 0)}, r"found tasks of \[5, 0\]"),
        ({"law": "fair"}, "no mixing fair until None; expected roundrobin"),
        ({"law": "uniform", "stop": "never"}, "no mixing uniform until never"),
        ({"stop": "all_exhausted"}, "roundrobin is one pass over all tasks and takes no stop"),
        ({"law": "annealed"}, "annealed shares change"),
        ({"law": "annealed", "epochs": 3, "stop": "all_exhausted"}, "annealed shares change"),
        ({"law": "weights"}, "weights belong to the law weights"),
        ({"law": "uniform", "weights": (1.0, 1.0)}, "weights belong to the law weights"),
        ({"law": "weights", "weights": (1.0,)}, r"expected 2 weights, one a task, not all of them 0, found \[1.0\]"),
        ({"law": "weights", "weights": (1.0, -1.0)}, "expected 2 weights"),
        ({"law": "weights", "weights": (0.0, 0.0)}, "not all of them 0"),
        ({"law": "weights", "weights": (1.0, float("nan"))}, "expected 2 weights"),
        ({"law": "temperature", "temperature": 0.0}, "temperature is above 0, found 0.0"),
        ({"law": "uniform", "stop": "updates"}, "needs the number of logical batches"),
        ({"law": "uniform", "units": 4}, "needs the number of logical batches"),
        ({"law": "uniform", "stop": "updates", "units": 0}, "1 or more"),
    ],
)
def test_contradictions_are_refused(settings: dict, reason: str):
    with pytest.raises(UsageError, match=reason):
        Mixing(**{"sizes": (5, 5), "batch_size": 2, **settings})


def test_every_law_and_stop_is_deterministic_across_objects():
    for law, mixed in product(LAWS, (False, True)):
        one, other = mixing(law, mixed=mixed), mixing(law, mixed=mixed)
        assert np.array_equal(one.examples(1, 3), other.examples(1, 3))
        assert all(map(np.array_equal, order_of(one).epoch(3), order_of(other).epoch(3)))
