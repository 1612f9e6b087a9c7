"""A sweep that is killed at random three times, beside one that nobody disturbs; and two hosts' worth of workers.

For each sampler: a study of N trials, 4 runs at once, hit by three `kill -9` in random order at random moments: the
sweep's process alone (its runs live on), one of its runs, and all of them at once with their process groups, as when a
machine goes off. After the first and the last kind the same command is given again. Samplers whose trials are a
function of their number have to end with the very table of the undisturbed sweep, clocks, memory and attempts apart;
`tpe`, whose choices hang on what was finished when, with no trial lost or doubled. Each update of each run is made
once; a run that was killed itself may repeat those after its last checkpoint.

Then the same study on a PostgreSQL server that is started for it, by two process groups with different host names and
no folder in common: every trial once, and the table of one machine.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/sweep_kills.py [--trials 200] [--children train]

`--children train` runs `quincunx sweep` as a user does, with real runs of a few updates; `stand-in` has the same
worker and storage train nothing, by the script that the tests use (tests/sweep/child.py), so that 200 trials take
minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from measure import machine, table

from quincunx.config.write import yaml_text
from quincunx.runs import RunFolder
from quincunx.sweep.folder import begin
from quincunx.sweep.reading.spec import Spec, open_sweep
from quincunx.sweep.records import RunRecord
from quincunx.sweep.running import worker
from quincunx.sweep.storage.store import Store, trial_path

TESTS = Path(__file__).parents[1] / "tests"
KINDS = ("sweep", "run", "all")
PAUSE = 0.03
"""Seconds that an update of a stand-in takes."""

STUDY: Mapping[str, Any] = {
    "recipe": "long_range",
    "task": "listops",
    "seed": 1,
    "data": {"train": 64, "dev": 16, "test": 16}
    | {"min_length": 4, "max_length": 12, "max_depth": 2, "max_arguments": 3},
    "encoder": {"embedding_dim": 8, "hidden_dim": 8, "head_dim": 4, "num_heads": 2, "num_layers": 1}
    | {"vocab_size": 18, "max_seq_len": 16, "dropout": 0.1, "attention_dropout": 0.0},
    "attention": {"kind": "softmax"},
    "update": {"batch_size": 8},
    "budget": {"updates": 4},
    "evaluate": {"every": 1},
    "checkpoint": {"every": 2, "keep": 1, "best": False},  # so that a killed run repeats an update
    "log": {"every": 1},
    "compute": {"threads": 1, "device": "cpu"},
    "run": {"name": "study"},
}
UPDATES: int = STUDY["budget"]["updates"]


@dataclass(frozen=True)
class Job:
    """A sweep to be run."""

    config: Path
    children: str
    host: str | None = None

    @property
    def spec(self) -> Spec:
        return open_sweep(self.config)

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, or go on with it, as the leader of a process group."""
        command = [sys.executable, "-m", "quincunx", "sweep", str(self.config)]
        if self.children != "train" or self.host is not None:
            command = [sys.executable, __file__, "--work", str(self.config), "--children", self.children]
            command += [] if self.host is None else ["--host", self.host]
        with self.config.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for its end; SystemExit where it did not end well."""
        if process.wait():
            raise SystemExit(f"the sweep left with {process.returncode}; see {self.config.with_suffix('.log')}")


@dataclass(frozen=True)
class Hit:
    """A kill."""

    kind: str
    trials: int
    """How many there were by then."""
    runs: tuple[int, ...] = ()
    """Those whose processes were killed."""

    def __str__(self) -> str:
        many = f" ({len(self.runs)} runs)" if self.kind == "all" else ""
        return f"{self.kind}{many} at {self.trials}"


@dataclass
class Standing:
    """All that is known of a sweep at its end, clocks, memory and attempts apart."""

    rows: list[list[Any]] = field(default_factory=list)
    measured: dict[int, str] = field(default_factory=dict)
    """Run -> the digest of its metrics file."""
    made: dict[int, list[int]] = field(default_factory=dict)
    """Run -> the updates that its processes made, one after another."""
    strangers: int = 0
    """Run folders that belong to no run."""
    told: Counter[str] = field(default_factory=Counter)
    """State in Optuna's eyes -> trials."""

    def lost_or_doubled(self, trials: int) -> int:
        """Return how many trials are missing, there twice, not done, or done by nobody or by two."""
        numbers = Counter(number for number, *_ in self.rows)
        done = sum(row[6] == "done" for row in self.rows)
        twice = len(self.rows) - len({row[5] for row in self.rows})
        wrong = sum(count != 1 for count in numbers.values()) + len(set(range(trials)) - set(numbers))
        return wrong + twice + abs(trials - done) + self.strangers + abs(trials - self.told["COMPLETE"])

    def updates(self, killed: Sequence[int] = ()) -> tuple[int, int, int]:
        """Return how many updates were never made, were repeated, and were repeated by runs that nobody killed."""
        lost = sum(len(set(range(1, UPDATES + 1)) - set(made)) for made in self.made.values())
        again = {number: len(made) - len(set(made)) for number, made in self.made.items()}
        return lost, sum(again.values()), sum(count for number, count in again.items() if number not in killed)


