"""What a run would do, found without training: the plan with the model's sizes, and how long an update takes.

Data is read where only it tells how many examples there are; a recipe that declares its sizes is planned without.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from quincunx.config.check import check_sizes
from quincunx.config.document import ConfigError
from quincunx.config.load import Loaded, explicit_paths
from quincunx.config.plan import Plan, make_plan
from quincunx.config.schema import lookup
from quincunx.engine.experiment import Parts
from quincunx.engine.footprint import count_parameters, estimate_memory
from quincunx.engine.runtime import DTYPES, choose_dtype, find_device, seed_torch, start_runtime
from quincunx.engine.step import Step
from quincunx.engine.targets import try_targets
from quincunx.errors import RunError
from quincunx.recipes import recipe_of
from quincunx.seeds import address

ENOUGH = 0.5
"""Seconds of work from which an update's time is told; fewer examples than a batch's may be enough for that."""


@dataclass(frozen=True)
class Pace:
    """How long training takes, by a few updates on made-up examples."""

    plan: Plan
    update: float | None
    """Seconds of an update, without reading data and the optimizer's step; None where no examples can be made up. That
    of as many examples as take long enough to tell, times as many as an update has."""

    @property
    def training(self) -> float | None:
        """Seconds of all updates, without evaluations."""
        return None if self.update is None else self.update * self.plan.stop_at


@dataclass(frozen=True)
class _Seen:
    config: Any
    parts: Parts
    plan: Plan
    notes: list[str]


def preview(loaded: Loaded, allowed: Sequence[str] = ()) -> tuple[Plan, list[str]]:
    """Return the plan of a config and what there is to say.

    `allowed` are the paths that `_target_` may name besides optimizers and schedules. Raises ConfigError when a setting
    shows to be wrong at these sizes, or a `_target_` node cannot be built; DataError for data that cannot be read.
    """
    seen = _look(loaded, allowed)
    notes = seen.notes
    try:
        dtype = choose_dtype(seen.config.compute, find_device(seen.config.compute.device))
    except RunError as error:  # a plan may be made for another machine
        notes.append(f"not on this machine: {error}")
        dtype = DTYPES.get(seen.config.compute.precision, torch.float32)
    return seen.plan.with_model(count_parameters(seen.parts), estimate_memory(seen.parts, seen.plan, dtype)), notes


def measure(loaded: Loaded, allowed: Sequence[str] = ()) -> Pace:
    """Return the plan of a config and the time of its updates on this machine.

    Made-up examples are as long as the data's are in the mean where that is known, as long as they may be otherwise:
    then the time is an upper bound.

    Raises:
        ConfigError, DataError: As for `preview`.
        RunError: The config's device is not there.
    """
    seen = _look(loaded, allowed)
    plan = seen.plan.with_model(count_parameters(seen.parts))
    if seen.parts.sample is None:
        return Pace(plan, None)
    runtime = start_runtime(seen.config.compute)
    try:
        seed = 0 if seen.config.seed is None else seen.config.seed
        seed_torch(address(seed, "made-up examples"), runtime.device)
        mean = plan.sizes.mean_length
        length = plan.sizes.longest if mean is None else max(1, round(mean))
        model, objective = seen.parts.model.to(runtime.device).train(), seen.parts.objective.to(runtime.device)
        step = Step(model, objective, runtime, plan, seed)
        step.gradient(0, [seen.parts.sample(min(2, plan.batch_size), length)])  # the first is slow
        rows, seconds = min(2, plan.batch_size), 0.0
        while True:
            batch = seen.parts.sample(rows, length)
            start = time.perf_counter()
            step.gradient(rows, [batch])
            if runtime.device.type == "cuda":
                torch.cuda.synchronize(runtime.device)
            seconds = time.perf_counter() - start
            if seconds >= ENOUGH or rows == plan.batch_size:
                return Pace(plan, seconds * plan.batch_size / rows * plan.accumulation)
            rows = min(2 * rows, plan.batch_size)
    finally:
        runtime.close()


def _look(loaded: Loaded, allowed: Sequence[str]) -> _Seen:
    recipe = recipe_of(loaded.schema.name)
    config, notes = recipe.decide(loaded.config)
    declared = loaded.schema.sizes
    read = None if declared is not None else recipe.build(config, explicit_paths(loaded))
    if read is not None:
        config, sizes, notes = read.config, read.sizes, [*notes, *read.notes]
    else:
        assert declared is not None
        sizes = declared(config)
    problems = check_sizes(config, loaded.schema, sizes, loaded.document)
    plan = make_plan(config, sizes, recipe.chunk_samples(config) if read is None else read.chunk_samples)
    problems += try_targets(config, plan, loaded.document, allowed)
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError(problems)
    notes = [*loaded.notes, *notes, *(problem.render() for problem in problems)]
    path = lookup(config, "data.path")
    if path is not None and read is None:
        notes.append(f"{path} was not read: the numbers of examples are those of the config")
    return _Seen(config, recipe.parts(config) if read is None else read.parts, plan, notes)
