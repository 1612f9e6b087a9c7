"""Evaluations with a ranking behind them, kept as folders: written whole, read back by name.

`metrics.json` (means, intervals, what was measured), `queries.jsonl` (one object a query), `skipped_rows.jsonl`, and
what the recipe adds, such as `run.trec` and `qrels.trec`.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from quincunx.errors import RunError, UsageError
from quincunx.metrics.intervals import bootstrap_mean
from quincunx.metrics.ranking import Scores, parse_measures
from quincunx.metrics.record import Evaluation
from quincunx.runs import read_json, to_json

METRICS, QUERIES, SKIPPED = "metrics.json", "queries.jsonl", "skipped_rows.jsonl"
LEVEL = 0.95
"""Of the bootstrap intervals over queries."""

Lines = Callable[[], Iterator[str]]


@contextmanager
def place_for(path: Path, fingerprint: str) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` on leaving; on an error nothing is changed.

    An evaluation of the same data that is there already is replaced.

    Raises:
        UsageError: Something else is there, or an evaluation of other data (whose fingerprint is another).
        RunError: It cannot be written there.
    """
    if path.exists():
        _check_replaceable(path, fingerprint)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.writing")
    shutil.rmtree(unfinished, ignore_errors=True)
    with _written(path):
        unfinished.mkdir(parents=True)  # before anything is computed: a place that cannot be written shows at once
    try:
        yield unfinished
        with _written(path):
            _replace(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write(
    folder: Path,
    evaluation: Evaluation,
    facts: Mapping[str, Any],
    skipped: Sequence[Mapping[str, Any]] = (),
    files: Mapping[str, Lines] | None = None,
) -> None:
    """Write an evaluation into a folder.

    Means are added in the order of the sorted query ids, as `quincunx score ranking` adds them; null stands for what
    has no value.

    Args:
        folder: Exists and is empty.
        evaluation: With values by query.
        facts: Further entries of `metrics.json`.
        skipped: Bad rows that were left out.
        files: Further files by name, each as what gives its lines.
    """
    names = list(evaluation.values)
    wanted = parse_measures(names)
    table = np.array([list(evaluation.values[name].values()) for name in names], np.float64).T
    queries = list(evaluation.values[names[0]])
    order = sorted(range(len(queries)), key=queries.__getitem__)
    scores = Scores(wanted, [queries[row] for row in order], table[order])
    metrics = {
        "mean": _without_nan(scores.mean),
        "intervals": {
            one.name: _interval(table[:, column]) for column, one in enumerate(wanted) if not one.measure.summed
        },
        "level": LEVEL,
        "queries": len(queries),
        **facts,
        "skipped_rows": len(skipped),
        "scalars": _without_nan(evaluation.scalars),
        "notes": list(evaluation.notes),
    }
    rows = ({"query": query, **_without_nan(values)} for query, values in scores.queries.items())
    _write(folder / METRICS, iter([to_json(metrics, indent=2).decode() + "\n"]))
    _write(folder / QUERIES, (to_json(row).decode() + "\n" for row in rows))
    _write(folder / SKIPPED, (to_json(row).decode() + "\n" for row in skipped))
    for name, lines in (files or {}).items():
        _write(folder / name, lines())


def _interval(values: Any) -> dict[str, float] | None:
    known = values[~np.isnan(values)]
    if len(known) < 2:
        return None
    found = bootstrap_mean(known, LEVEL)
    return {"low": found.low, "high": found.high}


def _without_nan(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _write(path: Path, lines: Iterator[str]) -> None:
    with _written(path), path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def _check_replaceable(path: Path, fingerprint: str) -> None:
    if not path.is_dir():
        raise UsageError(f"{path} is a file; give a folder by --out")
    if not any(path.iterdir()):
        return
    if not (path / METRICS).is_file():
        raise UsageError(f"{path} holds something that is no evaluation, and is left as it is; give another --out")
    found = read_json(path / METRICS)
    if not isinstance(found, dict) or found.get("data") != fingerprint:
        raise UsageError(f"{path} holds an evaluation of other data, and is left as it is; give another --out")


def _replace(unfinished: Path, path: Path) -> None:
    before = path.with_name(f".{path.name}.{os.getpid()}.before")
    with suppress(FileNotFoundError):
        path.replace(before)
    try:
        unfinished.replace(path)
    except OSError:
        with suppress(FileNotFoundError):
            before.replace(path)
        raise
    shutil.rmtree(before, ignore_errors=True)


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write into an error that says so."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}; what stood there is untouched") from error
