"""What a sweep found: its configurations ranked, with intervals over seeds, and which of them cost least.

A rank says less than it seems to: two means over three seeds differ by chance as well. So every configuration is held
against the best one seed by seed, and is called worse only where the interval of their difference excludes 0.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np

from quincunx.metrics.intervals import student_interval
from quincunx.report.comparison import Estimate
from quincunx.sweep.records import RunRecord, SweepRecord, TrialRecord, TrialState

LEVEL = 0.95
"""Share of the intervals that hold the truth, if one swept again and again."""

Goal = Literal["max", "min"]

Verdict = Literal["best", "even", "worse", "unknown"]
"""Against the best: `best` itself; `even`, not told apart from it; `worse`; `unknown` with fewer than two seeds in
common, which say nothing."""

AFTER = {"pruned": 0, "open": 1, "failed": 2}
"""What comes after the ranked configurations, in this order."""


@dataclass(frozen=True)
class Row:
    """One configuration."""

    trial: int
    state: TrialState
    settings: Mapping[str, Any]
    """Only those that act."""
    estimate: Estimate | None
    """Mean over the seeds that have a value, with Student's interval where there are several."""
    values: Mapping[int, float]
    """Seed -> value, of the runs that have one."""
    runs: Sequence[RunRecord]
    update: int
    """Updates that all its runs have made."""
    total: int | None
    """Updates of a whole training, where known."""
    seconds: float | None
    """At work, mean of its runs; of a copy, those of the run that it stands for."""
    memory: int | None
    """Bytes: the most that any of its runs took."""
    same_as: int | None = None
    """The earlier trial whose runs it shares, because its configs are the same."""
    rank: int | None = None
    """From 1, among the configurations that were trained to their end with every seed; equal values share one."""
    verdict: Verdict | None = None
    difference: Estimate | None = None
    """Its value less the best one's: mean over the seeds that both have, with Student's interval."""
    common: int = 0
    """Seeds that it shares with the best."""
    sure: bool = False
    """Worse also by an interval that is wide enough for all pairs of configurations at once."""
    front: bool = False
    """No other configuration is as good in value, seconds and memory, and better in one."""

    @property
    def value(self) -> float | None:
        """The mean over its seeds."""
        return None if self.estimate is None else self.estimate.value

    @property
    def reasons(self) -> list[str]:
        """Why its runs ended as they did, each reason once."""
        return list(dict.fromkeys(run.reason for run in self.runs if run.reason))


@dataclass(frozen=True)
class Results:
    """All configurations: the ranked ones from the best on, then pruned, unfinished and failed ones."""

    goal: Goal
    level: float
    rows: Sequence[Row]
    keys: Sequence[str]
    """Settings in which they may differ, in the order of their first appearance."""
    comparisons: int
    """Configurations that were held against the best with an interval."""
    costs: Sequence[str]
    """What counts for the front beside the value: `seconds` and `memory`, where every ranked configuration has them."""

    @property
    def best(self) -> Row | None:
        """The configuration with the best mean, if any was trained to its end."""
        return next((row for row in self.rows if row.verdict == "best"), None)

    @property
    def ranked(self) -> list[Row]:
        """The configurations that were trained to their end and have a value, from the best on."""
        return [row for row in self.rows if row.rank is not None]

    @property
    def distinct(self) -> list[Row]:
        """The ranked configurations without copies of others."""
        return [row for row in self.ranked if row.same_as is None]

    @property
    def pairs(self) -> int:
        """Pairs of ranked configurations, among which choosing the best has chosen."""
        return math.comb(len(self.distinct), 2)

    def count(self, verdict: Verdict) -> int:
        """Return how many configurations, copies aside, came out so against the best."""
        return sum(row.verdict == verdict for row in self.distinct)


def table(record: SweepRecord, goal: Goal, level: float = LEVEL) -> Results:
    """Return the configurations of a sweep, ranked by their mean over seeds, each held against the best.

    Ranked are trials whose runs all ended at their end with a finite value: one that lost a seed would be flattered by
    leaving it out, and one that was pruned has a value of fewer updates. Differences are paired by seed, so that what
    a seed brings to both cancels out.

    Args:
        record: The sweep as it stands, also in the middle.
        goal: Whether the value is to grow or to shrink.
        level: Of all intervals.

    ValueError for another goal, or a level outside (0, 1).
    """
    if goal not in ("max", "min"):
        raise ValueError(f"the goal is {goal!r}, expected max or min")
    if not 0 < level < 1:
        raise ValueError(f"the level is {level}, expected between 0 and 1")
    owners = {run.number: trial.number for trial in record.trials for run in trial.runs}
    rows = [_row(trial, owners, level) for trial in record.trials]
    ranked = sorted((row for row in rows if _can_be_ranked(row)), key=lambda row: (_key(row, goal), row.trial))
    rest = sorted((row for row in rows if not _can_be_ranked(row)), key=lambda row: _place(row, goal))
    ranked = _with_ranks(ranked)
    if ranked:
        pairs = math.comb(sum(row.same_as is None for row in ranked), 2)
        ranked = [_against(row, ranked[0], goal, level, pairs) for row in ranked]
    ranked, costs = _with_front(ranked, goal)
    return Results(
        goal=goal,
        level=level,
        rows=[*ranked, *rest],
        keys=list(dict.fromkeys(key for trial in record.trials for key in trial.settings)),
        comparisons=sum(row.verdict in ("even", "worse") for row in ranked if row.same_as is None),
        costs=costs,
    )


