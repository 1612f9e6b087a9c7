"""Learning rates: closed forms by their defining properties, schedule objects by resuming them."""

from __future__ import annotations

import copy
import io
import itertools
import math
import sys
import types
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from quincunx.config.schema import Target
from quincunx.config.sections.training import Schedule
from quincunx.config.target import TargetError
from quincunx.engine.schedule import ClosedForm, Stepped, build_schedule, rate
from quincunx.errors import CheckpointError, UsageError

BASES = st.floats(1e-7, 10.0)
TOTALS = st.integers(1, 400)


def node(path: str, **arguments: object) -> Target:
    return Target.model_validate({"_target_": path, **arguments})


def sgd(*rates: float, **options: Any) -> torch.optim.SGD:
    groups = [{"params": [nn.Parameter(torch.ones(2))], "lr": value} for value in rates or (0.1,)]
    return torch.optim.SGD(groups, **options)


def rates_of(schedule: Schedule, base: float, total: int, per_epoch: int = 1) -> list[float]:
    return [rate(schedule, base, update, total, per_epoch) for update in range(total)]


@given(BASES, TOTALS)
def test_fixed_never_moves(base: float, total: int) -> None:
    assert set(rates_of(Schedule(kind="fixed"), base, total)) == {base}


@given(BASES, st.floats(0.1, 1.0), st.integers(1, 8), st.integers(1, 40))
def test_exponential_decay_is_one_factor_per_epoch(base: float, decay: float, epochs: int, per_epoch: int) -> None:
    found = rates_of(Schedule(kind="exp_decay", decay=decay), base, epochs * per_epoch, per_epoch)
    for epoch in range(epochs):
        assert set(found[epoch * per_epoch : (epoch + 1) * per_epoch]) == {base * decay**epoch}


@given(BASES, st.floats(0.1, 0.99), st.integers(1, 8), st.integers(1, 40))
def test_smooth_decay_meets_the_stepped_one_where_epochs_begin(
    base: float, decay: float, epochs: int, per_epoch: int
) -> None:
    total = epochs * per_epoch
    smooth = rates_of(Schedule(kind="exp_decay", decay=decay, smooth=True), base, total, per_epoch)
    stepped = rates_of(Schedule(kind="exp_decay", decay=decay), base, total, per_epoch)
    assert smooth[::per_epoch] == stepped[::per_epoch]
    assert all(later < earlier for earlier, later in itertools.pairwise(smooth))
    assert all(a <= b for a, b in zip(smooth, stepped, strict=True))
    ratios = [later / earlier for earlier, later in itertools.pairwise(smooth)]
    assert all(ratio == pytest.approx(decay ** (1 / per_epoch), rel=1e-12) for ratio in ratios)


@given(st.sampled_from(["linear", "cos"]), BASES, st.integers(2, 400), st.floats(1.0, 1e6), st.data())
def test_warm_up_peak_and_end(kind: str, base: float, total: int, factor: float, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, total - 1))
    schedule = Schedule.model_validate({"kind": kind, "warmup": warmup, "final_div_factor": factor})
    found = rates_of(schedule, base, total)
    assert found[-1] == base / factor
    if warmup:
        assert found[warmup - 1] == base
        differences = [later - earlier for earlier, later in itertools.pairwise([0.0, *found[:warmup]])]
        assert all(step == pytest.approx(base / warmup, rel=1e-9) for step in differences)
    if warmup < total - 1:
        assert found[warmup] == base
    falling = found[warmup:]
    assert all(later <= earlier for earlier, later in itertools.pairwise(falling))
    assert max(found) <= base


@given(BASES, st.integers(3, 300), st.integers(0, 50))
def test_linear_falls_by_equal_steps(base: float, length: int, warmup: int) -> None:
    falling = rates_of(Schedule(kind="linear", warmup=warmup, final_div_factor=10.0), base, warmup + length)[warmup:]
    step = 0.9 * base / (length - 1)
    assert all(a - b == pytest.approx(step, rel=1e-9) for a, b in itertools.pairwise(falling))


@given(BASES, st.integers(1, 100), st.integers(0, 50))
def test_cosine_is_half_way_at_half_time_and_symmetric_about_it(base: float, half: int, warmup: int) -> None:
    total = warmup + 2 * half + 1
    falling = rates_of(Schedule(kind="cos", warmup=warmup, final_div_factor=4.0), base, total)[warmup:]
    middle = (base + base / 4) / 2
    assert falling[half] == pytest.approx(middle, rel=1e-12)
    assert all(
        a - middle == pytest.approx(middle - b, abs=1e-12 * base) for a, b in zip(falling, falling[::-1], strict=True)
    )


