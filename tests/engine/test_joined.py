"""Two optimizers as one: the same steps as apart, one state, schedules, loss scalers, checkpoints and resuming."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from loops import PER_EPOCH, build
from quincunx.config.schema import Target
from quincunx.config.sections.training import Schedule
from quincunx.config.target import TargetError
from quincunx.engine.checkpoint import Checkpoints
from quincunx.engine.joined import Joined
from quincunx.engine.loop import Loop
from quincunx.engine.schedule import build_schedule
from quincunx.errors import CheckpointError
from toys import Contrastive, Encoder, TwoTerms


def weights(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(4, 3, generator=generator)) for _ in range(4)]


def parts_of(held: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    return [
        torch.optim.AdamW([{"name": "a", "params": held[:2]}], lr=0.05, weight_decay=0.1, fused=True),
        torch.optim.SGD([{"name": "b", "params": held[2:3]}, {"name": "c", "params": held[3:], "lr": 0.5}], lr=0.2),
    ]


def advance(held: list[nn.Parameter], optimizers: list[torch.optim.Optimizer], updates: range) -> None:
    for update in updates:
        for number, parameter in enumerate(held):
            parameter.grad = torch.sin(parameter.detach() + update + number)
        for optimizer in optimizers:
            optimizer.step()


def equal(first: list[nn.Parameter], second: list[nn.Parameter]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_it_steps_as_its_parts_do() -> None:
    held, alone = weights(), weights()
    joined = Joined(parts_of(held))
    advance(held, [joined], range(5))
    advance(alone, parts_of(alone), range(5))
    assert equal(held, alone)
    assert [group["name"] for group in joined.param_groups] == ["a", "b", "c"]
    assert "betas" in joined.param_groups[0] and "betas" not in joined.param_groups[1]
    joined.zero_grad()
    assert all(parameter.grad is None for parameter in held)


def test_a_closure_is_called_once() -> None:
    held = weights()
    joined = Joined(parts_of(held))
    calls: list[float] = []

    def closure() -> float:
        joined.zero_grad()
        loss = sum(parameter.square().sum() for parameter in held)
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        calls.append(loss.item())
        return calls[-1]

    before = sum(parameter.detach().square().sum() for parameter in held)
    assert joined.step(closure) == calls[0] and len(calls) == 1
    assert sum(parameter.detach().square().sum() for parameter in held) < before


def test_what_is_set_on_its_groups_moves_the_parts_before_and_after_loading() -> None:
    held, alone = weights(), weights()
    joined, apart = Joined(parts_of(held)), parts_of(alone)
    for reload in (False, True):
        if reload:
            joined.load_state_dict(joined.state_dict())
        for factor, group in enumerate([each for part in apart for each in part.param_groups], 1):
            group["lr"] = 0.01 * factor
        for factor, group in enumerate(joined.param_groups, 1):
            group["lr"] = 0.01 * factor
        advance(held, [joined], range(2))
        advance(alone, apart, range(2))
        assert equal(held, alone)


@pytest.mark.parametrize("stop", [0, 3])
def test_its_state_goes_through_a_checkpoint_bit_for_bit(stop: int, tmp_path: Path) -> None:
    held = weights()
    joined = Joined(parts_of(held))
    advance(held, [joined], range(stop))
    checkpoints = Checkpoints(tmp_path)
    tensors = {"model": {str(i): parameter.detach().clone() for i, parameter in enumerate(held)}}
    path = checkpoints.save(stop, tensors, {"optimizer": joined.state_dict()}, {"update": stop})
    advance(held, [joined], range(stop, 8))
    saved = checkpoints.load(path)
    again = weights(1)
    for i, parameter in enumerate(again):
        parameter.data.copy_(saved.weights["model"][str(i)])
    resumed = Joined(parts_of(again))
    resumed.load_state_dict(saved.state["optimizer"])
    assert resumed.state.keys() == (set(again[:2]) if stop else set())
    advance(again, [resumed], range(stop, 8))
    assert equal(held, again)
    assert [group["name"] for group in saved.state["optimizer"]["param_groups"]] == ["a", "b", "c"]


def test_states_of_other_groups_and_parameters_held_twice_are_refused() -> None:
    held = weights()
    joined = Joined(parts_of(held))
    fewer = Joined([torch.optim.SGD(held[:2], lr=0.1), torch.optim.Adam(held[2:])])
    with pytest.raises(ValueError, match="different number of parameter groups"):
        joined.load_state_dict(fewer.state_dict())
    with pytest.raises(ValueError, match="more than one parameter group"):
        Joined([torch.optim.SGD(held[:2], lr=0.1), torch.optim.Adam(held[1:])])
    with pytest.raises(ValueError, match="empty parameter list"):
        Joined([])
    with pytest.raises(TypeError, match="add it to one of them before"):
        joined.add_param_group({"params": [nn.Parameter(torch.ones(1))]})


def test_states_that_the_parts_have_already_are_kept() -> None:
    held, alone = weights(), weights()
    apart, before = parts_of(alone), parts_of(held)
    advance(held, before, range(3))
    advance(alone, apart, range(3))
    joined = Joined(before)
    advance(held, [joined], range(3, 6))
    advance(alone, apart, range(3, 6))
    assert equal(held, alone) and len(joined.state) == 2


def stepped(path: str, **arguments: Any) -> Target:
    return Target.model_validate({"_target_": path, **arguments})


def test_schedule_objects_move_all_groups() -> None:
    joined = Joined(parts_of(weights()))
    control, _ = build_schedule(stepped("torch.optim.lr_scheduler.StepLR", step_size=1, gamma=0.5), joined, 4, 2)
    advance(joined.param_groups[0]["params"], [joined], range(1))
    control.after_update()
    assert control.rates() == [0.05, 0.2, 0.5], "those of the update"
    control.set(1)
    assert control.rates() == [0.025, 0.1, 0.25]
    with pytest.raises(TargetError, match="momentum"):
        build_schedule(stepped("torch.optim.lr_scheduler.OneCycleLR", max_lr=0.1, total_steps=4), joined, 4, 2)


def looped(folder: Path, *, joined: bool = True, **changes: Any) -> Loop:
    """Return a loop whose model moves by AdamW and whose objective by SGD."""
    loop = build(folder, **changes)
    state = loop.state
    parts: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(state.model.parameters(), lr=0.05, weight_decay=0.1, fused=True),
        torch.optim.SGD(state.objective.parameters(), lr=0.2),
    ]
    state.optimizer = Joined(parts) if joined else parts[0]
    state.rates, _ = build_schedule(Schedule(kind="cos", warmup=2), state.optimizer, 2 * PER_EPOCH, PER_EPOCH)
    return loop


def same_weights(first: Loop, second: Loop) -> bool:
    a, b = first.state.weights(), second.state.weights()
    return all(torch.equal(a[part][name], b[part][name]) for part in a for name in a[part])


@pytest.mark.parametrize("objective", [TwoTerms, Contrastive])
@pytest.mark.parametrize("stop", [1, 5])
def test_a_run_goes_on_from_the_middle_bit_for_bit(objective: Any, stop: int, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"objective": objective, "clip_norm": 0.1}
    whole = looped(tmp_path / "whole", **settings)
    whole.run()
    first = looped(tmp_path / "a", **settings, stop_at=stop, checkpoint_every=1)
    first.run()
    second = looped(tmp_path / "b", **settings)
    second.state.restore(first.checkpoints.load(first.checkpoints.path(stop)))
    second.run()
    assert same_weights(whole, second)
    assert not same_weights(whole, first)


def test_a_loss_scaler_changes_nothing_but_the_range(tmp_path: Path) -> None:
    """Powers of two scale exactly; every part sees gradients that have been scaled back and clipped."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1000)  # pyright: ignore[reportPrivateImportUsage]
    scaled = looped(tmp_path / "a", scaler=scaler, clip_norm=0.1)
    scaled.run()
    plain = looped(tmp_path / "b", clip_norm=0.1)
    plain.run()
    for found, wanted in zip(
        [*scaled.state.model.parameters(), *scaled.state.objective.parameters()],
        [*plain.state.model.parameters(), *plain.state.objective.parameters()],
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)


