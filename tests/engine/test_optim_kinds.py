"""Every kind of optimizer against its formula, and parts of a model that move by settings of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from quincunx.config.sections.training import AdamW, Apart, Schedule, Update
from quincunx.engine.joined import Joined
from quincunx.engine.optim import KINDS, build_optimizer
from quincunx.engine.schedule import build_schedule, rate
from quincunx.errors import UsageError

RATE, DECAY, FIRST, SECOND, EPS = 0.05, 0.1, 0.8, 0.95, 1e-3


class Chosen(AdamW):
    """Settings with every kind, and parts apart."""

    kind: str = "adamw"  # pyright: ignore[reportIncompatibleVariableOverride] - wider
    own: dict[str, Apart] = {}  # noqa: RUF012

    @property
    def apart(self) -> Mapping[str, Apart]:
        return self.own


def settings(**changes: Any) -> Chosen:
    basis = {"learning_rate": RATE, "weight_decay": DECAY, "betas": [FIRST, SECOND], "eps": EPS}
    return Chosen.model_validate({**basis, **changes})


class Seeing(nn.Module):
    """Two encoders, one of which may have settings of its own; its name is the beginning of another's."""

    def __init__(self) -> None:
        super().__init__()
        self.text = nn.Linear(3, 2)
        self.vision = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
        self.vision_head = nn.Linear(2, 2)


def seeing(seed: int = 0) -> Seeing:
    torch.manual_seed(seed)
    return Seeing().double()


def gradients(model: nn.Module, update: int) -> None:
    """Give every parameter a gradient that depends on the update and on its value."""
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.sin(parameter.detach() * 3 + update + number)


Rule = Callable[[Tensor, Tensor, dict[str, Any], float], Tensor]


def moments(gradient: Tensor, state: dict[str, Any]) -> tuple[Tensor, Tensor]:
    state["m"] = FIRST * state.get("m", 0.0) + (1 - FIRST) * gradient
    state["v"] = SECOND * state.get("v", 0.0) + (1 - SECOND) * gradient**2
    return state["m"] / (1 - FIRST ** state["t"]), state["v"] / (1 - SECOND ** state["t"])


def adamw(weight: Tensor, gradient: Tensor, state: dict[str, Any], decay: float) -> Tensor:
    """Loshchilov & Hutter 2019, algorithm 2: the decay stays out of the moments."""
    first, second = moments(gradient, state)
    return weight * (1 - RATE * decay) - RATE * first / (second.sqrt() + EPS)


def adam(weight: Tensor, gradient: Tensor, state: dict[str, Any], decay: float) -> Tensor:
    """Kingma & Ba 2015, algorithm 1, on the gradient with the decay."""
    first, second = moments(gradient + decay * weight, state)
    return weight - RATE * first / (second.sqrt() + EPS)


def adamax(weight: Tensor, gradient: Tensor, state: dict[str, Any], decay: float) -> Tensor:
    """Kingma & Ba 2015, algorithm 2: the second moment is a maximum."""
    gradient = gradient + decay * weight
    first, _ = moments(gradient, state)
    state["u"] = torch.maximum(SECOND * state.get("u", torch.zeros_like(weight)), gradient.abs() + EPS)
    return weight - RATE * first / state["u"]


def sgd(weight: Tensor, gradient: Tensor, state: dict[str, Any], decay: float) -> Tensor:
    return weight - RATE * (gradient + decay * weight)


def rms(weight: Tensor, gradient: Tensor, state: dict[str, Any], decay: float) -> Tensor:
    """Tieleman & Hinton 2012, with torch's memory of 0.99."""
    gradient = gradient + decay * weight
    state["v"] = 0.99 * state.get("v", 0.0) + 0.01 * gradient**2
    return weight - RATE * gradient / (state["v"].sqrt() + EPS)


RULES: dict[str, Rule] = {"adamw": adamw, "adam": adam, "adamax": adamax, "sgd": sgd, "rms": rms}


def test_every_kind_has_its_formula() -> None:
    assert set(KINDS) == set(RULES)
    assert set(get_args(AdamW.model_fields["kind"].annotation)) <= set(KINDS)


@pytest.mark.parametrize("kind", RULES)
def test_five_updates_against_the_formula(kind: str) -> None:
    """Each group with its own decay: the norm's weights and biases have none."""
    model = seeing()
    optimizer, notes = build_optimizer(settings(kind=kind), Update(), [model])
    assert notes == [] and type(optimizer) is KINDS[kind].make
    expected = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    states: dict[str, dict[str, Any]] = {name: {} for name in expected}
    for update in range(5):
        gradients(model, update)
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            states[name]["t"] = update + 1
            decay = DECAY if parameter.dim() > 1 else 0.0
            expected[name] = RULES[kind](expected[name], parameter.grad.clone(), states[name], decay)
        optimizer.step()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", RULES)