def again(folder: Path, row: Row, *, seed: int | None = None) -> str:
    """Return the command that trains a configuration again, in a folder of its own.

    Args:
        folder: The sweep's, as a user names it from where the command is given.
        row: The configuration; its first run is the one that is repeated.
        seed: Another seed than that run's.
    """
    config = folder / row.runs[0].folder / "config.yaml"
    asked = folder / "trials" / f"{row.runs[0].number}.yaml"
    if asked.is_file() and not config.is_file():  # the run folder was deleted, or is on another machine
        config = asked
    target = f"{folder}-trial-{row.trial}" + ("" if seed is None else f"-seed-{seed}")
    words = ["quincunx", "train", str(config), f"run.dir={target}", *([] if seed is None else [f"seed={seed}"])]
    return shlex.join(words)


def fresh_seed(results: Results) -> int:
    """Return the smallest seed above all that took part."""
    return max((run.seed for row in results.rows for run in row.runs), default=0) + 1


def estimate(values: Sequence[float], level: float = LEVEL) -> Estimate | None:
    """Return the mean of one value a seed, with Student's interval where there are several; None for no value.

    The mean is nan where a value is not finite.
    """
    if not values:
        return None
    if len(values) == 1 or not all(map(math.isfinite, values)):
        return Estimate(values[0] if len(values) == 1 else math.nan)
    with np.errstate(all="ignore"):  # squares of values above 1e154 overflow: then there is no interval to speak of
        found = student_interval(values, level)
    if not all(map(math.isfinite, (found.value, found.low, found.high))):
        return Estimate(found.value if math.isfinite(found.value) else math.nan)
    return Estimate(found.value, found.low, found.high, "seeds")


def _row(trial: TrialRecord, owners: Mapping[int, int], level: float) -> Row:
    runs = sorted(trial.runs, key=lambda run: run.replicate)
    values = {run.seed: run.value for run in runs if run.value is not None}
    totals = [run.total for run in runs if run.total is not None]
    seconds = [run.seconds for run in runs if run.seconds > 0]
    return Row(
        trial=trial.number,
        state=trial.state,
        settings=trial.settings,
        estimate=estimate(list(values.values()), level),
        values=values,
        runs=runs,
        update=min((run.update for run in runs), default=0),
        total=max(totals, default=None),
        seconds=fmean(seconds) if seconds else None,
        memory=max((run.memory for run in runs if run.memory is not None), default=None),
        same_as=_original(trial, owners),
    )


def _original(trial: TrialRecord, owners: Mapping[int, int]) -> int | None:
    """Return the one earlier trial that all runs of this one are copies of runs of."""
    found = {owners.get(run.same_as) if run.same_as is not None else None for run in trial.runs}
    only = found.pop() if len(found) == 1 else None
    return None if only == trial.number else only


def _can_be_ranked(row: Row) -> bool:
    return row.state == "done" and len(row.values) == len(row.runs) and math.isfinite(_mean(row))


def _mean(row: Row) -> float:
    return math.nan if row.estimate is None else row.estimate.value


def _key(row: Row, goal: Goal) -> float:
    """Return what is smaller for a better row; without a finite value it comes last."""
    value = _mean(row)
    if not math.isfinite(value):
        return math.inf
    return -value if goal == "max" else value


def _place(row: Row, goal: Goal) -> tuple[int, int, float, int]:
    """Return what the rows without a rank are sorted by: state, how far they came, how good they were there."""
    return AFTER.get(row.state, -1), -row.update, _key(row, goal), row.trial


def _with_ranks(rows: Sequence[Row]) -> list[Row]:
    ranked: list[Row] = []
    for place, row in enumerate(rows):
        equal = place > 0 and _mean(rows[place - 1]) == _mean(row)
        ranked.append(replace(row, rank=ranked[-1].rank if equal else place + 1))
    return ranked


def _against(row: Row, best: Row, goal: Goal, level: float, pairs: int) -> Row:
    """Return a row with what tells it from the best: the paired difference over the seeds that both have."""
    if row is best:
        return replace(row, verdict="best", common=len(row.values))
    seeds = [seed for seed in row.values if seed in best.values]
    gaps = [row.values[seed] - best.values[seed] for seed in seeds]
    difference = estimate(gaps, level)
    # one chance in 20 of an error is shared among all pairs, so that the pair that was looked for is covered too
    wide = estimate(gaps, 1 - (1 - level) / max(1, pairs))
    told = _excludes_zero(difference, goal)
    verdict: Verdict = "unknown" if told is None else "worse" if told else "even"
    sure = bool(told and _excludes_zero(wide, goal))
    return replace(row, verdict=verdict, difference=difference, common=len(seeds), sure=sure)


def _excludes_zero(difference: Estimate | None, goal: Goal) -> bool | None:
    """Tell whether the interval of a difference lies on the worse side of 0 only; None without an interval."""
    if difference is None or difference.low is None or difference.high is None:
        return None
    return difference.high < 0 if goal == "max" else difference.low > 0


def _with_front(rows: Sequence[Row], goal: Goal) -> tuple[list[Row], list[str]]:
    """Return rows with those marked that no other dominates, and which costs counted."""
    costs = [name for name in ("seconds", "memory") if rows and all(getattr(row, name) is not None for row in rows)]
    if not costs:
        return list(rows), []
    points = np.array([[_key(row, goal), *(float(getattr(row, name)) for name in costs)] for row in rows])
    marked: list[Row] = []
    for row, point in zip(rows, points, strict=True):
        dominated = ((points <= point).all(axis=1) & (points < point).any(axis=1)).any()
        marked.append(replace(row, front=not bool(dominated)))
    return marked, costs
