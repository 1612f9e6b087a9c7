"""Everything a run folder tells, gathered into plain data: what one report shows and comparisons of runs build on.

A folder may be young, interrupted or damaged: what is missing is empty, what cannot be read is named in `problems`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from quincunx.errors import RunError
from quincunx.metrics.record import Evaluation
from quincunx.runs import (
    RunFolder,
    State,
    Summary,
    as_number,
    metric_rows,
    read_config,
    read_json,
    read_lines,
    read_summary,
    state_of,
)

T = TypeVar("T")
NONE: Mapping[str, Any] = {}


@dataclass
class Series:
    """One metric of one split over updates, in order; values may be nan or infinite."""

    split: str
    name: str
    updates: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluated:
    """One evaluation: what was found on which split after how many updates."""

    split: str
    update: int
    evaluation: Evaluation


@dataclass(frozen=True)
class Result:
    """One number of an evaluation with its standard error, where there is one."""

    split: str
    name: str
    update: int
    value: float
    standard_error: float | None


@dataclass(frozen=True)
class Setting:
    """A setting that somebody gave, and where."""

    path: str
    value: Any
    origin: str
    """Place in a file, or the command line; also what the value replaced."""


@dataclass(frozen=True)
class RunData:
    """What is known of one run."""

    folder: RunFolder
    name: str
    state: State
    summary: Summary
    config: Mapping[str, Any]
    origins: Sequence[Mapping[str, Any]]
    """One a setting: path, value, from, overrode."""
    plan: Mapping[str, Any]
    environment: Mapping[str, Any]
    series: Mapping[tuple[str, str], Series]
    """By split and name."""
    timings: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Evaluated]
    """By update, then split."""
    problems: Sequence[str]
    """What could not be read, and why."""

    @property
    def update(self) -> int:
        """Updates done, as far as anything in the folder tells."""
        logged = (series.updates[-1] for series in self.series.values() if series.updates)
        return max([self.summary.get("update", 0), *logged])

    @property
    def updates(self) -> int | None:
        """Updates at which the run ends, None when nothing tells."""
        planned = self.plan.get("stop_at")
        return self.summary.get("updates", planned if type(planned) is int else None)

    def chosen(self, split: str) -> Evaluated | None:
        """Return the evaluation of a split that stands for the run: that of the best checkpoint, else the latest."""
        found = [evaluated for evaluated in self.evaluations if evaluated.split == split]
        best = self.summary.get("best")
        at_best = [evaluated for evaluated in found if best and evaluated.update == best["update"]]
        return (at_best or found or [None])[-1]

    def splits(self) -> list[str]:
        """Return the splits that were evaluated, `test` first."""
        return sorted({evaluated.split for evaluated in self.evaluations}, key=lambda split: (split != "test", split))

    def result(self, split: str) -> Result | None:
        """Return the number that stands for the run on a split: of the metric that chose the best, else the first."""
        evaluated = self.chosen(split)
        if evaluated is None:
            return None
        scalars = evaluated.evaluation.scalars
        best = self.summary.get("best")
        wanted = best["metric"].partition("/")[2] if best else ""
        name = wanted if wanted in scalars else next((name for name in scalars if not is_error_of(name, scalars)), None)
        if name is None:
            return None
        return Result(split, name, evaluated.update, scalars[name], scalars.get(f"{name}_se"))

    def typical_speed(self, name: str) -> float | None:
        """Return the median of a speed over the lines of the timings, None where it was not noted."""
        values = [number for line in self.timings if (number := as_number(line.get(name))) is not None]
        return statistics.median(values) if values else None

    def seconds(self) -> float:
        """Return the time spent training, all parts of a resumed run together; 0 where nothing tells."""
        said = as_number(self.summary.get("seconds"))
        return said if said is not None else sum(as_number(line.get("seconds")) or 0.0 for line in self.timings)

    def given(self) -> list[Setting]:
        """Return the settings that somebody gave, in the order of the config; none where origins do not tell."""
        return [
            Setting(str(entry["path"]), entry.get("value"), _origin(entry))
            for entry in self.origins
            if "path" in entry and entry.get("from", "default") != "default"
        ]


def collect(path: Path) -> RunData:
    """Return what a run folder tells.

    Raises:
        RunError: There is no such folder. Anything wrong inside it is noted in `problems` instead.
    """
    if not path.is_dir():
        raise RunError(f"{path} is not a folder; a report is made from a run folder (see `quincunx runs list`).")
    folder = RunFolder(path)
    problems: list[str] = []

    def attempt(read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except RunError as error:
            problems.append(str(error))
            return otherwise

    summary = attempt(lambda: read_summary(folder), Summary())
    config = attempt(lambda: read_config(folder.config), {})
    series: dict[tuple[str, str], Series] = {}
    attempt(lambda: _gather_series(folder.metrics, series), None)
    timings: list[dict[str, Any]] = []
    attempt(lambda: timings.extend(read_lines(folder.timings)), None)
    evaluations: list[Evaluated] = []
    for file in sorted(folder.evaluations.glob("*.json")):
        evaluated = attempt(lambda file=file: _read_evaluation(file), None)
        if evaluated is not None:
            evaluations.append(evaluated)
    run = config.get("run")
    given_name = run.get("name") if isinstance(run, dict) else None
    folder_name = path.name or path.resolve().name
    return RunData(
        folder=folder,
        # A numbered folder of that name says more than the name alone.
        name=str(given_name) if given_name and not folder_name.startswith(str(given_name)) else folder_name,
        state=state_of(folder, summary),
        summary=summary,
        config=config,
        origins=attempt(lambda: _entries(folder.origins), []),
        plan=attempt(lambda: _mapping(folder.plan), NONE),
        environment=attempt(lambda: _mapping(folder.environment), NONE),
        series=series,
        timings=timings,
        evaluations=sorted(evaluations, key=lambda evaluated: (evaluated.update, evaluated.split)),
        problems=problems,
    )


def flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of nested mappings with their dotted paths; lists and empty mappings are leaves."""
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found.extend(flat(value, f"{path}."))
        else:
            found.append((path, value))
    return found


