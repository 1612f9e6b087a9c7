"""A look inside updates 5 to 10 of a run: a trace for a browser and a table of the costliest operations."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from quincunx.config.plan import Plan
from quincunx.engine.events import Callback

FIRST, LAST = 5, 10

log = logging.getLogger("quincunx")


class Profile(Callback):
    """Writes `profile/trace.json` and `profile/operations.txt` into the run folder."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._folder = folder / "profile"
        activities = [ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities, record_shapes=True, profile_memory=True)
        self._running = False
        self._written = False
        self._first = FIRST

    def start(self, plan: Plan, update: int, notes: Sequence[str]) -> None:
        """Count the five updates of warm-up from wherever the run goes on."""
        self._first = update + FIRST

    def update(self, update: int) -> None:
        """Begin before the first profiled update and write after the last."""
        if update == self._first - 1:
            self._profile.start()
            self._running = True
        elif update == self._first + LAST - FIRST:
            self._write()

    def end(self, update: int, reason: str) -> None:
        """Write what there is when the run ended early."""
        self._write()
        if not self._written:
            log.warning("the run ended before its update %d: nothing was profiled", FIRST)

    def error(self, error: BaseException) -> None:
        """Stop profiling."""
        if self._running:
            self._running = False
            self._profile.stop()

    def _write(self) -> None:
        if not self._running:
            return
        self._running, self._written = False, True
        self._profile.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._profile.export_chrome_trace(str(self._folder / "trace.json"))
        table = self._profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=40)
        (self._folder / "operations.txt").write_text(table, encoding="utf-8")
