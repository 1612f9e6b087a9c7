"""Which trials end early: pure functions of what a sweep knows.

`median`: D. Golovin et al., Google Vizier (KDD 2017), section 3.2.1. `asha`: L. Li et al., A System for Massively
Parallel Hyperparameter Tuning (MLSys 2020), algorithm 2, whose trials go on from their checkpoints. `hyperband`: L. Li
et al. (JMLR 2018), with its brackets run side by side by the rule of asha.

A trial is judged by the mean over its runs, and all of them go on together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from quincunx.sweep.records import FINAL, RunRecord, SweepRecord, TrialRecord
from quincunx.sweep.settings import Sweep

ENDLESS = 2**62
"""Stands for a number of updates that is not known yet."""


def rungs(first: int, factor: int, total: int | None) -> list[int]:
    """Return the updates of the rungs below the end of training: first, first * factor, ...; one if that is unknown."""
    found = [first]
    while total is not None and found[-1] * factor < total:
        found.append(found[-1] * factor)
    return found if total is None or first < total else []


def bracket_of(number: int, brackets: int, factor: int) -> int:
    """Return a trial's bracket: how many of the lowest rungs it passes by.

    The brackets' shares are as in Hyperband, where one that begins s rungs lower has about factor^s / (s + 1) times as
    many trials; they are dealt out so that after any number of trials each bracket is as near its share as can be.
    """
    return _deal(brackets, factor, 1 << (number + 1).bit_length())[number]


def ladder(trial: TrialRecord, record: SweepRecord, settings: Sweep) -> list[int]:
    """Return the rungs of a trial, lowest first; none where it trains in one go."""
    if settings.pruner not in ("asha", "hyperband"):
        return []
    first, factor = settings.pruning.first, settings.pruning.factor
    found = rungs(first, factor, _total(trial, record))
    if settings.pruner == "asha" or _total(trial, record) is None:
        return found
    # the last bracket has no rung at all: its trials train to the end at once
    return found[bracket_of(trial.number, len(found) + 1, factor) :]


def first_target(trial: TrialRecord, record: SweepRecord, settings: Sweep) -> int | None:
    """Return the update at which the first leg of a trial's runs ends; None: the end of training."""
    return next(iter(ladder(trial, record, settings)), None)


def next_target(trial: TrialRecord, record: SweepRecord, settings: Sweep) -> int | None:
    """Return the update at which the next leg of a paused trial ends; None: the end of training."""
    done = _done(trial)
    return next((rung for rung in ladder(trial, record, settings) if rung > done), None)


