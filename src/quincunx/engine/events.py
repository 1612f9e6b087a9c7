"""What a run tells those who watch it, and how it is told to save or stop.

Callbacks observe: nothing they return is read, and a run does the same without them. What changes the mathematics is
an argument of the loop.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from quincunx.config.plan import Plan
from quincunx.metrics.record import Evaluation


@dataclass(frozen=True)
class Progress:
    """What is known at a line of the log."""

    update: int
    """Updates done."""
    total: int
    """Updates at which this run ends."""
    epoch: float
    values: Mapping[str, float]
    """Means since the last line: losses, gradient norm, learning rate."""
    speed: Mapping[str, float]
    """Clocks: updates, examples and tokens a second, memory in bytes, seconds left."""


class Callback:
    """Base of observers; override what is of interest."""

    def start(self, plan: Plan, update: int, notes: Sequence[str]) -> None:
        """Training begins, or goes on, after `update` updates."""

    def update(self, update: int) -> None:
        """An update was applied."""

    def log(self, progress: Progress) -> None:
        """`log.every` updates have passed."""

    def evaluation(self, update: int, split: str, evaluation: Evaluation) -> None:
        """A split was evaluated."""

    def checkpoint(self, update: int, path: Path, best: bool) -> None:
        """The run was saved."""

    def stopping(self, reason: str) -> None:
        """A signal asked for a stop after the update at hand. Called in the middle of anything: be brief."""

    def end(self, update: int, reason: str) -> None:
        """Training ended: `finished`, `stop_at`, `patience`, or the signal or file that stopped it."""

    def error(self, error: BaseException) -> None:
        """Training broke off."""


class Requests:
    """Wishes from outside: SIGTERM, SIGINT, SIGHUP (a closed terminal) and a file `STOP` save and stop; SIGUSR1 and a
    file `SAVE` save and go on.

    A second SIGINT stops at once, without saving.
    """

    def __init__(self, folder: Path, callbacks: Sequence[Callback] = ()) -> None:
        self._callbacks = callbacks
        self._stop_file = folder / "STOP"
        self._save_file = folder / "SAVE"
        self._stop: str | None = None
        self._save = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Requests:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup
            try:
                self._previous[number] = signal.signal(number, self._receive)
            except ValueError:  # not the main thread: whoever runs us there has the signals
                break
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def stop(self) -> str | None:
        """Return why the run should save and stop, None when it should not."""
        if self._stop is None and self._stop_file.exists():
            self._stop = "the file STOP"
        return self._stop

    def save(self) -> bool:
        """Tell whether a save was asked for, and forget it."""
        asked = self._save
        if self._save_file.exists():
            self._save_file.unlink(missing_ok=True)
            asked = True
        self._save = False
        return asked

    def clear_files(self) -> None:
        """Remove request files left from before: a resumed run has been asked for nothing yet."""
        self._stop_file.unlink(missing_ok=True)
        self._save_file.unlink(missing_ok=True)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self._save = True
        elif number == signal.SIGINT and self._stop is not None:
            raise KeyboardInterrupt
        else:
            self._stop = signal.Signals(number).name
            for callback in self._callbacks:
                callback.stopping(self._stop)
