"""Which differences between a run's config and the one it is resumed with are harmless."""

from __future__ import annotations

from typing import Any

import pytest

from quincunx.config.compare import compare
from quincunx.config.load import canonical
from quincunx.recipes import schema_of

BASE: dict[str, Any] = {"seed": 1, "schedule": {"kind": "cos", "warmup": 5}, "budget": {"epochs": 3}}


def plain(**changes: Any) -> dict[str, Any]:
    return canonical(schema_of("long_range").config.model_validate({**BASE, **changes}))


def test_equal_configs_differ_in_nothing():
    assert compare(plain(), plain()) == []


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"run": {"note": "x"}}, "run.note"),
        ({"log": {"every": 7}}, "log.every"),
        ({"checkpoint": {"keep": 7}}, "checkpoint.keep"),
        ({"evaluate": {"every": 7}}, "evaluate.every"),
        ({"chunking": {"samples": 7}}, "chunking.samples"),
        ({"loading": {"workers": 2}}, "loading.workers"),
        ({"budget": {"epochs": 3, "stop_at": 7}}, "budget.stop_at"),
        ({"compute": {"device": "cuda"}}, "compute.device"),
        ({"compute": {"threads": 1}}, "compute.threads"),
        ({"compute": {"compile": True}}, "compute.compile"),
        ({"debug": {"profile": True}}, "debug.profile"),
        ({"data": {"cache": "elsewhere"}}, "data.cache"),
        ({"data": {"path": "elsewhere"}}, "data.path"),
    ],
)
def test_harmless(changes, path):
    found = compare(plain(), plain(**changes))
    assert [(difference.path, difference.harmless) for difference in found] == [(path, True)]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"seed": 2}, "seed"),
        ({"update": {"batch_size": 7}}, "update.batch_size"),
        ({"update": {"clip_norm": 1.0}}, "update.clip_norm"),
        ({"optimizer": {"learning_rate": 0.5}}, "optimizer.learning_rate"),
        ({"encoder": {"dropout": 0.5}}, "encoder.dropout"),
        ({"loading": {"bucketing": False}}, "loading.bucketing"),
        ({"compute": {"precision": "bf16"}}, "compute.precision"),
        ({"compute": {"deterministic": True}}, "compute.deterministic"),
        ({"debug": {"limit": 3}}, "debug.limit"),
        ({"debug": {"overfit_batch": True}}, "debug.overfit_batch"),
        ({"data": {"train": 3}}, "data.train"),
        ({"budget": {"epochs": 4}}, "budget.epochs"),
    ],
)
def test_another_run(changes, path):
    found = compare(plain(), plain(**changes))
    assert [(difference.path, difference.harmless) for difference in found] == [(path, False)]


@pytest.mark.parametrize(
    ("kind", "harmless"), [("fixed", True), ("exp_decay", True), ("linear", False), ("cos", False)]
)
def test_training_longer_is_harmless_where_the_schedule_does_not_look_at_the_end(kind, harmless):
    schedule = {"schedule": {"kind": kind}}
    found = compare(plain(**schedule), plain(**schedule, budget={"epochs": 9}))
    assert [(difference.path, difference.harmless) for difference in found] == [("budget.epochs", harmless)]


def test_a_schedule_object_may_look_at_anything():
    schedule = {"schedule": {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.1}}
    found = compare(plain(**schedule), plain(**schedule, budget={"epochs": 9}))
    assert [difference.harmless for difference in found] == [False]
    changed = {"schedule": {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.2}}
    assert [str(d) for d in compare(plain(**schedule), plain(**changed))] == ["schedule.max_lr: 0.1 -> 0.2"]


def test_one_and_one_point_nought_are_different_frequencies():
    found = compare(plain(evaluate={"every": 1}), plain(evaluate={"every": 1.0}))
    assert [str(difference) for difference in found] == ["evaluate.every: 1 -> 1.0"]


def test_settings_that_came_or_went_and_sections_with_like_names():
    found = compare({"a": {"b": 1, "old": 2}, "runs": 1}, {"a": {"b": 1, "new": None, "newer": 3}, "runs": 2})
    assert [(d.path, d.before, d.after, d.harmless) for d in found] == [
        ("a.newer", None, 3, False),
        ("runs", 1, 2, False),  # not the section `run`
        ("a.old", 2, None, False),
    ]