def stands(job: Job, *others: Job) -> Standing:
    """Return how a sweep stands that has ended; `others` are the places where other hosts worked on it."""
    import optuna

    spec, found = job.spec, Standing()
    store = Store.open(spec, begin=False)
    try:
        record = store.read()
        study = optuna.load_study(study_name=None, storage=store._storage)
        found.told.update(trial.state.name for trial in study.get_trials(deepcopy=False))
    finally:
        store.shut()
    places = [spec.dir, *(other.spec.dir for other in others)]
    there = Counter(path.parent.name for place in places for path in place.glob(f"{spec.name}_*/summary.json"))
    for trial in record.trials:
        for run in trial.runs:
            outcome = [run.number, run.trial, run.replicate, run.seed, run.folder, run.hash, run.state, run.update]
            more = [run.total, run.value, dict(run.values), run.same_as, trial.settings, trial.point]
            found.rows.append(json.loads(json.dumps([*outcome, *more])))
            place = next((place for place in places if (place / run.folder).is_dir()), spec.dir)
            metrics = RunFolder(place / run.folder).metrics
            text = metrics.read_bytes() if metrics.is_file() else b""
            found.measured[run.number] = hashlib.sha256(text).hexdigest()
            found.made[run.number] = updates_made(place, run)
    found.strangers = sum((there - Counter(row[4] for row in found.rows)).values())
    return found


def updates_made(place: Path, run: RunRecord) -> list[int]:
    """Return the updates of a run in the order in which its processes made them, by what they noted or printed."""
    noted = place / run.folder / "trained.jsonl"
    if noted.is_file():
        return [json.loads(line)[1] for line in noted.read_text(encoding="utf-8").splitlines()]
    log = place / "logs" / f"{run.folder}.txt"
    said = log.read_text(encoding="utf-8") if log.is_file() else ""
    return [int(number) for number in re.findall(r"^update (\d+)/", said, re.MULTILINE)]