def is_error_of(name: str, scalars: Mapping[str, float]) -> bool:
    """Tell whether a scalar is the standard error of another one beside it."""
    return name.endswith("_se") and name.removesuffix("_se") in scalars


def _gather_series(path: Path, into: dict[tuple[str, str], Series]) -> None:
    for row in metric_rows(path):
        key = row["split"], row["name"]
        series = into.setdefault(key, Series(*key))
        series.updates.append(row["update"])
        series.values.append(row["value"])


def _read_evaluation(path: Path) -> Evaluated:
    found = read_json(path)
    try:
        evaluation = Evaluation.from_json(found)
        split, update = found["split"], found["update"]
        scalars = {str(name): as_number(value) for name, value in evaluation.scalars.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is not an evaluation: {type(error).__name__}: {error}") from error
    if not isinstance(split, str) or type(update) is not int:
        raise RunError(f"{path} is not an evaluation: split is {split!r:.60}, update is {update!r:.60}")
    if not _is_well_formed(evaluation):
        raise RunError(f"{path} is not an evaluation: its tables, samples or notes are not lists")
    known = {name: value for name, value in scalars.items() if value is not None}
    return Evaluated(split, update, Evaluation(known, evaluation.tables, evaluation.samples, evaluation.notes))


def _is_well_formed(evaluation: Evaluation) -> bool:
    lists = [evaluation.samples, evaluation.notes]
    for table in evaluation.tables:
        lists.extend([table.columns, table.rows])
    if not all(isinstance(part, list | tuple) for part in lists):
        return False
    rows = [row for table in evaluation.tables for row in table.rows]
    return all(isinstance(row, list) for row in rows) and all(isinstance(one, Mapping) for one in evaluation.samples)


def _mapping(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return NONE
    found = read_json(path)
    if not isinstance(found, dict):
        raise RunError(f"{path}: expected a JSON object, found {type(found).__name__}")
    return found


def _entries(path: Path) -> Sequence[Mapping[str, Any]]:
    found = read_json(path) if path.exists() else []
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise RunError(f"{path}: expected a list of JSON objects")
    return found


def _origin(entry: Mapping[str, Any]) -> str:
    before = entry.get("overrode")
    texts = [str(entry["from"])]
    for old in before if isinstance(before, list) else ():
        if isinstance(old, dict):
            texts.append(f"in place of {old.get('value')} from {old.get('from')}")
    return ", ".join(texts)
