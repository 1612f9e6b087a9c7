"""What a sweep knows of its trials and runs, as plain immutable data: read from the storage, judged by pure functions.

A *trial* is one configuration; a *run* is one of its replicates (a seed of its own), an ordinary run folder. A run that
a pruner promotes is trained in *legs*, from one rung to the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

RunState = Literal["waiting", "running", "paused", "done", "pruned", "failed", "refused"]
"""`waiting` for a worker; `running`; `paused` at a rung; `done` to its end; `pruned` before it; `failed` for good;
`refused`: its config is contradictory, so that it never began."""

FINAL: frozenset[RunState] = frozenset({"done", "pruned", "failed", "refused"})


@dataclass(frozen=True)
class RunRecord:
    """One run of a sweep."""

    number: int
    """Counts the runs of a sweep from 0; in the folder's name."""
    trial: int
    replicate: int
    seed: int
    folder: str
    """Name of the run folder, below the sweep's folder."""
    hash: str
    """Of the run's whole config but where it is written, how it is logged and on what it computes."""
    state: RunState = "waiting"
    target: int | None = None
    """Update at which the present leg ends; None: the end of training."""
    update: int = 0
    """Updates done when last looked at."""
    total: int | None = None
    """Updates of the whole training, once known."""
    value: float | None = None
    """The metric by `sweep.value`, once there is one; nan where it was no number."""
    values: Mapping[int, float] = field(default_factory=dict)
    """The metric at each evaluated update (for `sweep.value: best` the best so far)."""
    attempts: int = 0
    """How often its present leg was begun and failed."""
    seconds: float = 0.0
    """At work, over all legs and attempts."""
    memory: int | None = None
    """Largest memory of its process in bytes; on a GPU the GPU's."""
    reason: str = ""
    """Why it ended as it did, or how it failed."""
    owner: str | None = None
    """The worker that runs it: `host:pid:start`."""
    host: str | None = None
    """Where its folder lies: the host that ran it last."""
    same_as: int | None = None
    """Number of an earlier run with the same config, whose outcome this one takes over without being run."""


TrialState = Literal["open", "done", "pruned", "failed"]


@dataclass(frozen=True)
class TrialRecord:
    """One configuration of a sweep."""

    number: int
    point: Mapping[str, Any]
    """Range name -> the chosen position (of listed values) or number (of a span)."""
    settings: Mapping[str, Any]
    """Setting as it is written in the ranges -> its value; only ranges that act."""
    runs: Sequence[RunRecord]

    @property
    def state(self) -> TrialState:
        """Open until every run is final; failed when any failed, else pruned when any was pruned."""
        states = {run.state for run in self.runs}
        if not states or states - FINAL:
            return "open"
        if states & {"failed", "refused"}:
            return "failed"
        return "pruned" if "pruned" in states else "done"

    @property
    def value(self) -> float | None:
        """The mean over its runs; None while one of them has no value."""
        found = [run.value for run in self.runs]
        if not found or any(value is None for value in found):
            return None
        return sum(value for value in found if value is not None) / len(found)


@dataclass(frozen=True)
class SweepRecord:
    """All of a sweep at one moment."""

    trials: Sequence[TrialRecord]
    """By number, without gaps."""
    hours: float = 0.0
    """At work so far, over all starts."""

    @property
    def runs(self) -> list[RunRecord]:
        """Every run, trial by trial."""
        return [run for trial in self.trials for run in trial.runs]

    @property
    def updates(self) -> int:
        """Updates made by all runs together, and promised by those that are at work."""
        return sum(
            max(run.update, (run.target or run.total or 0) if run.state == "running" else 0)
            for run in self.runs
            if run.same_as is None  # what takes over an outcome made no update of its own
        )


@dataclass(frozen=True)
class Facts:
    """What no record tells."""

    more: bool
    """There are configurations that have no trial yet."""
    orphans: frozenset[int] = frozenset()
    """Runs whose worker is gone."""
    elsewhere: frozenset[int] = frozenset()
    """Runs whose folder is on a machine that is at work itself: they are left to it."""
