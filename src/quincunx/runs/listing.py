"""What is known about runs from their folders alone: the state of one, and the list of all under a folder."""

from __future__ import annotations

import json
import os
import textwrap
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from quincunx.errors import RunError
from quincunx.runs.files import as_number, read_json
from quincunx.runs.folder import LOCK, RunFolder

State = Literal["running", "finished", "interrupted", "failed"]
STATES: tuple[State, ...] = ("running", "finished", "interrupted", "failed")


class Best(TypedDict):
    """The best evaluation so far."""

    metric: str
    """Split and name: `dev/accuracy`."""
    value: float
    update: int


class Summary(TypedDict, total=False):
    """What `summary.json` holds; written at the start and whenever something in it changes."""

    recipe: str
    task: str | None
    state: State
    """As the run sees itself; one that says `running` without holding the lock was killed."""
    update: int
    """Updates done."""
    updates: int
    """Updates at which the run ends."""
    best: Best | None
    reason: str
    """Why it ended, or what failed."""
    seconds: float
    """Time spent training, all parts of a resumed run together."""


@dataclass(frozen=True)
class RunSummary:
    """One row of the list of runs."""

    path: Path
    name: str
    """Name of the folder, which no other run beside it has."""
    state: State | Literal["damaged"]
    recipe: str = ""
    task: str = ""
    update: int | None = None
    updates: int | None = None
    best: Best | None = None
    age: float | None = None
    """Seconds since the run last wrote something."""
    reason: str = ""
    """What is wrong with the folder, or why the run failed."""


def state_of(folder: RunFolder, summary: Summary) -> State:
    """Return the state of a run: what it says of itself, corrected by whether somebody holds its lock.

    The process that holds it may ask too, when it writes its report at the end: then its own word counts.
    """
    said = summary.get("state", "interrupted")
    holder = folder.holder()
    if holder is None:
        return "interrupted" if said == "running" else said
    return said if holder.is_this_process and summary.get("state") else "running"


def list_runs(root: Path) -> list[RunSummary]:
    """Return the runs directly under a folder (or the folder itself where it is one), the latest first.

    Folders that are no runs are left out; damaged ones are listed as damaged, with the reason.

    Raises:
        RunError: The folder itself cannot be listed.
    """
    if (root / "config.yaml").is_file():
        return [_summary_of(root)]
    try:
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and _looks_like_run(entry))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"the runs in {root} cannot be listed: {error.strerror}") from error
    return sorted(map(_summary_of, folders), key=lambda run: float("inf") if run.age is None else run.age)


