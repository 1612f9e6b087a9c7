"""A run at work: the process that trains it, the lock that says so, and what it is told.

The process's output file is locked, and the process inherits the lock: so it is held for as long as the process lives,
from its first moment on, whether or not its worker does. Whoever takes the run over waits until it is free.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from quincunx.errors import RunError
from quincunx.runs import RunFolder
from quincunx.sweep.records import RunRecord
from quincunx.sweep.running.outcome import Exit
from quincunx.sweep.running.watching import Curve, last_words

KIBI = 1024
"""Linux counts a process's memory in these; macOS in bytes."""


@dataclass
class Child:
    """A run that a worker has claimed."""

    run: RunRecord
    """As it was claimed, brought up to date as it goes."""
    place: int
    """Which of the worker's places it takes."""
    folder: Path
    log: Path
    curve: Curve
    variables: dict[str, str] = field(default_factory=dict)
    """Of its environment, besides the worker's own."""
    on_gpu: bool = False
    asked: bool = False
    """It was asked to stop because the sweep stops."""
    lost: bool = False
    """Another worker has taken the run over."""
    memory: int | None = None
    elapsed: float = 0.0
    _lock: int | None = None
    _process: subprocess.Popen[bytes] | None = None
    _began: float = 0.0
    _told_at: float = 0.0
    _log_size: int = 0

    @property
    def is_started(self) -> bool:
        """Whether it has a process."""
        return self._process is not None

    def is_free(self) -> bool:
        """Take the lock of the run; False while a process that outlived its worker has it, or trains in its folder.

        Raises:
            RunError: The file that its process prints to cannot be opened.
        """
        if self._lock is None:
            try:
                self.log.parent.mkdir(parents=True, exist_ok=True)
                self._lock = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise RunError(f"{self.log} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # no locks on this file system: then none of its files has one
            return True
        return RunFolder(self.folder).holder() is None

    def start(self, command: Sequence[str]) -> None:
        """Start the process, in a session of its own so that Ctrl-C in the terminal does not reach it.

        Raises:
            OSError: It cannot be started.
        """
        assert self._lock is not None
        self._log_size = os.fstat(self._lock).st_size
        self._began, self._told_at = time.monotonic(), time.time()
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=self._lock,
            stderr=self._lock,
            env={**os.environ, **self.variables},
            start_new_session=True,
        )

    def poll(self) -> Exit | None:
        """Return how the process ended, None while it runs."""
        process = self._process
        if process is None:
            return None
        try:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else in this process waited for it
            return self._exit(process.poll() or 0)
        if pid == 0:
            return None
        process.returncode = os.waitstatus_to_exitcode(status)
        self.elapsed = time.monotonic() - self._began
        self.memory = used.ru_maxrss * (KIBI if os.uname().sysname == "Linux" else 1)
        return self._exit(process.returncode)

    def stop(self) -> None:
        """Ask the process to save and stop."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """End the process and all that it started."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def prune(self) -> None:
        """Ask a run that was pruned to save and stop, by a file as a person would."""
        with suppress(OSError):
            RunFolder(self.folder).stop.touch()

    def release(self) -> None:
        """Give up the lock; a process that still runs keeps it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _exit(self, status: int) -> Exit:
        summary = RunFolder(self.folder).summary
        try:
            wrote = summary.stat().st_mtime >= self._told_at - 0.1
        except OSError:
            wrote = False
        return Exit(status, last_words(self.log, self._log_size), self.asked, wrote)
