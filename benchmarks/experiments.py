"""What experiments of several runs share: runs that are trained once, go on where they were cut off, and are compared.

A run is a folder; one that is finished is not trained again, one that was cut off goes on from its checkpoint. Runs
repeat bit for bit, so that several processes may share them (`--part 1/2` and `--part 2/2`).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from quincunx import Run, load, train
from quincunx.config.plan import make_plan
from quincunx.console import ConsoleCallback
from quincunx.engine.events import Callback
from quincunx.engine.loop import evaluate
from quincunx.engine.runtime import start_runtime
from quincunx.metrics.intervals import student_interval
from quincunx.metrics.record import Evaluation
from quincunx.metrics.significance import paired
from quincunx.recipes import recipe_of
from quincunx.runs import read_json
from quincunx.runs.files import to_json, write_atomically

Item = TypeVar("Item")
Values = dict[str, float]
"""One measure of one run, query by query."""


@dataclass(frozen=True)
class Wanted:
    """A run that is to be there."""

    path: Path
    changes: Sequence[str]
    """What it sets otherwise than the experiment's config."""

    @property
    def finished(self) -> bool:
        """Whether it is there, trained to the end."""
        return (self.path / "summary.json").is_file() and Run(self.path).summary.get("state") == "finished"

    @property
    def minutes(self) -> float:
        """How long it took, evaluation included."""
        return Run(self.path).summary.get("seconds", float("nan")) / 60


def add_options(parser: argparse.ArgumentParser, name: str, *, pilot: bool = True) -> None:
    """Add the options that every experiment has; `name` is its folder's, `pilot` whether settings are chosen first."""
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), help=f"folder in which {name}/ is made; default: runs"
    )
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--part", metavar="I/N", help="train only every N-th run, from the I-th, and print no table")
    if pilot:
        parser.add_argument("--pilot", action="store_true", help="only the runs by which settings are chosen")


def needs(**modules: str) -> None:
    """Leave with the install command where a module is missing; `module="what to install"`."""
    missing = {install: module for module, install in modules.items() if find_spec(module) is None}
    if missing:
        raise SystemExit(
            f"this benchmark needs the module{'s' * (len(missing) > 1)} {', '.join(missing.values())}: pip install "
            + " ".join(f"'{install}'" for install in missing)
        )


def of_part(items: Sequence[Item], part: str | None) -> Iterator[Item]:
    """Yield what falls to `I/N`, everything where it is None."""
    first, step = (int(number) for number in (part or "1/1").split("/"))
    yield from items[first - 1 :: step]


def train_all(
    config: Mapping[str, Any] | Path,
    wanted: Sequence[Wanted],
    part: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train what is not finished yet of the runs that fall to a part; SystemExit where a signal stops one."""
    for run in of_part(wanted, part):
        if not run.finished:
            print(f"{run.path}:", flush=True)
            changes = [*run.changes, f"run.dir={run.path}"]
            train(config, *changes, resume=True, callbacks=[ConsoleCallback(Console()), *callbacks])
            if not run.finished:
                raise SystemExit(f"{run.path} was stopped: the same command goes on with it")


def require(wanted: Sequence[Wanted], command: str) -> None:
    """Leave where a run is not finished, saying which command trains it."""
    missing = [run for run in wanted if not run.finished]
    if missing:
        raise SystemExit(f"{len(missing)} of {len(wanted)} runs are not finished, first {missing[0].path}: {command}")


def evaluation(run: Wanted, split: str) -> Evaluation:
    """Return the last evaluation of a split in a finished run."""
    found = sorted((run.path / "evaluations").glob(f"{split}-*.json"))
    if not found:
        raise SystemExit(f"{run.path} has no evaluation of {split}; delete the folder to have it trained again")
    return Evaluation.from_json(read_json(found[-1]))


def measured(run: Wanted, split: str, *changes: str) -> Evaluation:
    """Return what a finished run's weights give on a split under other settings, measured once and kept beside them."""
    name = "-".join([split, *(re.sub(r"[^\w.]+", "-", change.partition(".")[2] or change) for change in changes)])
    path = run.path / "measured" / f"{name}.json"
    if path.is_file():
        return Evaluation.from_json(read_json(path))
    done = Run(run.path)
    config = load(run.path, *changes).config
    built = recipe_of(config.recipe).build(config, (), None, home=run.path)
    runtime = start_runtime(config.compute)
    try:
        model = done.model("last").to(runtime.device)
        plan = make_plan(config, built.sizes, built.chunk_samples)
        found = evaluate(model, {**built.evaluators, **built.final_evaluators}[split], runtime, plan)
    finally:
        runtime.close()
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, to_json(found.to_json()))
    return found


def averaged(runs: Sequence[Values]) -> NDArray[np.float64]:
    """Return the mean over seeds of every query's value [Q], queries by name; ValueError where they differ."""
    names = sorted(runs[0])
    if any(sorted(run) != names for run in runs):
        raise ValueError("the runs were measured on different queries")
    return np.mean([[run[name] for name in names] for run in runs], axis=0)


def over_seeds(values: Sequence[float], digits: int = 3) -> str:
    """Return the mean with its 95 % t-interval over seeds, the mean alone of a single one."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    found = student_interval(values)
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def less(runs: Sequence[Values], base: Sequence[Values], digits: int = 3) -> tuple[str, str]:
    """Return the difference of two sets of runs with its paired bootstrap interval over queries, and the p-value.

    Each query's values are averaged over seeds first; p is that of the randomisation test over queries.
    """
    found = paired(averaged(runs), averaged(base))
    gap = found.difference
    return f"{gap.value:+.{digits}f} [{gap.low:+.{digits}f}, {gap.high:+.{digits}f}]", f"{found.p:.2g}"
