"""What the folder of a run says of it: how far it is, what it measured, how it ended."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quincunx.errors import RunError
from quincunx.runs import RunFolder, Summary, as_number, read_json, read_summary
from quincunx.runs.files import read_lines

USUAL = re.compile(r"note: |update \d|\S+: warning: |\d+ errors?; nothing was run")
"""Begins what a run prints that is no failure."""


class Curve:
    """The metric of a run by update, read as its `metrics.jsonl` grows.

    Args:
        path: The file, which need not be there yet.
        metric: `split/name`.
        goal: `max` or `min`.
        best: The value at an update is the best one so far, in place of the one measured there.
    """

    def __init__(self, path: Path, metric: str, goal: str, *, best: bool) -> None:
        self._path = path
        self._split, _, self._name = metric.partition("/")
        self._larger = goal == "max"
        self._best = best
        self._begin()

    def _begin(self) -> None:
        self._read = 0
        self._measured: dict[int, float] = {}
        self.update = 0
        """Of the last line."""
        self.names: set[str] = set()
        """Of all metrics that there are."""

    def poll(self) -> bool:
        """Read what was added; tell whether the metric was measured since. Half a line is left for the next time."""
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < self._read:  # a resumed run cuts its file back to its checkpoint
                    self._begin()
                file.seek(self._read)
                added = file.read(size - self._read)
        except OSError:
            return False
        whole = added[: added.rfind(b"\n") + 1]
        self._read += len(whole)
        return sum(self._see(line) for line in whole.splitlines()) > 0  # each line is to be seen

    @property
    def values(self) -> dict[int, float]:
        """The metric at each update at which it was measured."""
        if not self._best:
            return dict(self._measured)
        found: dict[int, float] = {}
        best = math.nan
        for update in sorted(self._measured):
            value = self._measured[update]
            if math.isnan(best) or (value > best if self._larger else value < best):
                best = value
            found[update] = best
        return found

    @property
    def value(self) -> float | None:
        """The metric now: the last one, or the best so far; nan while it was never a number."""
        values = self.values
        return values[max(values)] if values else None

    def _see(self, line: bytes) -> bool:
        with suppress(ValueError, KeyError, TypeError):
            row = json.loads(line)
            self.update = max(self.update, int(row["update"]))
            self.names.add(f"{row['split']}/{row['name']}")
            value = as_number(row["value"])
            if row["split"] == self._split and row["name"] == self._name and value is not None:
                self._measured[row["update"]] = value
                return True
        return False


@dataclass(frozen=True)
class Look:
    """What a run's folder says at one moment."""

    summary: Summary
    total: int | None
    """Updates at which its training ends, once known."""
    complete: bool
    """Its leg is trained to the end."""
    at_end: bool
    """So is all of its training, or it ended by `evaluate.patience`."""


def look(folder: Path, target: int | None, total: int | None) -> Look:
    """Return what a run's folder says of a leg.

    Args:
        folder: The run folder, which need not be there.
        target: Update at which the leg ends; None: the end of training.
        total: Updates at which training ends as far as its config alone tells (the least of its limits).
    """
    run = RunFolder(folder)
    try:
        summary = read_summary(run)
        plan = read_json(run.plan) if summary else {}
    except RunError:  # damaged: training it again says how
        return Look({}, total, False, False)
    planned = plan.get("total_updates")
    if type(planned) is int:
        total = planned if total is None else min(total, planned)
    end = None if total is None else min(total, target or total)
    # the folder of an earlier leg says `finished` too, but of that one
    complete = summary.get("state") == "finished" and summary.get("updates") == end
    update = summary.get("update", 0)
    return Look(summary, total, complete, complete and (end == total or (end is not None and update < end)))


def peak_of_device(folder: Path) -> int | None:
    """Return the most bytes that a run's tensors took on its accelerator, None where it never said."""
    try:
        found = [as_number(row.get("memory_bytes")) for row in read_lines(folder / "timings.jsonl")]
    except RunError:
        return None
    known = [value for value in found if value is not None and math.isfinite(value)]
    return int(max(known)) if known else None


def last_words(log: Path, since: int, lines: int = 6, limit: int = 600) -> str:
    """Return the last that a process printed into a file from a byte on: what went wrong, as far as can be told.

    Without what every run says: notes, warnings, progress and the count that follows the errors of a config.
    """
    try:
        with log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(since, size - 8192))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    found = [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    said: list[str] = []
    usual = False
    for line in found:
        if not line[0].isspace():
            usual = USUAL.match(line) is not None
        if not usual:
            said.append(line)
    last = (said or found)[-lines:]
    first = next((index for index, line in enumerate(last) if not line[0].isspace()), 0)  # not amid a message
    return "\n".join(last[first:])[-limit:]


def uses_gpu(config: Any, variables: Mapping[str, str], visible: list[str]) -> bool:
    """Tell whether a run computes on a CUDA device."""
    device = config.compute.device
    seen = variables.get("CUDA_VISIBLE_DEVICES", ",".join(visible))
    return bool(seen) and (device == "auto" or device.startswith("cuda"))
