"""What tests of settings share in every recipe: a row of their tables, and an experiment that is looked at in parts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from quincunx import Run, train
from quincunx.config.document import ConfigError
from quincunx.config.load import Loaded, explicit_paths, load
from quincunx.config.plan import Plan, make_plan
from quincunx.data.order import Order
from quincunx.engine.experiment import Experiment, order_of
from quincunx.engine.footprint import count_parameters
from quincunx.engine.step import Step
from quincunx.errors import QuincunxError
from quincunx.recipes import recipe_of, schema_of

SHOWN_BY_THE_ENGINE: dict[str, tuple[str, ...]] = {
    "config/test_plan.py": ("budget.batches_per_epoch", "checkpoint.every_batches"),
    "config/test_target.py": tuple(
        f"{section}.{key}"
        for section in ("optimizer", "schedule")
        for key in ("_target_", "_convert_", "_partial_", "_args_", "_recursive_")
    ),
    "data/test_loader.py": ("loading.workers",),
    "engine/test_loop.py": ("checkpoint.best", "evaluate.goal", "evaluate.patience", "update.clip_norm"),
    "engine/test_optim.py": ("optimizer.betas", "optimizer.eps", "optimizer.weight_decay", "update.no_decay"),
    "engine/test_regularised.py": ("peft.z_weight", "peft.track_z"),
    "engine/test_runtime.py": tuple(
        f"compute.{key}" for key in ("deterministic", "device", "force_precision", "precision", "threads")
    ),
    "engine/test_schedule.py": tuple(
        f"schedule.{key}" for key in ("kind", "decay", "smooth", "warmup", "final_div_factor")
    ),
    "properties/test_invariance.py": ("compute.processes",),
    "test_api.py": ("compute.compile",),
    "test_cli_runs.py": ("debug.overfit_batch", "debug.profile", "init_partial", "log.trackers"),
    "tuners/test_attaching.py": ("peft.frozen_statistics",),
    "track/test_wandb.py": tuple(
        f"log.wandb.{key}" for key in ("use", "mode", "credentials", "project", "entity", "name", "notes", "tags")
    ),
}
"""Files of tests -> the settings of which they show the effect, in whatever recipe."""


@dataclass(frozen=True)
class SettingRow:
    """One setting."""

    path: str
    value: Any
    see: Callable[[Any], Any]
    """What is looked at."""
    wanted: Callable[[Any, Any], bool] | None = None
    """What must hold of it before and after; that the two differ is asked for in any case."""
    base: Mapping[str, Any] = field(default_factory=dict)
    """Other settings that let it act."""
    modes: str = ""
    """In which modes it acts, by their letters; in the others it must be refused or named as without effect."""
    shown: str | None = None
    """In which of them it is shown; None: where the recipe's tests show settings without that."""


def tree_of(recipe: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings of dotted settings."""
    tree: dict[str, Any] = {"recipe": recipe}
    for path, value in settings.items():
        node = tree
        *parents, last = path.split(".")
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


class LookedAt:
    """What is seen of settings; each thing is computed when it is first looked at."""

    recipe: ClassVar[str]

    def __init__(self, settings: Mapping[str, Any], folder: Path) -> None:
        self.settings = settings
        self.folder = folder

    @cached_property
    def loaded(self) -> Loaded:
        return load(tree_of(self.recipe, self.settings), schemas=[schema_of(self.recipe)])

    @cached_property
    def experiment(self) -> Experiment:
        recipe = recipe_of(self.recipe)
        config, _ = recipe.decide(self.loaded.config)
        torch.manual_seed(config.seed)
        return recipe.build(config, explicit_paths(self.loaded))

    @property
    def config(self) -> Any:
        return self.experiment.config

    @property
    def model(self) -> Any:
        return self.experiment.parts.model

    @property
    def objective(self) -> Any:
        return self.experiment.parts.objective

    @cached_property
    def plan(self) -> Plan:
        return make_plan(self.config, self.experiment.sizes)

    @cached_property
    def parameters(self) -> dict[str, int]:
        """Trainable ones and all."""
        return count_parameters(self.experiment.parts)

    @cached_property
    def order(self) -> Order:
        """The order in which training takes the examples."""
        made = self.experiment
        return order_of(self.config, made.sizes.train, made.source.lengths, self.config.seed, made.arrangement)

    def batches(self, update: int) -> list[Any]:
        """Return an update's logical batches."""
        raise NotImplementedError

    def look(self) -> None:
        """Compute whatever must be possible with settings that are no error."""
        self.experiment

    @cached_property
    def error(self) -> str | None:
        """Why no experiment can be made of it, or nothing computed with it."""
        try:
            self.look()
        except (ConfigError, QuincunxError) as error:
            return str(error)
        return None

    def descend(self, step: Step, updates: int, rate: float) -> list[dict[str, float]]:
        """Return the terms of some updates' losses, plain gradient steps of a rate between them."""
        found: list[dict[str, float]] = []
        for update in range(updates):
            for parameter in step.parameters:
                parameter.grad = None
            outcome = step.gradient(update, self.batches(update))
            weights = outcome.weights
            found.append({t: float(s) / weights[t] for t, s in outcome.sums.items() if weights[t]})
            with torch.no_grad():
                for parameter in step.parameters:
                    if parameter.grad is not None:
                        parameter.sub_(rate * parameter.grad)
            step.objective.after_update()
        return found

    def given_to_run(self) -> Mapping[str, Any]:
        """Return the settings of a whole run."""
        return self.settings

    @cached_property
    def run(self) -> Run:
        """The whole run."""
        self.folder.mkdir(exist_ok=True)
        with contextlib.chdir(self.folder), no_pictures():
            return train(tree_of(self.recipe, self.given_to_run()))


@contextlib.contextmanager
def no_pictures() -> Iterator[None]:
    """Leave the pictures of reports out: they take longer than these runs, and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quincunx.report.to_png", lambda chart: b"")
        yield
