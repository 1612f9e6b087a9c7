"""How a leg of a run ended, from its process and its folder: a pure function, and how a sweep ended."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from quincunx.sweep.records import RunRecord, SweepRecord
from quincunx.sweep.running.watching import Look
from quincunx.sweep.storage.study import DIVERGED


@dataclass(frozen=True)
class Exit:
    """How a run's process ended."""

    status: int
    """Its exit code; negative: the signal that ended it."""
    said: str
    """The last lines that it printed."""
    asked: bool = False
    """It was asked to stop, since the sweep stops."""
    wrote: bool = True
    """The summary in its folder is its own, not that of an earlier attempt."""


def judge(run: RunRecord, found: Look, ended: Exit | None, retries: int, problem: str = "") -> RunRecord:
    """Return a run after a leg of it.

    Args:
        run: As it was at work, with its update, value and costs brought up to date.
        found: What its folder says.
        ended: Its process; None where there was none, since the folder said that the leg is trained.
        retries: How often a failed leg is tried again.
        problem: What to say of a run that ended well, but without a value.
    """
    run = replace(run, total=found.total)
    if found.complete:
        end = "done" if found.at_end else "paused"
        return replace(run, state=end, attempts=0, reason=found.summary.get("reason", "") if run.values else problem)
    if ended is None or ended.asked:
        return replace(run, state="waiting")
    reason = _reason(found, ended)
    if ended.status == 2:
        return replace(run, state="refused", reason=reason)
    attempts = run.attempts + 1
    hopeless = reason.startswith(DIVERGED) or attempts > retries
    return replace(run, state="failed" if hopeless else "waiting", attempts=attempts, reason=reason)


def _reason(found: Look, ended: Exit) -> str:
    said = found.summary.get("reason", "")
    if found.summary.get("state") in ("failed", "interrupted") and said and ended.wrote and ended.status == 1:
        return said
    if ended.status < 0:
        name = signal.Signals(-ended.status).name if -ended.status in set(signal.Signals) else str(-ended.status)
        # what the kernel does to the largest process when memory runs out
        hint = ", perhaps for want of memory" if ended.status == -signal.SIGKILL else ""
        return f"its process was ended by {name}{hint}" + (f":\n{ended.said}" if ended.said else "")
    return ended.said or f"its process left with exit code {ended.status}"


@dataclass(frozen=True)
class Outcome:
    """How a sweep stands when a worker leaves it."""

    reason: str
    """Why the worker left."""
    stopped: bool
    """It was asked to stop."""
    runs: Mapping[str, int] = field(default_factory=dict)
    """State -> number of runs."""

    @property
    def exit_code(self) -> int:
        """1 where a run failed for good or the sweep was stopped, else 0."""
        return 1 if self.stopped or self.runs.get("failed", 0) else 0


def outcome_of(record: SweepRecord, reason: str, *, stopped: bool) -> Outcome:
    """Return how a sweep stands."""
    return Outcome(reason, stopped, dict(Counter(run.state for run in record.runs)))
