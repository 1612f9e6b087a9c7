"""The learning rate of every update: closed forms of the update's number, or a schedule object that is stepped.

A closed form has no state, so that a resumed run has the same rates as an undisturbed one by construction; a schedule
object (`_target_`) is stepped once after each update and restored from its state.
"""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from quincunx.config.schema import Target
from quincunx.config.sections.training import RateSchedule, Schedule
from quincunx.config.target import TargetError, TargetProblem, build, resolve, step_requirement
from quincunx.errors import CheckpointError, UsageError


def rate(schedule: Schedule, base: float, update: int, total: int, per_epoch: int | Fraction) -> float:
    """Return the learning rate of one update.

    Updates s count from 0 to T-1 (`total` is T); with W updates of warm-up, f = base / final_div_factor and
    p = (s - W) / (E - W), where the fall ends: on the last update, E = T - 1, or one after it, E = T, as the
    schedule's course says:

    - `fixed`: base.
    - `exp_decay`: base * decay^e in epoch e = s // per_epoch; `smooth`: base * decay^(s / per_epoch).
    - `linear`: base * (s + 1) / W while s < W, then f + (base - f) * (1 - p).
    - `cos`: base * (s + 1) / W while s < W, then f + (base - f) * (1 + cos(pi p)) / 2.

    Update E of `linear` and `cos` has exactly f, also where nothing lies between the warm-up and it. Raises
    ValueError for an update outside 0 .. T-1.
    """
    if not 0 <= update < total:
        raise ValueError(f"update {update} is outside 0 .. {total - 1}")
    match schedule.kind:
        case "fixed":
            return base
        case "exp_decay":
            return base * schedule.decay ** (update / per_epoch if schedule.smooth else update // per_epoch)
        case "linear" | "cos":
            course = schedule.course(total)
            final, end = base / course.final_div_factor, total if course.past_end else total - 1
            if update == end:
                return final
            if update <= course.warmup:
                return base * min(1.0, (update + 1) / max(1, course.warmup))
            progress = (update - course.warmup) / (end - course.warmup)
            share = 1 - progress if schedule.kind == "linear" else (1 + math.cos(math.pi * progress)) / 2
            return final + (base - final) * share


class RateControl(Protocol):
    """Sets the learning rates of an optimizer's groups as training goes on."""

    def set(self, update: int) -> None:
        """Make the rates those of this update (from 0); called before it."""
        ...

    def after_update(self) -> None:
        """Note that the optimizer has stepped; not called for an update that the gradient scaler skipped."""
        ...

    def rates(self) -> list[float]:
        """Return the learning rate that the last update had, of each group that has one."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold, in plain containers and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it; CheckpointError when it belongs to another kind of schedule or optimizer."""
        ...


class ClosedForm:
    """Our own schedules: each group's rate is the closed form of that group's own base rate.

    A group's base is its `initial_lr`, which it gets here from its `lr` unless a checkpoint has brought one.
    """

    def __init__(self, schedule: Schedule, optimizer: Optimizer, total: int, per_epoch: int | Fraction) -> None:
        self._schedule, self._optimizer, self._total, self._per_epoch = schedule, optimizer, total, per_epoch
        if schedule.kind in ("linear", "cos") and (warmup := schedule.course(total).warmup) >= total:
            raise UsageError(
                f"schedule.warmup ({warmup} updates) leaves none of the {total} updates to the schedule itself: lower "
                "it, or train longer"
            )
        for group in optimizer.param_groups:
            if group.get("lr") is None and schedule.kind != "fixed":
                raise UsageError(
                    f"schedule.kind {schedule.kind} needs a learning rate to start from, and "
                    f"{type(optimizer).__name__} has none: give its lr, or set schedule.kind to fixed"
                )
            if group.get("lr") is not None:
                group.setdefault("initial_lr", float(group["lr"]))
        try:
            rate(schedule, 1.0, total - 1, total, per_epoch)
        except OverflowError:
            raise UsageError(
                f"schedule.decay ({schedule.decay:g}) grows the learning rate beyond all bounds within {total} "
                "updates: choose a factor of at most 1"
            ) from None

    def set(self, update: int) -> None:
        """Make the rates those of this update (from 0)."""
        for group in _with_rate(self._optimizer):
            value = rate(self._schedule, float(group["initial_lr"]), update, self._total, self._per_epoch)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(value)
            else:
                group["lr"] = value

    def after_update(self) -> None:
        """Do nothing: the rates depend on the update's number alone."""

    def rates(self) -> list[float]:
        """Return the learning rate that the last update had, of each group that has one."""
        return [float(group["lr"]) for group in _with_rate(self._optimizer)]

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: there is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Accept nothing; CheckpointError when the checkpoint comes from a schedule object."""
        if state:
            raise CheckpointError("the checkpoint's schedule is a _target_ object with a state, this config's has none")


class Stepped:
    """A schedule object, stepped once after each update.

    Its state includes the settings of the optimizer's groups, because such objects compute a rate from the present one;
    so it makes no difference whether optimizer or schedule is restored first.
    """

    def __init__(self, scheduler: LRScheduler) -> None:
        self._scheduler = scheduler
        self._used = self._present()

    def set(self, update: int) -> None:
        """Do nothing: the object has set the rates when it was made or stepped."""
        self._used = self._present()

    def after_update(self) -> None:
        """Step the object."""
        self._scheduler.step()

    def rates(self) -> list[float]:
        """Return the learning rate that the last update had, of each group that has one."""
        return self._used

    def _present(self) -> list[float]:
        return [float(group["lr"]) for group in _with_rate(self._scheduler.optimizer)]

    def state_dict(self) -> dict[str, Any]:
        """Return the object's state and the settings of the optimizer's groups."""
        groups = self._scheduler.optimizer.param_groups
        settings = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        return copy.deepcopy({"scheduler": self._scheduler.state_dict(), "groups": settings})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore both; CheckpointError when the state is not that of such an object over as many groups."""
        groups = self._scheduler.optimizer.param_groups
        if state.keys() != {"scheduler", "groups"}:
            raise CheckpointError("the checkpoint holds no state for the schedule object that this config names")
        if len(state["groups"]) != len(groups):
            raise CheckpointError(
                f"the checkpoint's optimizer has {len(state['groups'])} groups of parameters, this one {len(groups)}"
            )
        state = copy.deepcopy(state)
        self._scheduler.load_state_dict(state["scheduler"])
        for group, saved in zip(groups, state["groups"], strict=True):
            group.update(saved)


def build_schedule(
    config: RateSchedule, optimizer: Optimizer, total: int, per_epoch: int | Fraction, allowed: Sequence[str] = ()
) -> tuple[RateControl, list[str]]:
    """Return what sets the rates of an optimizer, and notes for the person who started the run.

    A `_target_` gets the optimizer, and the total number of updates where it takes `num_training_steps` and was not
    given any; `_partial_` is accepted and changes nothing, since the optimizer is all that it could wait for.
    Raises TargetError, and UsageError for a schedule that cannot work with these numbers.
    """
    if not isinstance(config, Target):
        return ClosedForm(config, optimizer, total, per_epoch), []
    node = config.model_copy(update={"partial": False})
    resolved = resolve(node, "schedule", allowed)
    notes, extra = list(resolved.notes), {}
    # the stable length of a warm-up/stable/decay schedule says the same as a total, in another way
    if "num_training_steps" in resolved.unset(node) and "num_stable_steps" not in (node.model_extra or {}):
        extra["num_training_steps"] = total
        notes.append(f"schedule: num_training_steps is {total}, the number of updates of this training")
    scheduler = build(node, "schedule", optimizer, allowed=allowed, **extra)
    _check_drivable(scheduler, resolved.path, total)
    return Stepped(scheduler), notes


def _check_drivable(scheduler: Any, path: str, total: int) -> None:
    """Raise TargetError when stepping once after each update, or saving and restoring, is bound to fail."""
    if not isinstance(scheduler, LRScheduler):
        raise _refusal((), f"{path} gives {type(scheduler).__name__}, not a torch.optim.lr_scheduler.LRScheduler")
    if needed := step_requirement(type(scheduler)):
        raise _refusal((), f"{path} gives a schedule that needs {needed} at every step")
    steps = getattr(scheduler, "total_steps", None)
    if isinstance(steps, int) and steps < total:
        raise _refusal(
            ("total_steps",),
            f"{path} ends after {steps} updates, the training has {total}",
            f"set total_steps to {total}",
        )
    buffer = io.BytesIO()
    try:
        torch.save(scheduler.state_dict(), buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception as error:  # whatever the writer or the restricted reader raises
        reason = str(error).partition("\n")[0]
        raise _refusal((), f"the state of {path} cannot be kept in a checkpoint: {reason}") from error


def _refusal(path: tuple[str, ...], message: str, remedy: str = "choose another schedule") -> TargetError:
    return TargetError([TargetProblem(path, message, remedy)])


def _with_rate(optimizer: Optimizer) -> list[dict[str, Any]]:
    return [group for group in optimizer.param_groups if group.get("lr") is not None]