def promotion(
    record: SweepRecord, settings: Sweep, goal: str, *, complete: bool = False, closing: bool = False
) -> TrialRecord | None:
    """Return the trial that goes on to its next rung, None where none has earned it.

    Of the trials that came to a rung, once enough did (`pruning.gather`), the best 1 / factor go on, the highest rung
    first. That may leave nobody to train to the end where there are few trials.

    Args:
        record: All that is known.
        settings: The section `sweep`.
        goal: `max` or `min`.
        complete: No further trial will come: a rung waits for no more than there are.
        closing: No further trial will come, and none is at work: in a bracket in which no trial has trained to its end,
            the best one of the highest rung goes on.
    """
    ladders = {trial.number: ladder(trial, record, settings) for trial in record.trials if _counts(trial)}
    waiting = {trial.number: trial for trial in record.trials if trial.number in ladders and _is_paused(trial)}
    for trial in waiting.values():
        steps = ladders[trial.number]
        if not steps or _done(trial) < steps[0]:  # paused before its length was known, below its first rung
            return trial
    # those that begin at the same rung compete, at every rung that they share
    groups: dict[int, list[TrialRecord]] = {}
    for trial in record.trials:
        if ladders.get(trial.number):
            groups.setdefault(ladders[trial.number][0], []).append(trial)
    for gathered in (True, False) if closing else (True,):  # what can no longer be gathered is not waited for
        for rung in sorted({rung for steps in ladders.values() for rung in steps}, reverse=True):
            for members in groups.values():
                came = [trial for trial in members if rung in ladders[trial.number] and _came(trial, rung)]
                start = ladders[members[0].number][0]
                if gathered and len(came) < _needed(rung, start, settings, len(members) if complete else None):
                    continue
                for trial in _ranked(came, rung, goal)[: len(came) // settings.pruning.factor]:
                    if trial.number in waiting and _rung(trial, ladders[trial.number]) == rung:
                        return trial
    return _last_hope(groups, ladders, waiting, goal) if closing else None


def hopeless(record: SweepRecord, number: int, settings: Sweep, goal: str) -> str | None:
    """Return why a trial is to be ended by the median rule, None while it may go on.

    It is ended when its best value so far is worse than the median of what the others had at the same update, each the
    mean over a trial's runs. Another trial counts once it has come so far and has a value.

    Args:
        record: All that is known.
        number: Of the trial.
        settings: The section `sweep`.
        goal: `max` or `min`.
    """
    trial = record.trials[number]
    update = min((max(run.values, default=0) for run in trial.runs), default=0)
    if settings.pruner != "median" or update == 0 or update < settings.pruning.after:
        return None
    others = [
        value
        for other in record.trials
        if other.number != number and _counts(other) and _reached(other) >= update
        if (value := value_at(other, update)) is not None
    ]
    if len(others) < settings.pruning.startup:
        return None
    seen = sorted({step for run in trial.runs for step in run.values if step <= update})
    own = [value for step in seen if (value := value_at(trial, step)) is not None]
    middle = _middle(others, goal)
    best = min(own, key=lambda value: _key(value, goal), default=math.nan)
    if math.isnan(middle) or _key(best, goal) <= _key(middle, goal):
        return None
    return f"pruned at update {update}: {best:.6g} is worse than the median {middle:.6g} of {len(others)} other trials"


def value_at(trial: TrialRecord, update: int) -> float | None:
    """Return the mean over a trial's runs of the last value up to an update; None while one of them has none."""
    found: list[float] = []
    for run in trial.runs:
        steps = [step for step in run.values if step <= update]
        if not steps:
            return None
        found.append(run.values[max(steps)])
    return sum(found) / len(found) if found else None


@lru_cache(maxsize=32)
def _deal(brackets: int, factor: int, length: int) -> tuple[int, ...]:
    shares = [factor ** (brackets - 1 - bracket) / (brackets - bracket) for bracket in range(brackets)]
    whole, counts, found = sum(shares), [0] * brackets, list[int]()
    for dealt in range(1, length + 1):
        behind = [share / whole * dealt - count for share, count in zip(shares, counts, strict=True)]
        found.append(behind.index(max(behind)))
        counts[found[-1]] += 1
    return tuple(found)


def _middle(values: Sequence[float], goal: str) -> float:
    ranked = sorted(values, key=lambda value: _key(value, goal))
    half = len(ranked) // 2
    return ranked[half] if len(ranked) % 2 else (ranked[half - 1] + ranked[half]) / 2


def _total(trial: TrialRecord, record: SweepRecord) -> int | None:
    own = [run.total for run in trial.runs if run.total is not None]
    return max(own) if own else max((run.total for run in record.runs if run.total is not None), default=None)


def _counts(trial: TrialRecord) -> bool:
    # a trial that only repeats another would count that one twice; one that failed has no value to be ranked by
    return trial.state != "failed" and all(run.same_as is None for run in trial.runs)


def _is_paused(trial: TrialRecord) -> bool:
    # what a finished sweep called pruned goes on if the sweep does
    states = {run.state for run in trial.runs}
    return bool(states & {"paused", "pruned"}) and states <= {"paused", "pruned", "done"}


def _done(trial: TrialRecord) -> int:
    """Return the updates that all runs of a trial have done; a run that ended by itself has done all."""
    return min((ENDLESS if run.state == "done" else run.update for run in trial.runs), default=0)


def _came(trial: TrialRecord, rung: int) -> bool:
    """Tell whether a trial has come to a rung and is known to have been evaluated there, as far as it can be."""
    return all(
        run.state == "done" or (run.update >= rung and (run.state != "running" or max(run.values, default=0) >= rung))
        for run in trial.runs
    )


def _reached(trial: TrialRecord) -> int:
    return min((_far(run) for run in trial.runs), default=0)


def _far(run: RunRecord) -> int:
    return max(run.values, default=0) if run.state not in FINAL else run.update


def _needed(rung: int, start: int, settings: Sweep, there_are: int | None) -> int:
    """Return how many trials of a bracket that begins at `start` must have come to a rung before one goes on."""
    gather = settings.pruning.gather if there_are is None else min(settings.pruning.gather, there_are)
    return gather * start // rung


def _rung(trial: TrialRecord, steps: Sequence[int]) -> int | None:
    return max((rung for rung in steps if rung <= _done(trial)), default=None)


def _ranked(trials: Sequence[TrialRecord], rung: int, goal: str) -> list[TrialRecord]:
    """Return trials, the best at a rung first; of equal ones the earlier first."""
    return sorted(trials, key=lambda trial: (_key(value_at(trial, rung), goal), trial.number))


def _key(value: float | None, goal: str) -> float:
    """Return what sorts values the best first, those that are no numbers last."""
    if value is None or math.isnan(value):
        return math.inf
    return -value if goal == "max" else value


def _last_hope(
    groups: dict[int, list[TrialRecord]],
    ladders: dict[int, list[int]],
    waiting: dict[int, TrialRecord],
    goal: str,
) -> TrialRecord | None:
    for _, members in sorted(groups.items()):
        if any(_done(trial) == ENDLESS for trial in members):
            continue
        paused = [trial for trial in members if trial.number in waiting]
        reached = {trial.number: _rung(trial, ladders[trial.number]) or 0 for trial in paused}
        if reached:
            top = max(reached.values())
            return _ranked([trial for trial in paused if reached[trial.number] == top], top, goal)[0]
    return None