@settings(max_examples=20, deadline=None)
@given(BASES, st.integers(2, 200), st.floats(1.0, 1e4))
def test_cosine_equals_torchs(base: float, total: int, factor: float) -> None:
    ours = rates_of(Schedule(kind="cos", final_div_factor=factor), base, total)
    optimizer = sgd(base)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - 1, eta_min=base / factor)
    for expected in ours:
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, abs=1e-12 * max(1.0, base))
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("kind", ["linear", "cos"])
def test_the_last_update_has_the_final_rate_even_right_after_the_warm_up(kind: str) -> None:
    schedule = Schedule.model_validate({"kind": kind, "warmup": 3, "final_div_factor": 10.0})
    assert rates_of(schedule, 3.0, 4) == [1.0, 2.0, 3.0, 0.3]
    assert rates_of(Schedule.model_validate({"kind": kind, "final_div_factor": 10.0}), 3.0, 1) == [0.3]


@pytest.mark.parametrize("update", [-1, 10])
def test_updates_outside_the_training_are_refused(update: int) -> None:
    with pytest.raises(ValueError, match=r"outside 0 \.\. 9"):
        rate(Schedule(), 1.0, update, 10, 1)


def test_groups_keep_their_own_base_rates() -> None:
    optimizer = sgd(1.0, 0.25)
    schedule = Schedule(kind="linear", warmup=2, final_div_factor=10.0)
    control, notes = build_schedule(schedule, optimizer, total=12, per_epoch=3)
    assert notes == []
    for update in (7, 0, 11, 1):  # in no order: a closed form has no memory
        control.set(update)
        assert control.rates() == [group["lr"] for group in optimizer.param_groups]
        assert control.rates() == [rate(schedule, base, update, 12, 3) for base in (1.0, 0.25)]
    control.after_update()
    assert control.rates() == [1.0, 0.25] and control.state_dict() == {}


@pytest.mark.parametrize("optimizer_first", [True, False])
def test_a_resumed_closed_form_starts_from_the_base_rate_not_the_decayed_one(optimizer_first: bool) -> None:
    schedule = Schedule(kind="exp_decay", decay=0.5)
    optimizer = sgd(0.8)
    control = ClosedForm(schedule, optimizer, 10, 1)
    control.set(3)
    saved = copy.deepcopy(optimizer.state_dict())
    fresh = sgd(0.8)
    if optimizer_first:
        fresh.load_state_dict(saved)
    again = ClosedForm(schedule, fresh, 10, 1)
    if not optimizer_first:
        fresh.load_state_dict(saved)
    again.load_state_dict(control.state_dict())
    again.set(4)
    assert again.rates() == [0.05]


def test_a_rate_that_is_a_tensor_stays_the_same_tensor() -> None:
    tensor = torch.tensor(0.5)
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(2))], lr=tensor)
    held = optimizer.param_groups[0]["lr"]
    control = ClosedForm(Schedule(kind="exp_decay", decay=0.5), optimizer, 10, 1)
    control.set(2)
    control.set(3)
    assert optimizer.param_groups[0]["lr"] is held and control.rates() == [0.0625]


def test_an_optimizer_that_finds_its_own_rate_takes_only_fixed() -> None:
    transformers = pytest.importorskip("transformers")
    optimizer = transformers.Adafactor([nn.Parameter(torch.ones(2))])
    control, _ = build_schedule(Schedule(), optimizer, 5, 1)
    control.set(4)
    assert control.rates() == [] and optimizer.param_groups[0]["lr"] is None
    with pytest.raises(UsageError, match="Adafactor has none"):
        build_schedule(Schedule(kind="cos"), optimizer, 5, 1)


def test_closed_forms_that_cannot_be() -> None:
    with pytest.raises(UsageError, match=r"schedule\.warmup \(10 updates\) leaves none of the 10"):
        build_schedule(Schedule(kind="cos", warmup=10), sgd(), 10, 1)
    build_schedule(Schedule(kind="exp_decay", warmup=1000), sgd(), 10, 1)
    with pytest.raises(UsageError, match="beyond all bounds"):
        build_schedule(Schedule(kind="exp_decay", decay=10.0), sgd(), 1000, 1)