def disturbed(job: Job, trials: int, chance: random.Random) -> list[Hit]:
    """Run a sweep and hit it with one kill of each kind; return when it has ended."""
    moments = sorted(chance.sample(range(max(1, trials // 20), trials - trials // 20), len(KINDS)))
    kinds = chance.sample(KINDS, len(KINDS))
    folder, hits = job.spec.dir, list[Hit]()
    with started(job) as processes:
        for moment, kind in zip(moments, kinds, strict=True):
            while len(list(folder.glob("trials/*.yaml"))) < moment:
                if processes[-1].poll() is not None:
                    raise SystemExit(f"the sweep left before it was killed; see {job.config.with_suffix('.log')}")
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 1))
            runs = _kill(processes[-1], kind, chance)
            hits.append(Hit(kind, len(list(folder.glob("trials/*.yaml"))), runs))
            if kind != "run":
                processes[-1].wait()
                time.sleep(chance.uniform(0, 1))
                processes.append(job.start())
        job.end(processes[-1])
    return hits


@contextmanager
def started(*jobs: Job) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start sweeps; whatever of these and later ones in the list is still there in the end is killed with its runs."""
    processes = [job.start() for job in jobs]
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                _kill(process, "all", random.Random())
                process.wait()


def _kill(process: subprocess.Popen[bytes], kind: str, chance: random.Random) -> tuple[int, ...]:
    """Kill, and return the runs whose processes were killed."""
    runs = _runs_of(process)
    while kind == "run" and not runs:  # between two of them
        time.sleep(0.01)
        runs = _runs_of(process)
    if kind == "run":
        number = chance.choice(sorted(runs))
        if not _hit(runs[number]):
            return _kill(process, kind, chance)
        return (number,)
    os.killpg(process.pid, signal.SIGKILL)  # of the sweep itself: each run is the leader of a group of its own
    return tuple(number for number, pid in runs.items() if kind == "all" and _hit(pid))


def _hit(pid: int) -> bool:
    """Kill the group of a run; False where it has just ended by itself."""
    with suppress(ProcessLookupError, psutil.Error):
        alive = psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        os.killpg(pid, signal.SIGKILL)
        return alive
    return False


def _runs_of(process: subprocess.Popen[bytes]) -> dict[int, int]:
    """Return run -> process number of what a sweep has at work."""
    found: dict[int, int] = {}
    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.Error):
                files = [Path(word) for word in child.cmdline() if word.endswith(".yaml")]
                if files and files[0].parent.name == "trials" and os.getpgid(child.pid) == child.pid:
                    found[int(files[0].stem)] = child.pid
    return found


def write(folder: Path, sampler: str, trials: int, workers: int, **sweep: Any) -> Path:
    """Write the config of a study below a folder of its own."""
    folder.mkdir(parents=True)
    points = {"n": trials // 2} if sampler == "grid" else {}
    rate = {"low": 1e-4, "high": 0.1, "log": True, **points}
    decay: Any = [0.0, 0.01] if sampler == "grid" else {"low": 0.0, "high": 0.1}
    settings = {"dir": str(folder / "found"), "sampler": sampler, "workers": workers, **sweep}
    if sampler != "grid":
        settings["trials"] = trials
    ranges = {"optimizer.learning_rate": rate, "optimizer.weight_decay": decay}
    path = folder / "study.yaml"
    path.write_text(yaml_text({**STUDY, "ranges": ranges, "sweep": settings}))
    return path


@dataclass(frozen=True)
class Bench:
    """What all rows share."""

    folder: Path
    children: str
    trials: int
    workers: int
    chance: random.Random

    def undisturbed(self, sampler: str) -> tuple[Standing, float]:
        """Run a sweep, once, and return how it stands and the minutes that it took."""
        job = Job(write(self.folder / f"{sampler}-alone", sampler, self.trials, self.workers), self.children)
        began = time.monotonic()
        with started(job) as [process]:
            job.end(process)
        return stands(job), (time.monotonic() - began) / 60

    def killed(self, sampler: str, alone: tuple[Standing, float] | None) -> tuple[list[object], bool]:
        """Return the row of a sampler, and whether all is as it has to be."""
        job = Job(write(self.folder / f"{sampler}-killed", sampler, self.trials, self.workers), self.children)
        began = time.monotonic()
        hits = disturbed(job, self.trials, self.chance)
        minutes = (time.monotonic() - began) / 60
        found = stands(job)
        killed = [number for hit in hits for number in hit.runs]
        return self._row(sampler, ", ".join(map(str, hits)), found, alone, minutes, killed)

    def two_hosts(self, alone: tuple[Standing, float], server: Any) -> tuple[list[object], bool]:
        """Return the row of two process groups on one PostgreSQL server, with folders of their own."""
        jobs = [
            Job(
                write(self.folder / host, "random", self.trials, self.workers // 2, storage=server.url, name="study"),
                self.children,
                host,
            )
            for host in ("alpha", "beta")
        ]
        began = time.monotonic()
        with started(*jobs) as processes:
            for job, process in zip(jobs, processes, strict=True):
                job.end(process)
        minutes = (time.monotonic() - began) / 60
        found = stands(*jobs)
        shares = " + ".join(str(len(list(job.spec.dir.glob("study_*")))) for job in jobs)
        return self._row("random, two hosts on PostgreSQL", f"none; runs: {shares}", found, alone, minutes, [])

    def _row(
        self,
        name: str,
        hits: str,
        found: Standing,
        alone: tuple[Standing, float] | None,
        minutes: float,
        killed: Sequence[int],
    ) -> tuple[list[object], bool]:
        wrong = found.lost_or_doubled(self.trials)
        lost, again, strange = found.updates(killed)
        same = alone is None or found.rows == alone[0].rows
        files = alone is None or found.measured == alone[0].measured
        good = not wrong and not lost and not strange and same and files
        told = ["not compared"] * 2 if alone is None else ["yes" if each else "NO" for each in (same, files)]
        times = f"{'' if alone is None else f'{alone[1]:.1f}; '}{minutes:.1f}"
        updates = f"{lost} lost, {again} repeated" + (f", {strange} WITHOUT A KILL" if strange else "")
        row = [name, self.children, self.trials, times, hits, wrong, updates, *told, "met" if good else "MISSED"]
        return row, good


def work_on(config: Path, children: str, host: str | None) -> int:
    """Work on a sweep as `quincunx sweep` does, with other children or another name of the machine."""
    spec = open_sweep(config)
    store = begin(spec).store if host is None else Store.open(spec, host=host)

    def stand_in(run: RunRecord) -> list[str]:
        script = str(TESTS / "sweep" / "child.py")
        return [sys.executable, script, str(trial_path(spec.dir, run)), "--resume", "--pause", str(PAUSE)]

    try:
        return worker.run(spec, store, command=stand_in if children == "stand-in" else None).exit_code
    finally:
        store.shut()


def postgres(folder: Path) -> Any:
    """Return a PostgreSQL server of our own, not started, None where the machine has no programs for one."""
    sys.path.insert(0, str(TESTS))
    from sweep.conftest import Server, _programs

    programs = _programs()
    return None if programs is None else Server(programs, folder)


def rows(bench: Bench, samplers: Sequence[str], hosts: bool) -> tuple[list[list[object]], bool]:
    """Return the table's rows, and whether all is as it has to be."""
    found: list[tuple[list[object], bool]] = []
    alone: dict[str, tuple[Standing, float]] = {}
    for sampler in samplers:
        print(f"{sampler} ...", file=sys.stderr, flush=True)
        if sampler != "tpe":
            alone[sampler] = bench.undisturbed(sampler)
        found.append(bench.killed(sampler, alone.get(sampler)))
        print(*found[-1][0], sep=" | ", file=sys.stderr, flush=True)
    if hosts:
        folder = Path(tempfile.mkdtemp(prefix="sweep-kills-pg-"))  # sockets have short paths
        server = postgres(folder)
        if server is None:
            print("no initdb and postgres here, Debian's package postgresql has them: no row of two hosts")
        else:
            server.make()
            server.start()
            try:
                found.append(bench.two_hosts(alone.get("random") or bench.undisturbed("random"), server))
            finally:
                server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return [row for row, _ in found], all(good for _, good in found)


def main() -> None:
    """Run the studies and print the table; what a missed row came from is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="an even number, 6 or more")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--samplers", nargs="*", default=["grid", "random", "qmc", "tpe"])
    parser.add_argument("--children", choices=["train", "stand-in"], default="stand-in")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and kinds of kills")
    parser.add_argument("--no-hosts", action="store_true", help="leave the row of two hosts out")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--host", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        sys.exit(work_on(options.work, options.children, options.host))
    before = os.getloadavg()[0]
    folder = Path(tempfile.mkdtemp(prefix="sweep-kills-"))
    os.environ["QUINCUNX_CACHE"] = str(folder / "cache")
    bench = Bench(folder, options.children, options.trials, options.workers, random.Random(options.seed))
    found, good = rows(bench, options.samplers, not options.no_hosts)
    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or None
    print(f"{machine(threads)}; load {before:.1f} before, {os.getloadavg()[0]:.1f} after")
    print(f"{options.workers} runs at once of {UPDATES} updates each; minutes: undisturbed; killed\n")
    head = ["sampler", "children", "trials", "minutes", "killed, at trial", "trials lost or doubled", "updates"]
    print(table([*head, "same table", "same metrics files", ""], found))
    if good:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        raise SystemExit(f"\nwhat was found is in {folder}")


if __name__ == "__main__":
    main()
