"""The record of a sweep, kept so that a kill -9 between any two steps loses nothing and doubles nothing.

Every change is one transaction. Whoever looks, decides and claims does so under the lock of the sweep, which ends with
the process that holds it, and begins by completing what a killed one left half done (`mend`). In order:

1. A trial: Optuna's trial with its parameters and point (one transaction), the config files of its runs (each written
   whole), then its runs (one transaction). Killed before the first: nothing happened, and the next worker makes the
   same trial, by the same number. Before the last: Optuna has a trial with the number that comes next here; its runs
   are made from the point that is stored with it, and its files are written anew.
2. A claim: a run becomes `running` with an owner (one transaction); its process is started afterwards. Killed in
   between, or at any time later: the owner is gone, which is seen at once on the same machine (process number and
   start), elsewhere when it has given no sign of life for `sweep.lease` seconds; the run is claimed by another.
   A process that outlives its worker goes on with its run, and holds a lock (`worker`): who claims the run waits for
   it, finds the run trained, or trains on from its last checkpoint.
3. An end: what a run's folder says is copied into its row, which gets its new state and loses its owner (one
   transaction, and only if the owner is still the same). Killed before it: as in 2, and the folder says it again.
4. A trial's end: when its runs are final Optuna is told (one transaction). Killed before it: whoever looks next sees a
   trial that has ended here and not there, and tells.

So a row is written by its owner or under the lock, and a run is one row: (trial, replicate) is unique in the table.
A run with the config of an earlier one has no outcome of its own: it is read off the earlier one's row, every time.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from quincunx.config.document import ConfigError
from quincunx.config.schema import lookup
from quincunx.errors import RunError
from quincunx.runs import write_atomically
from quincunx.seeds import draw_seed
from quincunx.sweep.choosing.sampling import point_of
from quincunx.sweep.naming import folder_name
from quincunx.sweep.records import Facts, RunRecord, RunState, SweepRecord, TrialRecord
from quincunx.sweep.settings import ADAPTIVE
from quincunx.sweep.storage.database import Database, open_database
from quincunx.sweep.storage.owners import host_name
from quincunx.sweep.storage.rows import mirrored
from quincunx.sweep.storage.study import DIVERGED, open_study, placed, proposed, tell
from quincunx.sweep.storage.table import Table

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

    from quincunx.sweep.reading.spec import Spec


def trial_path(folder: str | Path, run: RunRecord) -> Path:
    """Return where the config of a run lies."""
    return Path(folder) / "trials" / f"{run.number}.yaml"


class Store:
    """The storage of one sweep, as one worker (or one reader) has it open."""

    def __init__(self, spec: Spec, database: Database, storage: RDBStorage, sweep: int, table: Table) -> None:
        self.spec = spec
        self.host = table.host
        """By which name this machine is known to others."""
        self.owner = table.owner
        """The name of this worker."""
        self.seed, self.snapshot = table.sweep()
        if spec.seed is not None:
            self.seed = spec.seed
        self._table = table
        self._database = database
        self._storage = storage
        self._sweep = sweep
        self._made: dict[int, FrozenTrial] = {}
        self._told: set[int] = set()
        self._grid: list[tuple[str, Any]] | None = None

    @classmethod
    def open(cls, spec: Spec, *, host: str | None = None, begin: bool = True) -> Store:
        """Open the storage of a sweep.

        Args:
            spec: The sweep.
            host: By which name this machine is known to others. None: its own.
            begin: Make what is missing; False: only read.

        Raises:
            RunError: The storage cannot be used, or (with `begin=False`) holds no such sweep.
        """
        folder = Path(spec.dir)
        name = spec.settings.name or str(spec.dir)
        local = spec.settings.storage is None
        if not begin and local and not (folder / "sweep.db").is_file():
            raise RunError(f"{folder} holds no sweep: there is no sweep.db in it")
        database = open_database(spec.settings.storage, folder, name)
        if begin and local:  # of a server that gives no answer, nothing is left behind
            _make(folder)
        # the file lies in the folder, which may be moved, or named in another way
        alone = local and spec.settings.name is None
        with database.lock() if begin else nullcontext():
            with database.guard():
                storage = database.optuna(begin)
                sweep = open_study(storage, name, spec.goal, make=begin, alone=alone)
            if sweep is None:
                raise RunError(f"{database.shown} holds no sweep of the name {name}")
            table = Table(database, sweep, host or host_name())
            if begin:
                _make(folder)
                database.make_tables()
                table.begin(draw_seed() if spec.seed is None else spec.seed)
        return cls(spec, database, storage, sweep, table)

    def keep(self, snapshot: Mapping[str, Any]) -> None:
        """Store what the sweep is (plain containers, nothing secret), for machines that join it: see `snapshot`."""
        self._table.keep(snapshot)
        self.snapshot = dict(snapshot)

    def is_begun(self) -> bool:
        """Tell whether there is a trial, or another worker that may be about to make one."""
        return len(self._table.workers(self.spec.settings.lease)) > 1 or bool(
            self._table.read()[0] or self._half_made(0)
        )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep all other workers of the sweep from deciding, on every machine."""
        with self._database.lock():
            yield

    def read(self) -> SweepRecord:
        """Return all that is known at this moment."""
        found, seconds = self._table.read()
        runs = {run.number: run for run in found}
        trials: dict[int, list[RunRecord]] = {}
        for run in found:
            trials.setdefault(run.trial, []).append(run if run.same_as is None else mirrored(run, runs[run.same_as]))
        self._fetch([number for number in trials if number not in self._made])
        return SweepRecord(
            [
                TrialRecord(
                    number, self._made[number].user_attrs["point"], self._made[number].user_attrs["settings"], own
                )
                for number, own in sorted(trials.items())
            ],
            seconds / 3600,
        )

    def mend(self, record: SweepRecord) -> SweepRecord:
        """Complete what a killed worker left half done, and return all that is known then. Under the lock."""
        made = self._half_made(len(record.trials))
        if made is not None:
            self._add_runs(made, record)
            record = self.read()
        for trial in record.trials:
            if trial.number not in self._told and trial.state != "open":
                with self._database.guard():
                    tell(self._storage, self._made[trial.number]._trial_id, trial)
                self._told.add(trial.number)
        return record

    def more(self, record: SweepRecord) -> bool:
        """Tell whether there are configurations that have no trial yet."""
        if self.spec.sampler == "grid":
            return self._next_of_grid(record) is not None
        return self.spec.settings.trials is None or len(record.trials) < self.spec.settings.trials

    def config_file(self, run: RunRecord) -> Path:
        """Return the config file of a run, written anew where it is missing: the run was made on another machine.

        Raises:
            RunError: Its combination is no longer among the ranges.
        """
        from quincunx.sweep.reading.spec import trial_file

        path = trial_path(self.spec.dir, run)
        if not path.is_file():
            attributes = self._made[run.trial].user_attrs
            point, settings = attributes["point"], attributes["settings"]
            try:
                same = _content(self.spec.space.settings(point)) == _content(settings)
            except (LookupError, ValueError):
                same = False
            if not same:
                raise RunError(f"its combination is no longer among the ranges, and {path} is missing")
            write_atomically(path, trial_file(self.spec, run, settings, point).encode())
        return path

    def add_trial(self, record: SweepRecord) -> list[RunRecord]:
        """Make the next trial and its runs, and return those. Under the lock, with what is known at present.

        Raises:
            RunError: Somebody else makes trials in Optuna's study.
            UsageError: Exclusions leave no configuration.
        """
        spec, number = self.spec, len(record.trials)
        known = {name: kind for made in self._made.values() for name, kind in made.distributions.items()}
        if spec.sampler in ADAPTIVE:
            before = [(trial, self._made[trial.number]) for trial in record.trials]
            template = proposed(spec.space, spec.sampler, spec.settings.seed, spec.goal, before, known)
        else:
            if spec.sampler == "grid":
                point = self._next_of_grid(record)
            else:
                point = point_of(spec.space, spec.sampler, spec.settings.seed, number)
            template = placed(spec.space, cast("Any", point), known)
        with self._database.guard():
            made = self._storage.get_trial(self._storage.create_new_trial(self._sweep, template))
        return self._add_runs(self._checked(made, number), record)

    def claim(self, run: RunRecord, target: int | None, *, anew: bool = False) -> RunRecord | None:
        """Take a run for this worker, under the lock; see `Table.claim`."""
        return self._table.claim(run, target, anew=anew)

    def beat(self, progress: Sequence[RunRecord] = ()) -> dict[int, RunState]:
        """Give a sign of life; see `Table.beat`."""
        return self._table.beat(progress)

    def finish(self, run: RunRecord) -> bool:
        """Write how a run of this worker ended; see `Table.finish`."""
        return self._table.finish(run)

    def leave(self) -> None:
        """This worker has ended; its runs have been given back."""
        self._table.leave()

    def promote(self, trial: TrialRecord, target: int | None) -> None:
        """Let the paused runs of a trial wait for their next leg. Under the lock."""
        self._table.change(trial, ("paused", "pruned"), state="waiting", target=target, reason="", attempts=0)

    def prune(self, trial: TrialRecord, reason: str) -> None:
        """End a trial early: all its runs that have not ended. Those that run are stopped by their workers."""
        self._table.change(trial, ("waiting", "paused", "running"), state="pruned", reason=reason)

    def close(self, record: SweepRecord) -> None:
        """The sweep is at its end: what is paused will not go on. Under the lock."""
        for trial in record.trials:
            if any(run.state == "paused" for run in trial.runs):
                self._table.change(trial, ("paused",), state="pruned", reason="others went on from its rung")

    def reopen(self, record: SweepRecord) -> None:
        """Let runs that failed wait once more, where `sweep.retries` was raised since. Under the lock."""
        for run in record.runs:
            again = run.state == "failed" and run.same_as is None and run.attempts <= self.spec.settings.retries
            if again and not run.reason.startswith(DIVERGED):
                self._table.reopen(run)

    def facts(self, record: SweepRecord, held: Collection[int] = ()) -> Facts:
        """Return what the record does not tell: who of those at work is gone, and what is out of reach.

        Args:
            record: All that is known.
            held: Runs that this worker has at work. Others that bear its name are nobody's: the storage broke off when
                they had just been claimed.
        """
        alive = self._table.workers(self.spec.settings.lease)
        hosts = set(alive.values())
        working = [run for run in record.runs if run.state == "running" and run.same_as is None]
        orphans = [
            run for run in working if run.owner not in alive or (run.owner == self.owner and run.number not in held)
        ]
        elsewhere = [run.number for run in record.runs if not self.reaches(run) and run.host in hosts]
        return Facts(self.more(record), frozenset(run.number for run in orphans), frozenset(elsewhere))

    def reaches(self, run: RunRecord) -> bool:
        """Tell whether what was trained of a run can be gone on with here."""
        return run.host in (None, self.host) or (Path(self.spec.dir) / run.folder).is_dir()

    def shut(self) -> None:
        """Close the connections."""
        with self._database.guard():
            self._storage.remove_session()
            self._storage.engine.dispose()
        self._database.close()

    def _next_of_grid(self, record: SweepRecord) -> Any:
        # by content, not by number: a grid may have grown or shrunk since
        if self._grid is None:
            points = self.spec.space.grid()
            self._grid = [(_content(self.spec.space.settings(point)), point) for point in points]
        seen = {_content(trial.settings) for trial in record.trials}
        return next((point for content, point in self._grid if content not in seen), None)

    def _half_made(self, number: int) -> FrozenTrial | None:
        with self._database.guard():
            try:
                trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._sweep, number)
            except KeyError:
                return None
            return self._checked(self._storage.get_trial(trial_id), number)

    def _checked(self, made: FrozenTrial, number: int) -> FrozenTrial:
        if made.number != number or "point" not in made.user_attrs:
            raise RunError(
                f"{self._database.shown}: trial {made.number} of the study was not made by this sweep; a study is for "
                "its own trials: give the sweep another sweep.name or sweep.dir, or delete the study"
            )
        return made

    def _add_runs(self, made: FrozenTrial, record: SweepRecord) -> list[RunRecord]:
        settings, point = made.user_attrs["settings"], made.user_attrs["point"]
        by_hash = {run.hash: run.number for run in reversed(record.runs) if run.same_as is None and run.hash}
        number = max((run.number for run in record.runs), default=-1)
        runs: list[RunRecord] = []
        for replicate in range(self.spec.settings.n_seeds):
            number = self._free(number + 1)
            run = RunRecord(
                number=number,
                trial=made.number,
                replicate=replicate,
                seed=self.seed + replicate,
                folder=folder_name(self.spec.name, number, settings),
                hash="",
            )
            run = self._described(run, point, settings)
            if run.hash in by_hash:
                run = replace(run, same_as=by_hash[run.hash])
            elif run.hash:
                by_hash[run.hash] = run.number
            runs.append(run)
        self._table.insert(runs)
        self._made[made.number] = made
        return runs

    def _described(self, run: RunRecord, point: Any, settings: Mapping[str, Any]) -> RunRecord:
        """Return a run with what its config says of it, and write that config into its file."""
        from quincunx.sweep.reading.spec import trial_file

        spec = self.spec
        try:
            loaded = spec.load(point, None if "seed" in spec.ranged else run.seed)
            seed = run.seed if loaded.config.seed is None else loaded.config.seed
            run = replace(run, seed=seed, hash=spec.hash_of(loaded))
            text = trial_file(spec, run, settings, point)
        except ConfigError as error:
            return replace(run, state="refused", hash="", reason=str(error))
        write_atomically(trial_path(spec.dir, run), text.encode())
        known = [lookup(loaded.config, "budget.stop_at"), lookup(loaded.config, "budget.updates")]
        return replace(run, total=min((limit for limit in known if limit is not None), default=None))

    def _free(self, number: int) -> int:
        """Return the first number that no folder bears yet: rows are not made before the folders of their runs."""
        names = [entry.name for entry in Path(self.spec.dir).iterdir()]
        while any(
            name == f"{self.spec.name}_{number}" or name.startswith(f"{self.spec.name}_{number}_") for name in names
        ):
            number += 1
        return number

    def _fetch(self, numbers: Sequence[int]) -> None:
        with self._database.guard():
            if len(numbers) > 4:
                found = self._storage.get_all_trials(self._sweep, deepcopy=False)
            else:
                found = [
                    self._storage.get_trial(self._storage.get_trial_id_from_study_id_trial_number(self._sweep, number))
                    for number in numbers
                ]
        for made in found:
            if "point" in made.user_attrs:
                self._made.setdefault(made.number, made)
            if made.state.is_finished():
                self._told.add(made.number)
        missing = [number for number in numbers if number not in self._made]
        if missing:
            raise RunError(
                f"{self._database.shown}: Optuna's trials {', '.join(map(str, missing[:5]))} are gone, not their runs: "
                "put the database back from a copy"
            )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"the sweep's folder {folder} cannot be made: {error.strerror}; give another sweep.dir"
        ) from error


def _content(settings: Mapping[str, Any]) -> str:
    # values as they come back from the storage; 1, 1.0 and true stay apart
    return json.dumps(settings, sort_keys=True)
