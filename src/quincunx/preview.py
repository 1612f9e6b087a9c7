"""What a run would do, found without training: the plan with the model's sizes, and how long an update takes.

Data is read where only it tells how many examples there are; a recipe that declares its sizes is planned without.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from quincunx.config.check import check_sizes
from quincunx.config.document import ConfigError
from quincunx.config.load import Loaded, explicit_paths
from quincunx.config.plan import Plan, make_plan
from quincunx.config.schema import lookup
from quincunx.data.batch import Batch
from quincunx.data.loader import Updates
from quincunx.engine.experiment import Parts, order_of
from quincunx.engine.footprint import Counted, count_groups, count_parameters, estimate_memory
from quincunx.engine.optim import build_optimizer
from quincunx.engine.regularised import regularised
from quincunx.engine.runtime import DTYPES, choose_dtype, find_device, seed_torch, start_runtime
from quincunx.engine.step import Step
from quincunx.engine.targets import try_targets
from quincunx.errors import RunError
from quincunx.recipes import recipe_of
from quincunx.seeds import address
from quincunx.tuners import check_peft

AFFORDABLE = 1.0
"""Seconds that an update may take to be timed whole; of a longer one a part is timed."""

TIMED = 8
"""Updates that are timed whole."""


@dataclass(frozen=True)
class Pace:
    """How long training takes, by a few of its updates."""

    plan: Plan
    update: float | None
    """Seconds of an update, without the optimizer's step; None where no part of one can be made up. A long update's is
    that of some made-up examples, times as many as it has."""

    @property
    def training(self) -> float | None:
        """Seconds of all updates, without evaluations."""
        return None if self.update is None else self.update * self.plan.stop_at


def count(loaded: Loaded) -> tuple[Counted, list[str]]:
    """Return the numbers of parameters of a config's model, and what was taken for granted.

    No weight is read or made, and no text: the model is built where tensors have shapes alone.

    Raises:
        ConfigError: Adapters do not go together with what they are told.
        UsageError: A model cannot be built as asked.
    """
    recipe = recipe_of(loaded.schema.name)
    config, notes = recipe.decide(loaded.config)
    section = getattr(config, "peft", None)
    tasks = loaded.schema.tasks_of(config) if loaded.schema.tasks_of else ()
    problems = check_peft(section, loaded.document, tasks=tasks) if section is not None else []
    if problems:
        raise ConfigError(problems)
    with torch.device("meta"):
        parts = recipe.shapes(config)
    return count_groups(parts), [*loaded.notes, *notes, *parts.notes]


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
    parameters, optimizer = count_parameters(seen.parts), None
    if parameters["trainable"]:
        modules = (seen.parts.model, seen.parts.objective)
        optimizer, _ = build_optimizer(seen.config.optimizer, seen.config.update, modules, allowed)
    memory = estimate_memory(seen.parts, seen.plan, dtype, optimizer)
    return seen.plan.with_model(parameters, memory), notes


def measure(loaded: Loaded) -> Pace:
    """Return the plan of a config and the time of its updates on this machine; its data is read.

    Raises:
        ConfigError, DataError: As for `preview`.
        RunError: The config's device is not there.
    """
    recipe = recipe_of(loaded.schema.name)
    config, _ = recipe.decide(loaded.config)
    config = config if config.seed is not None else config.model_copy(update={"seed": 0})
    runtime = start_runtime(config.compute)
    try:
        seed_torch(address(config.seed, "initial weights"), runtime.device)
        experiment = recipe.build(config, explicit_paths(loaded))
        config, source = experiment.config, experiment.source
        parts = regularised(experiment.parts, getattr(config, "peft", None), compiled=config.compute.compile)
        plan = make_plan(config, experiment.sizes, experiment.chunk_samples)
        plan = plan.with_model(count_parameters(parts))
        step = Step(
            parts.model.to(runtime.device).train(), parts.objective.to(runtime.device), runtime, plan, config.seed
        )
        lengths = source.lengths
        mean = None if lengths is None else max(1, round(float(lengths.mean())))
        seconds = None if parts.sample is None else _by_parts(step, plan, parts.sample, mean)
        if seconds is not None and seconds > AFFORDABLE:
            return Pace(plan, seconds)
        order = order_of(config, experiment.sizes.train, lengths, config.seed, experiment.arrangement)
        data = Updates(source, experiment.collate, order, config.seed)
        times = [_timed(step, update, data[update]) for update in range(min(TIMED, plan.total_updates))]
        return Pace(plan, statistics.median(times))
    finally:
        runtime.close()


def _by_parts(step: Step, plan: Plan, sample: Callable[[int, int | None], Batch], length: int | None) -> float:
    """Return about how long an update takes, from as few examples as tell."""
    rows = min(2, plan.batch_size)
    _timed(step, 0, [sample(rows, length)])  # the first is slow
    while True:
        seconds = _timed(step, rows, [sample(rows, length)])
        if seconds > AFFORDABLE / 4 or rows == plan.batch_size:
            return seconds * plan.batch_size / rows * plan.accumulation
        rows = min(2 * rows, plan.batch_size)


def _timed(step: Step, update: int, batches: Sequence[Batch | None]) -> float:
    start = time.perf_counter()
    step.gradient(update, batches)
    if step.runtime.device.type == "cuda":
        torch.cuda.synchronize(step.runtime.device)
    return time.perf_counter() - start


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
    if read is not None:  # what it says of the model is among its notes
        return _Seen(config, read.parts, plan, notes)
    parts = recipe.parts(config)
    return _Seen(config, parts, plan, [*notes, *parts.notes])
