"""The arithmetic of runs, by hand."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.config.plan import Interval, describe, interval, make_plan, total_updates
from quincunx.config.schema import Sizes
from quincunx.recipes import schema_of


def config(**sections: Any) -> Any:
    return schema_of("long_range").config.model_validate(sections)


@pytest.mark.parametrize(
    ("examples", "batch", "accumulation", "epochs", "batches", "updates", "total"),
    [
        (100, 10, 1, 1, 10, 10, 10),
        (101, 10, 1, 2, 11, 11, 22),  # a short last batch
        (101, 10, 4, 2, 11, 3, 6),  # a last update of three batches
        (3, 10, 1, 5, 1, 1, 5),  # fewer examples than a batch
        (3, 10, 9, 5, 1, 1, 5),
        (96_000, 32, 1, 20, 3000, 3000, 60_000),  # the guide's ListOps
    ],
)
def test_updates(examples, batch, accumulation, epochs, batches, updates, total):
    made = make_plan(
        config(update={"batch_size": batch, "accumulation": accumulation}, budget={"epochs": epochs}),
        Sizes(train=examples),
    )
    assert (made.batches_per_epoch, made.updates_per_epoch, made.total_updates) == (batches, updates, total)
    assert made.stop_at == total


def test_groups_are_cut_into_batches_apart():
    sizes = Sizes(train=101, groups=(60, 41))
    made = make_plan(config(update={"batch_size": 10, "accumulation": 4}, budget={"epochs": 2}), sizes)
    assert (made.batches_per_epoch, made.updates_per_epoch, made.total_updates) == (6 + 5, 3, 6)
    made = make_plan(config(update={"batch_size": 50}, budget={"epochs": 1}), sizes)
    assert (made.batches_per_epoch, made.total_updates) == (3, 3)
    asked = config(update={"batch_size": 50}, budget={"epochs": 1})
    assert total_updates(asked, sizes) == 3, "rules count as the plan does"
    assert json.loads(json.dumps(made.to_json()))["sizes"]["groups"] == [60, 41]


def test_an_epoch_may_be_so_many_logical_batches_and_end_within_an_update():
    asked = {"update": {"batch_size": 8, "accumulation": 4}, "budget": {"epochs": 3, "batches_per_epoch": 10}}
    made = make_plan(config(**asked), Sizes(train=24))
    assert (made.batches_per_epoch, made.updates_per_epoch) == (10, Fraction(5, 2)), "a pass has 3 batches"
    assert made.total_updates == 8, "30 logical batches are 7.5 updates"
    assert [update for update in range(1, 9) if made.evaluate_every.fires(update)] == [3, 5, 8]
    assert json.loads(json.dumps(made.to_json()))["updates_per_epoch"] == 2.5
    assert ("updates per epoch", "2.5 (10 logical batches)") in describe(made, config(**asked))


def test_saving_may_be_counted_in_logical_batches():
    asked = {"update": {"accumulation": 4}, "checkpoint": {"every_batches": 10}}
    made = make_plan(config(**asked), Sizes(train=10_000))
    assert [update for update in range(1, 9) if made.checkpoint_every.fires(update)] == [3, 5, 8]
    made = make_plan(config(update={"accumulation": 4}, checkpoint={"every_batches": 2}), Sizes(train=10_000))
    assert made.checkpoint_every == Interval(Fraction(1)), "never more often than the weights change"


def test_updates_may_be_given_outright_and_stopped_before():
    assert make_plan(config(), Sizes(train=64)).total_updates == 2, "one epoch of batches of 32"
    made = make_plan(config(budget={"updates": 7}), Sizes(train=64))
    assert (made.total_updates, made.stop_at) == (7, 7)
    made = make_plan(config(budget={"updates": 7, "stop_at": 3}), Sizes(train=64))
    assert (made.total_updates, made.stop_at) == (7, 3)
    made = make_plan(config(budget={"updates": 7, "stop_at": 30}), Sizes(train=64))
    assert made.stop_at == 7


@pytest.mark.parametrize(
    ("frequency", "per_epoch", "wanted"),
    [
        ("epoch", 7, 7),
        (3, 7, 3),
        (1, 7, 1),
        (1.0, 7, 7),
        (0.5, 7, Fraction(7, 2)),
        (0.1, 30, 3),  # a tenth, not the float next to it
        (0.01, 7, 1),  # at least one update
        (100, 7, 100),
    ],
)
def test_intervals_in_updates(frequency, per_epoch, wanted):
    found = interval(frequency, per_epoch)
    assert found == Interval(Fraction(wanted))
    assert interval(None, per_epoch) is None


@given(st.fractions(min_value=1, max_value=40), st.integers(1, 400))
def test_an_interval_fires_once_for_each_of_its_multiples(updates, end):
    """At the first update at or after each multiple, found here by walking along."""
    wanted, multiple = [], updates
    while -(-multiple // 1) <= end:
        wanted.append(-(-multiple // 1))
        multiple += updates
    assert [u for u in range(1, end + 1) if Interval(updates).fires(u)] == sorted(set(wanted))


@given(st.integers(1, 8), st.integers(1, 60))
def test_shares_of_an_epoch_meet_its_end(share, per_epoch):
    found = interval(1 / share if share in (1, 2, 4, 5, 8) else 0.5, per_epoch)
    assert found is not None
    assert all(found.fires(per_epoch * epoch) for epoch in range(1, 5))


@pytest.mark.parametrize(
    ("chunking", "own", "wanted"),
    [({}, None, None), ({"samples": 8}, None, 8), ({}, 4, 4), ({"samples": 8}, 4, 4), ({"samples": 3}, 4, 3)],
)
def test_the_smaller_limit_of_a_chunk_applies(chunking, own, wanted):
    made = make_plan(config(chunking=chunking), Sizes(train=10), own)
    assert made.chunk_samples == wanted
    assert made.evaluation_batch == (wanted or 32)


def test_evaluation_batches():
    made = make_plan(config(evaluate={"batch_size": 5, "max_batches": 3}, update={"batch_size": 8}), Sizes(train=10))
    assert made.evaluation_batch == 5
    assert made.evaluation_limit == 24, "batches of update.batch_size, whatever is computed at once"


def test_a_plan_cannot_be_changed_and_is_plain_json():
    made = make_plan(config(evaluate={"every": 0.3}), Sizes(train=320, evaluation={"dev": 3}))
    with pytest.raises(FrozenInstanceError):
        made.total_updates = 3  # pyright: ignore[reportAttributeAccessIssue]
    plain = json.loads(json.dumps(made.to_json()))
    assert plain["total_updates"] == 10
    assert plain["evaluate_every"] == "3"
    assert plain["checkpoint_every"] == "10"
    assert plain["sizes"]["evaluation"] == {"dev": 3}
    bigger = made.with_model({"trainable": 3, "total": 4}, None)
    assert made.parameters is None
    assert bigger.parameters == {"trainable": 3, "total": 4}


@pytest.mark.parametrize(
    ("sections", "label", "text"),
    [
        ({}, "chunks", "none: a logical batch is computed whole"),
        ({"chunking": {"tokens": 4096}}, "chunks", "at most 4,096 tokens at once"),
        ({"chunking": {"tokens": 40, "samples": 2}}, "chunks", "at most 2 examples and 40 tokens at once"),
        ({"evaluate": {"every": None}}, "evaluation", "at the end only, on 50 development examples, 32 at once"),
        ({"evaluate": {"every": 1}}, "evaluation", "every update, on 50"),
        ({"evaluate": {"max_batches": 1}}, "evaluation", "on 32 development"),
        ({"log": {"every": 1}}, "log", "every update"),
        ({"log": {"every": 2}}, "log", "every 2 updates"),
        ({"schedule": {"kind": "exp_decay"}}, "schedule", "exp_decay, times 0.9 per epoch"),
        ({"schedule": {"kind": "fixed"}}, "schedule", "fixed"),
        ({"schedule": {"_target_": "torch.optim.lr_scheduler.StepLR"}}, "schedule", "torch.optim.lr_scheduler.StepLR"),
    ],
)
def test_what_is_said_of_a_plan(sections, label, text):
    checked = config(**sections)
    rows = dict(describe(make_plan(checked, Sizes(train=100, evaluation={"dev": 50})), checked))
    assert text in rows[label]


def test_sizes_are_said_in_units():
    memory = {"weights": 3 * 2**20, "activations": 5 * 2**30, "total": 5 * 2**30 + 3 * 2**20}
    made = make_plan(config(), Sizes(train=100)).with_model({"trainable": 1, "total": 2000}, memory)
    rows = dict(describe(made, config()))
    assert rows["parameters"] == "1 trainable of 2,000 (0.05 %)"
    assert rows["memory, estimated"] == "5 GiB (weights 3 MiB, activations 5 GiB)"


@pytest.mark.parametrize(
    ("asked", "text"), [({}, "as many at once as a budget of tokens allows"), ({"batch_size": 7}, "7 at once")]
)
def test_it_is_said_where_a_budget_of_tokens_makes_the_batches_of_an_evaluation(asked, text):
    checked = schema_of("retrieval").config.model_validate({"evaluate": asked})
    rows = dict(describe(make_plan(checked, Sizes(train=100, evaluation={"dev": 50})), checked))
    assert rows["evaluation"].endswith(f"50 development examples, {text}")
