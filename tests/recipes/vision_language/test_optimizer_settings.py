"""The recipe's optimizer and schedule as the engine reads them: kinds, moments, the image encoder apart, courses."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from quincunx.config.check import check_sizes
from quincunx.config.document import Document, Problem
from quincunx.config.load import Loaded, load
from quincunx.config.plan import describe, make_plan
from quincunx.config.schema import Sizes
from quincunx.config.sections.training import Apart, Course, Update
from quincunx.engine.joined import Joined
from quincunx.engine.optim import KINDS, build_optimizer
from quincunx.engine.schedule import build_schedule, rate
from quincunx.errors import UsageError
from quincunx.recipes import schemas
from quincunx.recipes.vision_language.config import SCHEMA
from quincunx.recipes.vision_language.config_training import (
    VISION,
    VisionLanguageOptimizer,
    VisionLanguageSchedule,
)
from vision_language_models import model_of

ZERO = ["update.no_decay=true", "optimizer.weight_decay=0"]


def optimizer_of(**settings: Any) -> VisionLanguageOptimizer:
    return VisionLanguageOptimizer.model_validate(settings)


def schedule_of(**settings: Any) -> VisionLanguageSchedule:
    return VisionLanguageSchedule.model_validate(settings)


def loaded(folder: Path, *changes: str) -> Loaded:
    file = folder / "c.yaml"
    file.write_text("recipe: vision_language\ndata: {path: here, tasks: [vqa]}\n")
    return load(file, list(changes), schemas=[*schemas(), SCHEMA])


def idle(found: Loaded) -> set[str]:
    return {".".join(map(str, problem.path)) for problem in found.warnings}


def test_every_kind_of_the_settings_is_one_of_the_engines() -> None:
    assert set(get_args(VisionLanguageOptimizer.model_fields["kind"].annotation)) == set(KINDS)


def test_the_decay_rates_are_given_one_by_one_or_together() -> None:
    assert optimizer_of().moments == (0.9, 0.999)
    assert optimizer_of(beta1=0.8, beta2=0.95).moments == (0.8, 0.95)
    assert optimizer_of(betas=[0.7, 0.9]).moments == (0.7, 0.9)
    optimizer, _ = build_optimizer(optimizer_of(kind="adamax", beta1=0.8), Update(), [nn.Linear(2, 2)])
    assert type(optimizer) is torch.optim.Adamax
    assert (optimizer.defaults["betas"], optimizer.defaults["eps"]) == ((0.8, 0.999), 1e-6)
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (1e-4, 0.01)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, "adamw"),
        ({"kind": "rms"}, "rms"),
        ({"vision_adam": False}, "sgd"),
        ({"kind": "adam", "vision_adam": False}, "sgd"),
    ],
)
def test_the_image_encoder_has_settings_of_its_own_only_where_asked(settings: dict[str, Any], kind: str) -> None:
    rates = {"vision_learning_rate": 0.02, "vision_weight_decay": 0.5}
    assert optimizer_of(**settings, **rates).apart == {}
    assert optimizer_of(**settings, **rates, separate_vision=True).apart == {VISION: Apart(0.02, 0.5, kind)}


@pytest.mark.parametrize("adam", [True, False])
def test_the_image_encoder_of_a_model_moves_by_its_own_settings(adam: bool) -> None:
    model = model_of("bart", vision=nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)))
    config = optimizer_of(
        learning_rate=0.1,
        weight_decay=0.2,
        separate_vision=True,
        vision_learning_rate=0.02,
        vision_weight_decay=0.5,
        vision_adam=adam,
    )
    optimizer, notes = build_optimizer(config, Update(), [model])
    control, _ = build_schedule(schedule_of(warmup_ratio=0.5), optimizer, 4, 2)
    control.set(0)
    assert notes == [] and isinstance(optimizer, Joined) is not adam
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert list(groups) == ["decay", "no_decay", "vision_tower_decay", "vision_tower_no_decay"]
    assert [group["lr"] for group in groups.values()] == [0.05, 0.05, 0.01, 0.01]
    assert [group["weight_decay"] for group in groups.values()] == [0.2, 0.0, 0.5, 0.0]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    tower = f"{VISION}.0.weight"  # with a gradient of nothing, both kinds are left with the decay
    torch.testing.assert_close(model.vision_tower[0].weight.detach(), before[tower] * (1 - 0.01 * 0.5))
    assert torch.equal(model.vision_tower[0].bias.detach(), before[f"{VISION}.0.bias"])
    name = next(name for name, value in before.items() if value.dim() > 1 and not name.startswith(VISION))
    torch.testing.assert_close(model.get_parameter(name).detach(), before[name] * (1 - 0.05 * 0.2))


def test_a_model_without_an_image_encoder_is_refused() -> None:
    with pytest.raises(UsageError, match="parameters of vision_tower, and the model has none of that name"):
        build_optimizer(optimizer_of(separate_vision=True), Update(), [model_of("bart")])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            ["optimizer.kind=sgd", "optimizer.betas=[0.5,0.9]", "optimizer.eps=0.1"],
            {"optimizer.betas", "optimizer.eps"},
        ),
        (["optimizer.kind=rms", "optimizer.beta1=0.5", "optimizer.eps=0.1"], {"optimizer.beta1"}),
        (["optimizer.kind=adamax", "optimizer.betas=[0.5,0.9]"], set()),
        (["optimizer.vision_learning_rate=0.5"], {"optimizer.vision_learning_rate"}),
        (ZERO, {"update.no_decay"}),
        (
            [*ZERO, "optimizer.vision_weight_decay=0.1"],
            {"update.no_decay", "optimizer.vision_weight_decay"},
        ),
        (
            [
                *ZERO,
                "optimizer.vision_weight_decay=0.1",
                "optimizer.separate_vision=true",
                "pictures.features=raw_RN50",
            ],
            set(),
        ),
        (
            [*ZERO, "optimizer.vision_weight_decay=0", "optimizer.separate_vision=true", "pictures.features=raw_RN50"],
            {"update.no_decay"},
        ),
        (["schedule.final_div_factor=10.0"], {"schedule.final_div_factor"}),
        (["schedule.final_div_factor=10.0", "schedule.to_zero=false"], set()),
        (["schedule.warmup=3", "schedule.warmup_ratio=0.2"], {"schedule.warmup_ratio"}),
    ],
)
def test_settings_that_do_nothing_are_named(changes: list[str], expected: set[str], tmp_path: Path) -> None:
    assert idle(loaded(tmp_path, *changes)) == expected


def test_the_guides_keys_choose_them(tmp_path: Path) -> None:
    changes = ["optim=sgd", "use_separate_optimizer_for_visual=true", "feature_type=raw_RN50", "vis_lr=0.5"]
    config = loaded(tmp_path, *changes, "use_adam_for_visual=false", "unfreeze_vis_encoder=true").config
    assert config.optimizer.kind == "sgd"
    assert config.optimizer.apart == {VISION: Apart(0.5, 0.01, "sgd")}


def test_a_tenth_of_50_updates_is_a_warm_up_of_5() -> None:
    for kind in ("linear", "cos"):
        share, count = schedule_of(kind=kind, warmup_ratio=0.1), schedule_of(kind=kind, warmup=5)
        assert share.course(50) == count.course(50) == Course(5, math.inf, past_end=True)
        updates = range(50)
        assert [rate(share, 0.3, s, 50, 1) for s in updates] == [rate(count, 0.3, s, 50, 1) for s in updates]
    assert schedule_of(warmup_ratio=0.1, warmup=8).course(50).warmup == 8
    assert schedule_of(to_zero=False, final_div_factor=10.0).course(50) == Course(2, 10.0, past_end=False)


@given(st.floats(0.0, 1.0, exclude_max=True), st.integers(1, 10**6))
@example(0.29, 100)  # 28.999999999999996 by the product of floats
@example(0.9999999999999999, 10**6)
def test_a_share_is_rounded_down_and_leaves_an_update(ratio: float, total: int) -> None:
    found = schedule_of(warmup_ratio=ratio).course(total).warmup
    exact = Fraction(repr(ratio)) * total
    assert 0 <= exact - found < 1
    assert found < total


def sized(found: Loaded, updates: int) -> list[Problem]:
    return check_sizes(found.config, SCHEMA, Sizes(train=updates), Document({}))


def test_only_a_counted_warm_up_can_fill_the_training(tmp_path: Path) -> None:
    [problem] = sized(loaded(tmp_path, "schedule.warmup=10", "budget.updates=10"), 100)
    assert "schedule.warmup (10 updates) leaves no update" in problem.message
    assert sized(loaded(tmp_path, "schedule.warmup=9", "budget.updates=10"), 100) == []
    assert sized(loaded(tmp_path, "schedule.warmup_ratio=0.99", "budget.updates=1"), 100) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ([], "linear, 2 updates of warm-up, zero after the last one"),
        (["schedule.kind=cos", "schedule.warmup=7"], "cos, 7 updates of warm-up, zero after the last one"),
        (["schedule.to_zero=false"], "linear, 2 updates of warm-up, 1/100 at the end"),
        (["schedule.kind=fixed"], "fixed"),
    ],
)
def test_the_plan_says_the_warm_up_in_updates(changes: list[str], text: str, tmp_path: Path) -> None:
    config = loaded(tmp_path, *changes, "budget.updates=50").config
    assert dict(describe(make_plan(config, Sizes(train=100)), config))["schedule"] == text