def train(optimizer: torch.optim.Optimizer, control: Any, updates: range) -> list[list[float]]:
    """Updates with a gradient that depends on the update; returns the rates used."""
    used: list[list[float]] = []
    for update in updates:
        control.set(update)
        used.append(control.rates())
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.full_like(parameter, math.sin(update + 1))
        optimizer.step()
        control.after_update()
        assert control.rates() == used[-1], "told are those of the last update, not of the next"
    return used


OBJECTS = [
    node("torch.optim.lr_scheduler.CosineAnnealingLR", T_max=11, eta_min=1e-3),
    node("torch.optim.lr_scheduler.CosineAnnealingWarmRestarts", T_0=3),
    node("torch.optim.lr_scheduler.StepLR", step_size=3),
    node("torch.optim.lr_scheduler.MultiStepLR", milestones=[2, 5, 5]),
    node("torch.optim.lr_scheduler.OneCycleLR", max_lr=0.5, total_steps=12),
    node("torch.optim.lr_scheduler.CyclicLR", base_lr=0.1, max_lr=0.3, step_size_up=4),
    node("torch.optim.lr_scheduler.LinearLR", total_iters=6, _partial_=True),
    node("transformers.get_cosine_schedule_with_warmup", num_warmup_steps=3),
    node("transformers.get_linear_schedule_with_warmup", num_warmup_steps=3, num_training_steps=9),
    node("transformers.get_wsd_schedule", num_warmup_steps=2, num_decay_steps=4),
    node("transformers.get_constant_schedule"),
]


@pytest.mark.parametrize("config", OBJECTS, ids=lambda config: config.target.rpartition(".")[2])
@pytest.mark.parametrize("optimizer_first", [True, False])
def test_schedule_objects_go_on_bit_for_bit(config: Target, optimizer_first: bool) -> None:
    def fresh() -> torch.optim.SGD:
        return sgd(0.1, 0.03, momentum=0.9)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = fresh()
        control, _ = build_schedule(config, optimizer, total=12, per_epoch=4)
        assert isinstance(control, Stepped)
        used = train(optimizer, control, range(12))
        for stop in (1, 7):
            first = fresh()
            control, _ = build_schedule(config, first, total=12, per_epoch=4)
            assert train(first, control, range(stop)) == used[:stop]
            file = io.BytesIO()
            weights = [parameter.detach() for group in first.param_groups for parameter in group["params"]]
            torch.save([weights, first.state_dict(), control.state_dict()], file)
            file.seek(0)
            weights, optimizer_state, control_state = torch.load(file, weights_only=True)
            second = fresh()
            if optimizer_first:
                second.load_state_dict(optimizer_state)
            control, _ = build_schedule(config, second, total=12, per_epoch=4)
            control.load_state_dict(control_state)
            if not optimizer_first:
                second.load_state_dict(optimizer_state)
            for parameter, value in zip(
                [parameter for group in second.param_groups for parameter in group["params"]], weights, strict=True
            ):
                parameter.data.copy_(value)
            assert train(second, control, range(stop, 12)) == used[stop:]
            for mine, theirs in zip(optimizer.param_groups, second.param_groups, strict=True):
                assert torch.equal(mine["params"][0], theirs["params"][0])


def test_a_saved_state_does_not_change_with_the_training() -> None:
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(2))], lr=torch.tensor(0.5))  # a rate changed in place
    control, _ = build_schedule(node("torch.optim.lr_scheduler.StepLR", step_size=1), optimizer, 12, 4)
    saved = control.state_dict()
    before = copy.deepcopy(saved)
    train(optimizer, control, range(3))
    assert saved == before and control.state_dict() != before


def test_transformers_schedules_get_the_total_where_none_is_given() -> None:
    optimizer = sgd(1.0)
    control, notes = build_schedule(
        node("transformers.get_linear_schedule_with_warmup", num_warmup_steps=2), optimizer, total=6, per_epoch=3
    )
    assert notes == ["schedule: num_training_steps is 6, the number of updates of this training"]
    assert [pair[0] for pair in train(optimizer, control, range(6))] == [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_warmup_steps": 2, "num_training_steps": 4},
        {"_args_": [2, 4]},
    ],
)
def test_a_total_of_the_config_stands(arguments: dict[str, Any]) -> None:
    optimizer = sgd(1.0)
    control, notes = build_schedule(node("transformers.get_linear_schedule_with_warmup", **arguments), optimizer, 6, 3)
    assert notes == []
    assert [pair[0] for pair in train(optimizer, control, range(6))] == [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]