def test_settings_reach_the_kinds_that_have_them(kind: str) -> None:
    optimizer, _ = build_optimizer(settings(kind=kind), Update(no_decay=False), [seeing()])
    [group] = optimizer.param_groups
    assert (group["name"], group["lr"], group["weight_decay"]) == ("decay", RATE, DECAY)
    assert group.get("betas") == ((FIRST, SECOND) if kind in ("adamw", "adam", "adamax") else None)
    assert group.get("eps") == (None if kind == "sgd" else EPS)
    assert group.get("momentum", 0) == 0
    assert bool(group.get("fused")) is (kind in ("adamw", "adam"))


def own(kind: str = "adamw", rate: float = 0.01, decay: float = 0.3) -> dict[str, Apart]:
    return {"vision": Apart(rate, decay, kind)}


def names_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, list[str]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {group["name"]: [names[id(each)] for each in group["params"]] for group in optimizer.param_groups}


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_part_has_groups_of_its_own(kind: str) -> None:
    model = seeing()
    optimizer, notes = build_optimizer(settings(own=own(kind)), Update(), [model])
    assert notes == [] and isinstance(optimizer, Joined) is (kind == "sgd")
    assert names_of(model, optimizer) == {
        "decay": ["text.weight", "vision_head.weight"],
        "no_decay": ["text.bias", "vision_head.bias"],
        "vision_decay": ["vision.0.weight"],
        "vision_no_decay": ["vision.0.bias", "vision.1.weight", "vision.1.bias"],
    }
    kept = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert kept == [(RATE, DECAY), (RATE, 0.0), (0.01, 0.3), (0.01, 0.0)]
    saved = optimizer.state_dict()["param_groups"]
    assert [group["name"] for group in saved] == ["decay", "no_decay", "vision_decay", "vision_no_decay"]


def test_without_sparing_a_part_has_one_group() -> None:
    model = seeing()
    optimizer, _ = build_optimizer(settings(own=own()), Update(no_decay=False), [model])
    kept = [(group["name"], len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups]
    assert kept == [("decay", 4, DECAY), ("vision_decay", 4, 0.3)]


def test_the_longest_name_decides() -> None:
    """A part of a part, and a parameter that is one by itself."""
    model = seeing()
    parts = {**own(), "vision.0": Apart(0.02, 0.0, "adamw"), "text.bias": Apart(0.03, 0.0, "adamw")}
    optimizer, _ = build_optimizer(settings(own=parts), Update(), [model])
    assert names_of(model, optimizer) == {
        "decay": ["text.weight", "vision_head.weight"],
        "no_decay": ["vision_head.bias"],
        "vision_no_decay": ["vision.1.weight", "vision.1.bias"],
        "vision.0_decay": ["vision.0.weight"],
        "vision.0_no_decay": ["vision.0.bias"],
        "text.bias_no_decay": ["text.bias"],
    }
    assert [group["lr"] for group in optimizer.param_groups] == [RATE, RATE, 0.01, 0.02, 0.02, 0.03]


@pytest.mark.parametrize("kind", ["linear", "cos"])
def test_a_schedule_scales_every_groups_own_rate(kind: str) -> None:
    optimizer, _ = build_optimizer(settings(own=own("sgd")), Update(), [seeing()])
    schedule = Schedule.model_validate({"kind": kind, "warmup": 3})
    control, _ = build_schedule(schedule, optimizer, 10, 5)
    for update in range(10):
        control.set(update)
        main, apart = rate(schedule, RATE, update, 10, 5), rate(schedule, 0.01, update, 10, 5)
        assert control.rates() == [main, main, apart, apart]


def test_a_part_with_another_rate_moves_as_if_alone() -> None:
    model, alone = seeing(), seeing()
    optimizer, _ = build_optimizer(settings(own=own()), Update(), [model])
    text, _ = build_optimizer(settings(), Update(), [alone.text, alone.vision_head])
    vision, _ = build_optimizer(settings(learning_rate=0.01, weight_decay=0.3), Update(), [alone.vision])
    for update in range(5):
        gradients(model, update)
        gradients(alone, update)
        optimizer.step()
        text.step()
        vision.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), alone.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(model.parameters(), seeing().parameters(), strict=True))


def test_a_part_that_is_not_there_is_refused() -> None:
    parts = {"vision_tower": Apart(0.01, 0.0, "adamw")}
    with pytest.raises(UsageError, match=r"parameters of vision_tower.*it has text, vision, vision_head"):
        build_optimizer(settings(own=parts), Update(), [seeing()])


def test_a_part_that_is_frozen_is_said_to_be() -> None:
    model = seeing()
    model.vision.requires_grad_(False)
    optimizer, notes = build_optimizer(settings(own=own("sgd")), Update(), [model])
    assert list(names_of(model, optimizer)) == ["decay", "no_decay"]
    assert type(optimizer) is torch.optim.AdamW
    assert notes == ["optimizer: nothing of vision is trained, so that its own rate and decay do nothing"]


def test_where_all_else_is_frozen_the_part_is_trained_alone() -> None:
    model = seeing()
    model.text.requires_grad_(False)
    model.vision_head.requires_grad_(False)
    optimizer, notes = build_optimizer(settings(own=own("sgd")), Update(), [model])
    assert notes == [] and type(optimizer) is torch.optim.SGD
    assert list(names_of(model, optimizer)) == ["vision_decay", "vision_no_decay"]