def test_a_scaler_that_overflows_skips_the_step_of_every_part() -> None:
    held = weights()
    before = [parameter.detach().clone() for parameter in held]
    joined = Joined(parts_of(held))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)  # pyright: ignore[reportPrivateImportUsage]
    for overflowing in (0, 3):  # in a parameter of the one, then of the other
        scaler.scale(torch.stack([parameter.sum() for parameter in held]).sum()).backward()
        held[overflowing].grad.fill_(math.inf)  # pyright: ignore[reportOptionalMemberAccess]
        scaler.step(joined)
        scaler.update()
        joined.zero_grad()
        assert all(torch.equal(parameter.detach(), value) for parameter, value in zip(held, before, strict=True))


def test_a_checkpoint_of_one_optimizer_does_not_fit_two(tmp_path: Path) -> None:
    first = looped(tmp_path / "a", joined=False, stop_at=2)
    first.run()
    second = looped(tmp_path / "b")
    with pytest.raises(CheckpointError, match="different number of parameter groups"):
        second.state.restore(first.checkpoints.load(first.checkpoints.path(2)))


def test_the_toys_have_parameters_on_both_sides() -> None:
    """Without them the runs above would show one optimizer alone."""
    assert list(Encoder().parameters()) and list(TwoTerms().parameters()) and list(Contrastive().parameters())