def as_table(runs: Sequence[RunSummary]) -> str:
    """Return the list of runs as plain text, one line a run under a line of headings."""
    if not runs:
        return "no runs"
    headings = ("run", "state", "recipe", "task", "updates", "best", "last written")
    rows = [headings, *(_cells(run) for run in runs)]
    # Names may hold anything, escape codes of the terminal included; what is not printable is shown escaped.
    rows = [tuple(_printable(cell) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(headings))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _summary_of(path: Path) -> RunSummary:
    folder = RunFolder(path)
    name, age = path.name or path.resolve().name, _age(folder)
    if not folder.config.is_file():
        return RunSummary(path, name, "damaged", age=age, reason="config.yaml is missing")
    try:
        summary = read_summary(folder)
        recipe, task = summary.get("recipe"), summary.get("task")
        if recipe is None:
            recipe, task = _recipe_of(folder.config)
        done = max(summary.get("update", 0), _last_update(folder.metrics))
        total = summary.get("updates", _planned(folder))
        state = state_of(folder, summary)
    except (RunError, OSError) as error:
        return RunSummary(path, name, "damaged", age=age, reason=str(error))
    return RunSummary(
        path,
        name,
        state,
        recipe,
        task or "",
        done,
        total,
        summary.get("best"),
        age,
        summary.get("reason", "") if state == "failed" else "",
    )


def read_summary(folder: RunFolder) -> Summary:
    """Return what a run's summary says, empty where there is none yet; values of a wrong kind count as damage.

    Raises:
        RunError: The file cannot be read or is not a summary.
    """
    if not folder.summary.exists():
        return {}
    found = read_json(folder.summary)
    if not isinstance(found, dict):
        raise RunError(f"{folder.summary}: expected a JSON object, found {type(found).__name__}")
    kinds: dict[str, tuple[type, ...]] = {
        "recipe": (str,),
        "task": (str, type(None)),
        "state": (str,),
        "update": (int,),
        "updates": (int,),
        "best": (dict, type(None)),
        "reason": (str,),
    }
    for key, allowed in kinds.items():
        if key in found and (not isinstance(found[key], allowed) or isinstance(found[key], bool)):
            raise RunError(f"{folder.summary}: {key} is {found[key]!r:.60}, a {type(found[key]).__name__}")
    if found.get("state", "running") not in STATES:
        raise RunError(f"{folder.summary}: state is {found['state']!r:.60}, expected one of {', '.join(STATES)}")
    found["best"] = _best(folder, found.get("best"))
    return found  # pyright: ignore[reportReturnType]


def _best(folder: RunFolder, found: dict[str, Any] | None) -> Best | None:
    if found is None:
        return None
    metric, value, update = found.get("metric"), as_number(found.get("value")), found.get("update")
    if not isinstance(metric, str) or value is None or type(update) is not int:
        raise RunError(
            f"{folder.summary}: best is {found!r:.100}, expected metric (text), value (number), update (int)"
        )
    return {"metric": metric, "value": value, "update": update}


def _looks_like_run(path: Path) -> bool:
    return any((path / name).exists() for name in ("config.yaml", "summary.json", "metrics.jsonl", LOCK))


def _recipe_of(path: Path) -> tuple[str, str]:
    config = read_config(path)
    recipe, task = config.get("recipe"), config.get("task")
    return str(recipe) if recipe is not None else "", str(task) if task is not None else ""


def read_config(path: Path) -> dict[str, Any]:
    """Return a run's resolved config as plain containers, unchecked: a run of another version stays readable.

    Raises:
        RunError: It is missing, unreadable, or not a mapping.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        config = YAML(typ="safe", pure=True).load(path.read_bytes())
    except (OSError, YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"{path} cannot be read: {reason}") from error
    if not isinstance(config, dict):
        raise RunError(f"{path}: expected settings, found {type(config).__name__}")
    return config


def _planned(folder: RunFolder) -> int | None:
    plan = read_json(folder.plan) if folder.plan.exists() else None
    stop = plan.get("stop_at") if isinstance(plan, dict) else None
    return stop if type(stop) is int else None


def _last_update(path: Path) -> int:
    """Return the update of the last whole line of a metrics file, from its end alone."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().split(b"\n")[:-1]
        update = json.loads(lines[-1])["update"]
    except (OSError, ValueError, LookupError, TypeError):
        return 0
    return update if type(update) is int else 0


def _age(folder: RunFolder) -> float | None:
    times = [_modified(path) for path in (folder.config, folder.metrics, folder.timings, folder.summary, folder.path)]
    known = [found for found in times if found is not None]
    return max(0.0, time.time() - max(known)) if known else None


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _cells(run: RunSummary) -> tuple[str, ...]:
    updates = "" if run.update is None else f"{run.update}/{'?' if run.updates is None else run.updates}"
    # why a run failed may take a page, which its summary and its report have in full
    best = textwrap.shorten(run.reason, 72, placeholder=" ...") if run.state == "failed" else run.reason
    if not best and run.best:
        best = f"{run.best['metric']} {run.best['value']:.4g} at {run.best['update']}"
    return run.name, run.state, run.recipe, run.task, updates, best, "" if run.age is None else _ago(run.age)


def _ago(seconds: float) -> str:
    for unit, length in (("day", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''} ago"
    return f"{int(seconds)} s ago"


def _printable(text: str) -> str:
    return "".join(_escaped(text))


def _escaped(text: str) -> Iterable[str]:
    for character in text:
        yield character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
