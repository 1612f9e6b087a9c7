"""Closed forms whose warm-up is a share of the training, and whose fall ends one update after the last."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from quincunx.config.sections.training import Course, Schedule
from quincunx.engine.schedule import build_schedule, rate
from quincunx.errors import UsageError

KINDS = st.sampled_from(["linear", "cos"])


class Turning(Schedule):
    """A schedule that turns where it is told."""

    share: float = 0.0
    past_end: bool = True

    def course(self, total: int) -> Course:
        warmup = self.warmup or math.floor(Fraction(repr(self.share)) * total)
        return Course(warmup, math.inf if self.past_end else self.final_div_factor, past_end=self.past_end)


def turning(**settings: object) -> Turning:
    return Turning.model_validate(settings)


def rates_of(schedule: Schedule, base: float, total: int) -> list[float]:
    return [rate(schedule, base, update, total, 1) for update in range(total)]


def test_the_course_of_the_shared_schedule_is_its_settings() -> None:
    schedule = Schedule(kind="cos", warmup=7, final_div_factor=25.0)
    assert schedule.course(10) == schedule.course(1000) == Course(7, 25.0, past_end=False)


@pytest.mark.parametrize("kind", ["linear", "cos"])
def test_a_tenth_of_50_updates_is_a_warm_up_of_5(kind: str) -> None:
    shared = turning(kind=kind, share=0.1, past_end=False)
    counted = Schedule.model_validate({"kind": kind, "warmup": 5})
    assert rates_of(shared, 0.3, 50) == rates_of(counted, 0.3, 50)


@given(KINDS, st.floats(1e-6, 1.0), st.integers(1, 200), st.data())
@example("linear", 0.5, 1, None)
def test_no_update_has_the_rate_of_the_end(kind: str, base: float, total: int, data: st.DataObject | None) -> None:
    warmup = data.draw(st.integers(0, total - 1)) if data else 0
    found = rates_of(turning(kind=kind, warmup=warmup), base, total)
    assert min(found) > 0
    assert max(found) == base == found[min(warmup, total - 1)]
    falling = found[warmup:]
    assert all(later < earlier for earlier, later in itertools.pairwise(falling))
    if kind == "linear":
        assert falling[-1] == pytest.approx(base / (total - warmup), rel=1e-9)


@settings(max_examples=30, deadline=None)  # transformers is imported at first use
@given(KINDS, st.floats(1e-6, 1.0), st.integers(2, 120), st.data())
def test_the_fall_is_that_of_transformers_and_the_rise_one_update_ahead(
    kind: str, base: float, total: int, data: st.DataObject
) -> None:
    """Theirs begins at rate 0, so that its first update does nothing, and reaches update s's rate here at s + 1."""
    warmup = data.draw(st.integers(0, total - 1))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
    make = {
        "linear": transformers.get_linear_schedule_with_warmup,
        "cos": transformers.get_cosine_schedule_with_warmup,
    }[kind]
    theirs = make(optimizer, num_warmup_steps=warmup, num_training_steps=total)
    expected: list[float] = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-15)
    found = rates_of(turning(kind=kind, warmup=warmup), base, total)
    assert found[warmup:] == pytest.approx(expected[warmup:], rel=1e-9, abs=1e-15)
    assert found[:warmup] == pytest.approx(expected[1 : warmup + 1], rel=1e-9)


def test_the_rates_reach_the_groups() -> None:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [each], "lr": lr} for each, lr in zip(parameters, (1.0, 0.5), strict=True)])
    control, notes = build_schedule(turning(kind="linear", warmup=2), optimizer, 6, 3)
    used: list[list[float]] = []
    for update in range(6):
        control.set(update)
        used.append(control.rates())
    assert notes == []
    assert [first for first, _ in used] == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert [second for _, second in used] == [0.25, 0.5, 0.5, 0.375, 0.25, 0.125]


@pytest.mark.parametrize("past_end", [False, True])
def test_a_warm_up_that_fills_the_training_is_refused(past_end: bool) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    build_schedule(turning(kind="linear", warmup=9, past_end=past_end), optimizer, 10, 5)
    with pytest.raises(UsageError, match=r"schedule\.warmup \(10 updates\) leaves none of the 10"):
        build_schedule(turning(kind="linear", warmup=10, past_end=past_end), optimizer, 10, 5)
