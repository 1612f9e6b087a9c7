"""Everything that training reads and changes, in one object that can be captured and restored bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from quincunx.engine.checkpoint import Restored, load_weights
from quincunx.engine.objective import Objective
from quincunx.engine.schedule import RateControl
from quincunx.errors import CheckpointError


@dataclass
class Best:
    """The best value of the metric so far, and how many evaluations ago."""

    metric: str
    """`split/name`."""
    goal: Literal["max", "min"]
    value: float | None = None
    update: int | None = None
    since: int = 0

    def see(self, value: float, update: int) -> bool:
        """Take note of an evaluation; return whether it is the best so far."""
        # what is not a number is no better than nothing, and must not bar what comes after it
        better = not math.isnan(value) and (
            self.value is None or (value > self.value if self.goal == "max" else value < self.value)
        )
        if better:
            self.value, self.update, self.since = value, update, 0
        else:
            self.since += 1
        return better


@dataclass
class Window:
    """Sums since the last line of the log."""

    updates: int = 0
    values: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def add(self, values: Mapping[str, float], weights: Mapping[str, float]) -> None:
        """Add one update's sums and what each is to be divided by."""
        self.updates += 1
        for name, value in values.items():
            self.values[name] = self.values.get(name, 0.0) + value
            self.weights[name] = self.weights.get(name, 0.0) + weights[name]

    def means(self) -> dict[str, float]:
        """Return each sum over its weight; terms of weight 0 are left out."""
        return {name: value / self.weights[name] for name, value in self.values.items() if self.weights[name]}

    def clear(self) -> None:
        """Begin anew."""
        self.updates = 0
        self.values.clear()
        self.weights.clear()


@dataclass
class State:
    """Model, objective, optimizer and every counter of a run."""

    model: nn.Module
    objective: Objective
    optimizer: torch.optim.Optimizer
    rates: RateControl
    best: Best
    scaler: torch.amp.GradScaler | None = None  # pyright: ignore[reportPrivateImportUsage]
    update: int = 0
    """Updates done, those that a loss scaler skipped included."""
    skipped: int = 0
    """Updates that a loss scaler skipped: schedules do not advance on them."""
    window: Window = field(default_factory=Window)

    def weights(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the state dicts that a checkpoint keeps as safetensors."""
        return {"model": self.model.state_dict(), "objective": self.objective.state_dict()}

    def capture(self) -> dict[str, Any]:
        """Return the states of optimizer, rate control and scaler."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "rates": self.rates.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else None,
        }

    def progress(self) -> dict[str, Any]:
        """Return the counters, as plain values."""
        return {
            "update": self.update,
            "skipped": self.skipped,
            "best": {"value": self.best.value, "update": self.best.update, "since": self.best.since},
            "metric": self.best.metric,
            "window": {
                "updates": self.window.updates,
                "values": self.window.values,
                "weights": self.window.weights,
            },
        }

    def restore(self, saved: Restored) -> None:
        """Take over everything that a checkpoint holds; raises CheckpointError when any of it does not fit."""
        load_weights(self.model, saved.weights["model"], str(saved.path))
        load_weights(self.objective, saved.weights["objective"], f"{saved.path} (objective)")
        try:
            self.optimizer.load_state_dict(saved.state["optimizer"])
            self.rates.load_state_dict(saved.state["rates"])
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"the optimizer of {saved.path} does not fit this run: {error}") from error
        if (saved.state["scaler"] is None) != (self.scaler is None):
            raise CheckpointError(
                f"{saved.path} was written with another compute.precision: only one side scales its loss"
            )
        if self.scaler is not None:
            self.scaler.load_state_dict(saved.state["scaler"])
        progress = saved.progress
        self.update, self.skipped = progress["update"], progress["skipped"]
        if progress["metric"] == self.best.metric:
            self.best.value, self.best.update = progress["best"]["value"], progress["best"]["update"]
            self.best.since = progress["best"]["since"]
        window = progress["window"]
        self.window = Window(window["updates"], dict(window["values"]), dict(window["weights"]))
