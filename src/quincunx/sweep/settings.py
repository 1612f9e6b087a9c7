"""The section `sweep` of a config that has `ranges`: how configurations are chosen, run, stopped early and shared."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field

from quincunx.config.schema import Accepts, AnyCase, RecipeSchema, Rule, Section, When, when

BY_NUMBER = ("grid", "random", "qmc")
"""Samplers whose configuration is a function of the trial's number alone."""

ADAPTIVE = ("tpe", "gp", "cmaes")
"""Samplers that learn from the trials before."""

SAMPLED = When("sweep.sampler is not grid", lambda config: config.sweep.sampler not in ("grid", None))
RUNGS = when("sweep.pruner", "asha", "hyperband")
MEDIAN = when("sweep.pruner", "median")

Value = str | int | float | bool | None


class Pruning(Section):
    """When `sweep.pruner` ends a trial early."""

    first: Annotated[int, RUNGS] = Field(default=100, ge=1)
    """Updates of the first rung: every trial trains so far, and what goes on does so from its checkpoint."""
    factor: Annotated[int, RUNGS] = Field(default=3, ge=2)
    """Each rung is so many times as long as the one before it, and one in so many trials reaches it."""
    gather: Annotated[int, RUNGS] = Field(default=1, ge=1)
    """Nobody goes on from a first rung before so many trials came to it, from the next one so many / factor, and so on.
    1: at once, as published (asynchronous: early trials go on that later ones would have beaten). As many as there are
    trials: halving in step, which takes fewest updates and does not depend on which trial came first."""
    after: Annotated[int, MEDIAN] = Field(default=0, ge=0)
    """No trial is ended before so many updates."""
    startup: Annotated[int, MEDIAN] = Field(default=5, ge=1)
    """No trial is ended before so many others have a value at the same update."""


class Sweep(Section):
    """A sweep: many runs of this config, each with its own values of the settings in `ranges`."""

    dir: str | None = Field(default=None, min_length=1)
    """Folder of the sweep, with a run folder for every run. Unset: `<run.root or runs>/<run.name or recipe>-sweep`, or
    `<run.root>/<run.name>` where both are set (guide 003's `save_root` and `exp_name`)."""
    sampler: Annotated[Literal["grid", "random", "qmc", "tpe", "gp", "cmaes"], AnyCase] | None = None
    """How configurations are chosen: `grid` (all, in the order of the file, the last range fastest), `random`, `qmc`
    (Sobol points: random, spread evenly), or by what the trials before showed: `tpe`, `gp` (Gaussian process),
    `cmaes`. Unset: `grid` where every range has points, else `random`."""
    trials: Annotated[int, SAMPLED] | None = Field(default=None, ge=1)
    """Configurations in all, those of earlier starts included. Unset: all of a grid; otherwise `updates` or `hours`
    is needed."""
    updates: int | None = Field(default=None, ge=1)
    """No run begins once so many updates were made by all runs together."""
    hours: float | None = Field(default=None, gt=0)
    """No run begins once the sweep has been at work for so many hours, earlier starts included."""
    seed: Annotated[int, SAMPLED] = Field(default=0, ge=0)
    """Of the choice of configurations; the runs' own seeds are the config's."""
    n_seeds: int = Field(default=1, ge=1)
    """Runs of each configuration, with seeds that count up from the config's; its value is their mean."""
    metric: str | None = Field(default=None, pattern=r"^[^/]+/.+$")
    """`split/name` that is compared. Unset: the one that chooses a run's best checkpoint."""
    goal: Annotated[Literal["max", "min"], AnyCase] | None = None
    """Whether the metric is to grow or to shrink. Unset: as for the metric that chooses the best checkpoint; a `loss`
    shrinks."""
    value: Annotated[Literal["best", "last"], AnyCase] = "best"
    """The run's value: of the best evaluation, or of the last."""
    pruner: Annotated[Literal["none", "median", "asha", "hyperband"], AnyCase] = "none"
    """What ends hopeless trials: `median` (worse than half of the others at the same update), `asha` (only the best
    part of each rung goes on, from its checkpoint), `hyperband` (asha with several first rungs)."""
    pruning: Pruning = Field(default_factory=Pruning)
    """When the pruner acts."""
    exclude: Annotated[
        list[dict[str, Value | list[Value]]], Accepts("a list of mappings from settings to a value or a list of them")
    ] = Field(default_factory=list)
    """Combinations that are left out: each is a mapping from ranged settings to a value, or a list of values."""
    retries: int = Field(default=1, ge=0)
    """A run that fails is tried again so often, from its last checkpoint. One whose training diverged is not."""
    fail_fast: bool = False
    """Begin no further run once one has failed for good."""
    workers: int = Field(default=1, ge=1)
    """Runs at once on this machine."""
    devices: Annotated[
        list[Annotated[int, Field(ge=0)]] | Literal["auto", "all"], Accepts("auto, all, or a list of CUDA devices")
    ] = "auto"
    """CUDA devices that the workers take in turn, one each: `auto` those there are, where there are several workers;
    `all`: every run sees them all."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of a run. Unset: the machine's cores shared among the workers."""
    storage: str | None = Field(default=None, min_length=1)
    """Where trials are kept: a `postgresql://` URL lets any number of machines join. Unset: `sweep.db`, an SQLite file
    in the sweep's folder. A password is better left to PGPASSWORD or ~/.pgpass; it is never written down."""
    name: str | None = Field(default=None, min_length=1)
    """Of the sweep in its storage. Unset: the folder's path as given."""
    lease: int = Field(default=60, ge=5)
    """Seconds after which a run of another machine that gives no sign of life is taken over."""


class SweepOf(Section):
    """A config of which only the sweep is looked at."""

    sweep: Sweep = Field(default_factory=Sweep)


RULES: tuple[Rule, ...] = (
    Rule(
        name="storage-elsewhere",
        paths=("sweep.storage",),
        applies=lambda config: (
            config.sweep.storage is not None and re.match(r"postgresql(\+\w+)?://", config.sweep.storage) is None
        ),
        message="sweep.storage is no URL of a PostgreSQL database",  # never with its value, which may hold a password
        remedy="write postgresql://user@host/database, or leave it out for a file in the sweep's folder",
        failing={"sweep.storage": "mysql://user@host/database"},
    ),
    Rule(
        name="goal-without-metric",
        paths=("sweep.goal",),
        applies=lambda config: config.sweep.goal is not None and config.sweep.metric is None,
        message="sweep.goal says how to read a metric, but sweep.metric names none",
        remedy="name the metric, for example sweep.metric=dev/accuracy",
        failing={"sweep.goal": "max"},
    ),
    Rule(
        name="endless",
        paths=("sweep.sampler",),
        applies=lambda config: (
            config.sweep.sampler not in ("grid", None)
            and config.sweep.trials is None
            and config.sweep.updates is None
            and config.sweep.hours is None
        ),
        message="sweep.sampler {sweep.sampler} never ends by itself",
        remedy="set sweep.trials, sweep.updates or sweep.hours",
        failing={"sweep.sampler": "random"},
    ),
)

SCHEMA = RecipeSchema(
    name="sweep",
    summary="Many runs of one config over ranges of its settings",
    config=SweepOf,
    rules=RULES,
)


def settings_at(tree: dict[str, Any]) -> Sweep:
    """Return the settings of plain containers, for a sweep that was begun and checked before."""
    return Sweep.model_validate(tree)