def test_positional_arguments_before_the_total() -> None:
    optimizer = sgd(1.0)
    config = node("transformers.get_linear_schedule_with_warmup", _args_=[2])
    control, notes = build_schedule(config, optimizer, 6, 3)
    assert len(notes) == 1 and [pair[0] for pair in train(optimizer, control, range(3))] == [0.0, 0.5, 1.0]


def test_a_stable_length_stands_in_for_the_total() -> None:
    config = node("transformers.get_wsd_schedule", num_warmup_steps=1, num_stable_steps=2, num_decay_steps=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build_schedule(config, sgd(), 20, 5)[1] == []


def test_a_one_cycle_that_is_too_short_is_refused_before_training() -> None:
    config = node("torch.optim.lr_scheduler.OneCycleLR", max_lr=0.5, epochs=2, steps_per_epoch=4)
    with pytest.raises(TargetError, match="ends after 8 updates, the training has 12"):
        build_schedule(config, sgd(momentum=0.9), 12, 4)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (node("torch.optim.lr_scheduler.ReduceLROnPlateau"), "needs metrics"),
        (node("torch.optim.lr_scheduler.StepLR", step_sze=3), "did you mean step_size"),
        (node("torch.optim.lr_scheduler.CosineAnnealingLR"), "needs T_max"),
        (node("torch.optim.SGD"), "this is the place of the schedule"),
        (node("torch.optim.lr_scheduler.LambdaLR", lr_lambda=0.5), "refuses its arguments"),
        (node("torch.hub.load", repo_or_dir="x", model="y"), "is a function"),
    ],
)
def test_refusals(config: Target, reason: str) -> None:
    with pytest.raises(TargetError, match=reason):
        build_schedule(config, sgd(), 12, 4)


def test_what_an_allowed_function_gives_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("workbench")
    scheduler = torch.optim.lr_scheduler

    class Unsaved(scheduler.LRScheduler):
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.rule = lambda step: step
            super().__init__(optimizer)

        def get_lr(self) -> list[float | torch.Tensor]:
            return [0.1 for _ in self.optimizer.param_groups]

    def make(optimizer: torch.optim.Optimizer, num_training_steps: int, what: str) -> object:
        if what == "warm":
            parts = [
                scheduler.LinearLR(optimizer, 0.5, 1.0, 2),
                scheduler.CosineAnnealingLR(optimizer, num_training_steps),
            ]
            return scheduler.SequentialLR(optimizer, parts, [2])
        found = {"unsaved": Unsaved, "plateau": scheduler.ReduceLROnPlateau}.get(what)
        return found(optimizer) if found else 3

    make.__module__, make.__qualname__ = "workbench", "make"
    module.__dict__["make"] = make
    monkeypatch.setitem(sys.modules, "workbench", module)

    def built(what: str) -> Any:
        return build_schedule(node("workbench.make", what=what), sgd(), 12, 4, ["workbench.make"])

    control, notes = built("warm")
    assert control.rates() == [0.05] and "num_training_steps is 12" in notes[0]
    with pytest.raises(TargetError, match="cannot be kept in a checkpoint"):
        built("unsaved")
    with pytest.raises(TargetError, match="needs metrics at every step"):
        built("plateau")
    with pytest.raises(TargetError, match="gives int"):
        built("nothing")


def test_states_of_the_wrong_kind_are_refused() -> None:
    closed = ClosedForm(Schedule(), sgd(), 12, 4)
    stepped, _ = build_schedule(node("torch.optim.lr_scheduler.StepLR", step_size=3), sgd(), 12, 4)
    with pytest.raises(CheckpointError, match="this config's has none"):
        closed.load_state_dict(stepped.state_dict())
    with pytest.raises(CheckpointError, match="holds no state"):
        stepped.load_state_dict(closed.state_dict())
    wider, _ = build_schedule(node("torch.optim.lr_scheduler.StepLR", step_size=3), sgd(0.1, 0.2), 12, 4)
    with pytest.raises(CheckpointError, match="has 1 groups of parameters, this one 2"):
        wider.load_state_dict(stepped.state_dict())
