"""A run's record and its row in the database, each made from the other."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

from quincunx.runs import as_number, to_json
from quincunx.sweep.records import RunRecord


def row_of(run: RunRecord) -> dict[str, Any]:
    """Return the columns of a run's row, but for the sweep's."""
    return {
        "number": run.number,
        "trial": run.trial,
        "replicate": run.replicate,
        "seed": run.seed,
        "folder": run.folder,
        "hash": run.hash,
        "state": run.state,
        "target": run.target,
        "total": run.total,
        "attempts": run.attempts,
        "seconds": run.seconds,
        "memory": run.memory,
        "reason": run.reason,
        "owner": run.owner,
        "host": run.host,
        "same_as": run.same_as,
        **progress_of(run),
    }


def progress_of(run: RunRecord) -> dict[str, Any]:
    """Return the columns that change while a run is at work."""
    return {
        "done": run.update,
        "value": None if run.value is None else repr(float(run.value)),
        "curve": to_json(list(run.values.items())).decode(),
    }


def run_of(row: Any, curve: dict[int, float]) -> RunRecord:
    """Return the record of a row, and of its curve read by `curve_of`."""
    return RunRecord(
        number=row.number,
        trial=row.trial,
        replicate=row.replicate,
        seed=row.seed,
        folder=row.folder,
        hash=row.hash,
        state=row.state,
        target=row.target,
        update=row.done,
        total=row.total,
        value=None if row.value is None else float(row.value),
        values=curve,
        attempts=row.attempts,
        seconds=row.seconds,
        memory=row.memory,
        reason=row.reason,
        owner=row.owner,
        host=row.host,
        same_as=row.same_as,
    )


def curve_of(text: str) -> dict[int, float]:
    """Return update -> value."""
    return {update: cast("float", as_number(value)) for update, value in json.loads(text)}


def mirrored(run: RunRecord, of: RunRecord) -> RunRecord:
    """Return a run that takes over the outcome of an earlier one: all of it but what it cost."""
    return replace(
        run,
        state=of.state,
        target=of.target,
        update=of.update,
        total=of.total,
        value=of.value,
        values=of.values,
        reason=of.reason,
        memory=of.memory,
        host=of.host,
    )
