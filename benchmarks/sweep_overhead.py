"""What a sweep costs a trial, beyond `quincunx train` of the same config.

K tiny ListOps runs, each round once as K commands `quincunx train FILE` one after another, on the very files that a
sweep wrote for its runs, and once as one `quincunx sweep` with one worker. All of it real processes, both clocks with
the children of children. What is left of the sweep's time beyond that of the commands, by K, is the overhead; what it
costs once, before its first run and after its last, is told apart by when it says `started` and `done`.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/sweep_overhead.py [--trials 8] [--rounds 3]
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from measure import Seconds, Spread, Watch, alternate, machine, spread, table

from quincunx.config.write import yaml_text

BAR = 1.0
"""Seconds of a trial, at most."""

STUDY: Mapping[str, Any] = {
    "recipe": "long_range",
    "task": "listops",
    "seed": 1,
    "data": {"train": 512, "dev": 64, "test": 64}
    | {"min_length": 4, "max_length": 24, "max_depth": 3, "max_arguments": 4},
    "encoder": {"embedding_dim": 16, "hidden_dim": 32, "head_dim": 8, "num_heads": 2, "num_layers": 2}
    | {"vocab_size": 18, "max_seq_len": 32, "dropout": 0.0, "attention_dropout": 0.0},
    "attention": {"kind": "softmax"},
    "update": {"batch_size": 16},
    "budget": {"updates": 20},
    "compute": {"device": "cpu"},
}


@dataclass(frozen=True)
class Took:
    """What one contestant took in one round; what only a sweep tells is 0 for others."""

    all: Seconds
    runs: tuple[float, ...] = ()
    """Wall time of each run."""
    begin: float = 0.0
    """Wall time from its start to that of its first run."""
    end: float = 0.0
    """Wall time from the end of its last run to its own."""

    @property
    def idle(self) -> float:
        """Wall time in which no run was at work: hardly disturbed by how fast the machine is at the moment."""
        return self.all.wall - sum(self.runs)


def quincunx(*words: object, hear: Callable[[str], None] = lambda line: None) -> Seconds:
    """Run a command to its end and return what it took with all its children; each line of its output is heard."""
    before, watch = _children(), Watch()
    command = [sys.executable, "-m", "quincunx", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            hear(line)
            said.append(line)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} left with {process.returncode}:\n{''.join(said[-20:])}")
    return Seconds(watch.read().wall, _children() - before)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Contest:
    """The contestants of one study in a folder."""

    def __init__(self, folder: Path, trials: int) -> None:
        self.folder, self.trials = folder, trials
        self.config = folder / "study.yaml"
        rates = [round(0.001 * (number + 1), 6) for number in range(trials)]
        self.config.write_text(yaml_text({**STUDY, "ranges": {"optimizer.learning_rate": rates}}))
        self._rounds = {name: itertools.count() for name in ("train", "sweep")}
        self.model = self._place("sweep")
        quincunx("sweep", self.config, f"sweep.dir={self.model}")  # its files are what `trains` takes

    def _place(self, name: str) -> Path:
        return self.folder / f"{name}-{next(self._rounds[name])}"

    def trains(self) -> Took:
        """Train every run by a command of its own."""
        place = self._place("train")
        each = [
            quincunx("train", self.model / "trials" / f"{number}.yaml", f"run.dir={place / str(number)}")
            for number in range(self.trials)
        ]
        runs = tuple(one.wall for one in each)
        return Took(Seconds(sum(runs), sum(one.cpu for one in each)), runs)

    def sweep(self) -> Took:
        """Run a new sweep."""
        place, watch = self._place("sweep"), Watch()
        seen: dict[str, list[float]] = {"started": [], "done": []}

        def hear(line: str) -> None:
            word = line.split(maxsplit=1)[0] if line.strip() else ""
            if word in seen:
                seen[word].append(watch.read().wall)

        took = quincunx("sweep", self.config, f"sweep.dir={place}", hear=hear)
        with (place / "results.csv").open(newline="", encoding="utf-8") as file:
            worked = {int(row["trial"]): float(row["seconds"]) for row in csv.DictReader(file)}
        if not len(worked) == len(seen["done"]) == self.trials:
            raise SystemExit(f"{place}: {len(worked)} runs, expected {self.trials}")
        runs = tuple(worked[number] for number in range(self.trials))
        return Took(took, runs, seen["started"][0], took.wall - seen["done"][-1])

    def again(self) -> Took:
        """Start the finished sweep once more, which has nothing to run."""
        return Took(quincunx("sweep", self.config, f"sweep.dir={self.model}"))


def beyond(sweeps: Sequence[Took], trains: Sequence[Took], of: Callable[[Took], float], trials: int) -> Spread:
    """Return by how much a trial of a sweep takes longer, round by round."""
    return spread([(of(one) - of(other)) / trials for one, other in zip(sweeps, trains, strict=True)])


def rows(found: Mapping[str, Sequence[Took]], trials: int) -> list[list[object]]:
    """Return the table's rows."""
    trains, sweeps, again = found["trains"], found["sweep"], found["again"]
    gap = partial(beyond, sweeps, trains, trials=trials)
    wall = gap(lambda one: one.all.wall)
    idle = spread([one.idle / trials for one in sweeps])
    pairs = [
        a - b for one, other in zip(sweeps, trains, strict=True) for a, b in zip(one.runs, other.runs, strict=True)
    ]
    return [
        ["a trial: `quincunx train`", f"{_of(trains, 'wall', trials):.2f}", f"{_of(trains, 'cpu', trials):.2f}", ""],
        [
            "a trial: the sweep, by the number of its trials",
            f"{_of(sweeps, 'wall', trials):.2f}",
            f"{_of(sweeps, 'cpu', trials):.2f}",
            "",
        ],
        ["overhead of a trial", f"{wall:.2f}", f"{gap(lambda one: one.all.cpu):.2f}", judged(wall)],
        ["of it: time in which no run is at work", f"{idle:.2f}", "", judged(idle)],
        ["of it: a run as the sweep's child, over the same by hand", f"{spread(pairs):.2f}", "", ""],
        ["once: before the first run", f"{spread([one.begin for one in sweeps]):.2f}", "", ""],
        ["once: after the last run, its report included", f"{spread([one.end for one in sweeps]):.2f}", "", ""],
        ["a finished sweep, started again", f"{_of(again, 'wall', 1):.2f}", f"{_of(again, 'cpu', 1):.2f}", ""],
    ]


def judged(seconds: Spread) -> str:
    """Return what the bar says of a figure."""
    return f"{BAR:g} s: {'met' if seconds.median <= BAR else 'MISSED'}"


def _of(took: Sequence[Took], clock: str, by: int) -> Spread:
    return spread([getattr(one.all, clock) / by for one in took])


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="sweep-overhead-") as name:
        folder = Path(name)
        os.environ["QUINCUNX_CACHE"] = str(folder / "cache")
        contest = Contest(folder, options.trials)
        contestants = {"trains": contest.trains, "sweep": contest.sweep, "again": contest.again}
        found = alternate(contestants, options.rounds, warmup=0)
    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or None
    print(f"{machine(threads)}; load {before:.1f} before, {os.getloadavg()[0]:.1f} after")
    print(f"{options.trials} runs of {STUDY['budget']['updates']} updates, {options.rounds} rounds, one worker")
    print("seconds, median [quartiles] over rounds; CPU with all children\n")
    print(table(["", "wall s", "CPU s", "bar, wall"], rows(found, options.trials)))


if __name__ == "__main__":
    main()
