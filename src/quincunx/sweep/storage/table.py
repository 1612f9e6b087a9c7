"""The rows of a sweep's runs and workers: every change is one transaction, by the row's owner or under the lock."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from quincunx.sweep.records import RunRecord, RunState, TrialRecord
from quincunx.sweep.storage.database import RUNS, SWEEPS, WORKERS, Database
from quincunx.sweep.storage.owners import is_alive, machine, owner_of
from quincunx.sweep.storage.rows import curve_of, progress_of, row_of, run_of

GAP = 60.0
"""Seconds between two signs of life that still count as work."""


class Table:
    """The rows of one sweep, as one worker writes them.

    Args:
        database: An open database with our tables.
        sweep: Which sweep, by the id of its study.
        host: By which name this machine is known to others.
    """

    def __init__(self, database: Database, sweep: int, host: str) -> None:
        self.host = host
        self.owner = owner_of(host)
        self._machine = machine()
        self._database = database
        self._sweep = sweep
        self._curves: dict[int, tuple[str, dict[int, float]]] = {}

    def begin(self, seed: int) -> None:
        """Make the sweep's own row, where it is missing."""
        with self._database.begin() as connection:
            if connection.execute(sa.select(SWEEPS.c.sweep).where(SWEEPS.c.sweep == self._sweep)).first() is None:
                connection.execute(SWEEPS.insert().values(sweep=self._sweep, seed=seed, seconds=0.0, beat=0.0))

    def sweep(self) -> tuple[int, dict[str, Any] | None]:
        """Return the seed that was kept, and the snapshot if one was."""
        with self._database.begin() as connection:
            row = connection.execute(sa.select(SWEEPS).where(SWEEPS.c.sweep == self._sweep)).one()
        return row.seed, None if row.snapshot is None else json.loads(row.snapshot)

    def keep(self, snapshot: Mapping[str, Any]) -> None:
        """Write the snapshot."""
        with self._database.begin() as connection:
            here = SWEEPS.update().where(SWEEPS.c.sweep == self._sweep)
            connection.execute(here.values(snapshot=json.dumps(snapshot)))

    def read(self) -> tuple[list[RunRecord], float]:
        """Return all runs, trial by trial, and the seconds at work."""
        with self._database.begin() as connection:
            rows = connection.execute(
                sa.select(RUNS).where(RUNS.c.sweep == self._sweep).order_by(RUNS.c.trial, RUNS.c.replicate)
            ).all()
            seconds = connection.execute(sa.select(SWEEPS.c.seconds).where(SWEEPS.c.sweep == self._sweep)).scalar_one()
        return [self._run(row) for row in rows], seconds

    def insert(self, runs: Sequence[RunRecord]) -> None:
        """Add runs."""
        with self._database.begin() as connection:
            connection.execute(RUNS.insert(), [{"sweep": self._sweep, **row_of(run)} for run in runs])

    def claim(self, run: RunRecord, target: int | None, *, anew: bool = False) -> RunRecord | None:
        """Take a run for this worker; None where another was faster (which the lock prevents).

        Args:
            run: As it was read.
            target: Update at which the leg ends; None: the end of training.
            anew: What was trained of it is out of reach.
        """
        claimed = replace(run, state="running", owner=self.owner, host=self.host, target=target)
        if anew:
            claimed = replace(claimed, update=0, value=None, values={})
        same = RUNS.c.owner.is_(None) if run.owner is None else RUNS.c.owner == run.owner
        return claimed if self._write(claimed, sa.and_(same, RUNS.c.state == run.state)) else None

    def reopen(self, run: RunRecord) -> None:
        """Let a run that failed wait once more."""
        self._write(replace(run, state="waiting"), RUNS.c.state == "failed")

    def beat(self, progress: Sequence[RunRecord] = ()) -> dict[int, RunState]:
        """Give a sign of life, note how far this worker's runs are, and return the state of those that are its own."""
        with self._database.begin() as connection:
            now = connection.execute(sa.select(self._database.now)).scalar_one()
            mine = sa.and_(WORKERS.c.sweep == self._sweep, WORKERS.c.owner == self.owner)
            others = sa.and_(WORKERS.c.sweep == self._sweep, WORKERS.c.beat > now - GAP)
            busy = connection.execute(sa.select(WORKERS.c.owner).where(others)).first() is not None
            if connection.execute(WORKERS.update().where(mine).values(beat=now)).rowcount == 0:
                connection.execute(
                    WORKERS.insert().values(
                        sweep=self._sweep, owner=self.owner, host=self.host, machine=self._machine, beat=now
                    )
                )
            since = now - SWEEPS.c.beat
            # the time before the only worker came is nobody's
            worked = sa.case((sa.and_(since > 0, since < GAP), since), else_=0.0) if busy else 0.0
            connection.execute(
                SWEEPS.update()
                .where(SWEEPS.c.sweep == self._sweep)
                .values(seconds=SWEEPS.c.seconds + worked, beat=sa.case((since > 0, now), else_=SWEEPS.c.beat))
            )
            for run in progress:
                connection.execute(self._own(run).values(progress_of(run)))
            own = sa.and_(RUNS.c.sweep == self._sweep, RUNS.c.owner == self.owner)
            return {
                row.number: row.state for row in connection.execute(sa.select(RUNS.c.number, RUNS.c.state).where(own))
            }

    def finish(self, run: RunRecord) -> bool:
        """Write how a run of this worker ended; False where it is no longer its run, and nothing was written.

        What was pruned in the meantime stays pruned.
        """
        with self._database.begin() as connection:
            values = {**row_of(run), "owner": None}
            pruned = RUNS.c.state == "pruned"
            values["state"] = sa.case((pruned, "pruned"), else_=run.state)
            values["reason"] = sa.case((pruned, RUNS.c.reason), else_=run.reason)
            return connection.execute(self._own(run).values(values)).rowcount == 1

    def change(self, trial: TrialRecord, states: tuple[RunState, ...], **values: Any) -> None:
        """Change those runs of a trial that are in one of some states."""
        here = sa.and_(
            RUNS.c.sweep == self._sweep,
            RUNS.c.trial == trial.number,
            RUNS.c.same_as.is_(None),
            RUNS.c.state.in_(states),
        )
        with self._database.begin() as connection:
            connection.execute(RUNS.update().where(here).values(values))

    def workers(self, lease: float) -> dict[str, str]:
        """Return owner -> host of the workers that are there; this one is.

        Args:
            lease: Seconds without a sign of life after which a worker of another machine is taken for gone.
        """
        with self._database.begin() as connection:
            now = connection.execute(sa.select(self._database.now)).scalar_one()
            rows = connection.execute(sa.select(WORKERS).where(WORKERS.c.sweep == self._sweep)).all()
        found = {self.owner: self.host}
        for row in rows:
            near = row.host == self.host and row.machine == self._machine
            if is_alive(row.owner) if near else now - row.beat < lease:
                found[row.owner] = row.host
        return found

    def leave(self) -> None:
        """This worker has ended; its runs have been given back."""
        with self._database.begin() as connection:
            mine = sa.and_(WORKERS.c.sweep == self._sweep, WORKERS.c.owner == self.owner)
            connection.execute(WORKERS.delete().where(mine))

    def _run(self, row: Any) -> RunRecord:
        text, curve = self._curves.get(row.number, ("", {}))
        if text != row.curve:
            curve = curve_of(row.curve)
            self._curves[row.number] = (row.curve, curve)
        return run_of(row, curve)

    def _own(self, run: RunRecord) -> sa.Update:
        return RUNS.update().where(RUNS.c.sweep == self._sweep, RUNS.c.number == run.number, RUNS.c.owner == self.owner)

    def _write(self, run: RunRecord, only: Any) -> bool:
        here = sa.and_(RUNS.c.sweep == self._sweep, RUNS.c.number == run.number, only)
        with self._database.begin() as connection:
            return connection.execute(RUNS.update().where(here).values(row_of(run))).rowcount == 1
