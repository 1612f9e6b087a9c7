"""What a worker with a free place does next: a pure function of what the sweep knows."""

from __future__ import annotations

from dataclasses import dataclass

from quincunx.sweep.records import Facts, RunRecord, SweepRecord, TrialRecord
from quincunx.sweep.running.pruning import first_target, next_target, promotion
from quincunx.sweep.settings import Sweep

IN_VAIN = 100
"""So many trials in a row that gave nothing to run (each one like an earlier one, or refused) end a sweep."""


@dataclass(frozen=True)
class Start:
    """Run a run, from its checkpoint where it has one."""

    run: int
    target: int | None


@dataclass(frozen=True)
class New:
    """Make a trial."""


@dataclass(frozen=True)
class Promote:
    """Let the runs of a paused trial go on."""

    trial: int
    target: int | None


@dataclass(frozen=True)
class Wait:
    """Others are at work, and what they find out may give work."""


@dataclass(frozen=True)
class Done:
    """Nothing is left to do."""

    reason: str


Choice = Start | New | Promote | Wait | Done


def choose(record: SweepRecord, settings: Sweep, goal: str, facts: Facts) -> Choice:
    """Return what is to be done next.

    First what was begun: runs whose worker is gone, and runs to be tried again; then runs that wait, by number; then
    promotions, the top rung first; then new trials, while trials, updates and hours allow.

    Args:
        record: All that is known.
        settings: The section `sweep`.
        goal: `max` or `min`.
        facts: What no record tells.
    """
    here = [run for run in record.runs if run.same_as is None and run.number not in facts.elsewhere]
    begun = [run for run in here if run.number in facts.orphans]
    begun += [run for run in here if run.state == "waiting" and _was_begun(run)]
    failed = next((run for run in record.runs if run.state == "failed"), None) if settings.fail_fast else None
    if begun and failed is None:
        return Start(begun[0].number, begun[0].target)
    working = any(run.state == "running" and run.same_as is None for run in record.runs)
    left = any(run.state == "waiting" and run.number in facts.elsewhere for run in record.runs)
    reason = _why_no_more(record, settings, failed)
    if reason is None:
        reason = "every configuration was run"
        fresh = next((run for run in here if run.state == "waiting"), None)
        if fresh is not None:
            return Start(fresh.number, first_target(record.trials[fresh.trial], record, settings))
        more = facts.more and not _in_vain(record)
        trial = _to_promote(record, settings, goal, more=more, busy=working or left, facts=facts)
        if trial is not None:
            return Promote(trial.number, next_target(trial, record, settings))
        if more:
            return New()
        if facts.more:
            reason = f"the last {IN_VAIN} configurations chosen gave nothing new to run"
    return Wait() if working or left else Done(reason)


def _was_begun(run: RunRecord) -> bool:
    return run.update > 0 or run.attempts > 0 or run.host is not None


def _why_no_more(record: SweepRecord, settings: Sweep, failed: RunRecord | None) -> str | None:
    """Return why nothing further may begin, None where it may."""
    if failed is not None:
        return f"a run failed ({failed.folder}), and sweep.fail_fast is set"
    if settings.updates is not None and record.updates >= settings.updates:
        return f"the {settings.updates:,} updates of sweep.updates were made"
    if settings.hours is not None and record.hours >= settings.hours:
        return f"the {settings.hours:g} hours of sweep.hours are over"
    return None


def _in_vain(record: SweepRecord) -> bool:
    last = record.trials[-IN_VAIN:]
    return len(last) == IN_VAIN and all(
        run.same_as is not None or run.state == "refused" for trial in last for run in trial.runs
    )


def _to_promote(
    record: SweepRecord, settings: Sweep, goal: str, *, more: bool, busy: bool, facts: Facts
) -> TrialRecord | None:
    if settings.pruner in ("asha", "hyperband"):
        trial = promotion(record, settings, goal, complete=not more, closing=not (more or busy))
    else:  # paused under another pruner
        trial = next((trial for trial in record.trials if any(run.state == "paused" for run in trial.runs)), None)
    if trial is None or any(run.number in facts.elsewhere for run in trial.runs):
        return None
    return trial
