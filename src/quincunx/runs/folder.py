"""The folder of one run: how its name is claimed, what lies where, and the lock that keeps a second process out.

The lock is the operating system's (flock): it ends with the process, however that ends, so none is ever left behind.
POSIX systems only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from quincunx.errors import RunError
from quincunx.runs.files import TEMPORARY, LineFile, remove_quietly, to_json, write_atomically

LOCK = "run.lock"


@dataclass(frozen=True)
class Holder:
    """The process that has a run folder in use, as it wrote itself down."""

    pid: int | None
    host: str
    since: str

    def __str__(self) -> str:
        if self.pid is None:
            return "another process"
        return f"process {self.pid} on {self.host} since {self.since}"

    @property
    def is_this_process(self) -> bool:
        """Whether it is the process that asks."""
        return self.pid == os.getpid() and self.host == socket.gethostname()


class RunFolder:
    """The files of one run.

    `with folder:` (or `lock` and `release`) keeps other processes from training in it; reading needs no lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        """The resolved config; a folder that has it is a run."""
        self.origins = path / "origins.json"
        """Where every setting came from."""
        self.plan = path / "plan.json"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        """One object a line: update, split, name, value. No clocks, so that a repeated run repeats the file."""
        self.timings = path / "timings.jsonl"
        """One object a line: update, seconds since the line before, and speeds such as examples_per_second."""
        self.checkpoints = path / "checkpoints"
        self.evaluations = path / "evaluations"
        """One JSON file an evaluation: `Evaluation.to_json` with split and update added."""
        self.skipped_rows = path / "skipped_rows.jsonl"
        self.summary = path / "summary.json"
        self.report = path / "report.html"
        self.stop = path / "STOP"
        """Made by a person to have the run saved and ended at the next update."""
        self.save = path / "SAVE"
        """Made by a person to have the run saved at the next update."""
        self._lock: int | None = None

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Write a file of the folder atomically and return its path.

        Args:
            name: Path within the folder, for example `evaluations/dev-000500.json`; folders on the way are made.
            data: The whole content.

        Raises:
            RunError: It cannot be written; what stood there before is untouched.
            ValueError: The name leads out of the folder.
        """
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{name!r} leads out of the run folder")
        path = self.path / name
        write_atomically(path, data)
        return path

    def write_text(self, name: str, text: str) -> Path:
        """Write a file of the folder as UTF-8, like `write_bytes`."""
        return self.write_bytes(name, text.encode("utf-8", "backslashreplace"))

    def write_json(self, name: str, value: Any) -> Path:
        """Write a file of the folder as indented JSON (`to_json`), like `write_bytes`."""
        return self.write_bytes(name, to_json(value, indent=2) + b"\n")

    def open_lines(self, name: str) -> LineFile:
        """Open a file of the folder to which JSON objects are appended."""
        return LineFile(self.path / name)

    def lock(self) -> Self:
        """Take the folder for this process, without waiting, and return it.

        Raises:
            RunError: Another process, or another `RunFolder` of this one, has it; the text says which.
        """
        if self._lock is not None:
            raise RunError(f"{self.path} is locked already by this very object")
        path = self.path / LOCK
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise RunError(f"{path} cannot be opened, so the run cannot be locked: {error.strerror}") from error
        try:
            self._acquire(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._lock = descriptor
        _close_in_children(self, descriptor)
        return self

    def release(self) -> None:
        """Give the folder free; without a lock nothing happens."""
        if self._lock is not None:
            descriptor, self._lock = self._lock, None
            os.close(descriptor)  # closing, not unlocking: a forked child that ends must not unlock its parent

    def abandon(self) -> None:
        """Remove the folder if it holds nothing but scrap: a run that failed before it wrote its config."""
        with suppress(OSError):  # called while another error is on its way, which must not be hidden
            if any(not _is_scrap(entry.name) for entry in self.path.iterdir()):
                return
            for entry in self.path.iterdir():
                remove_quietly(entry)
            self.path.rmdir()

    def holder(self) -> Holder | None:
        """Return the process that has the folder locked (this one included), None when it is free."""
        try:
            descriptor = os.open(self.path / LOCK, os.O_RDONLY)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_holder(descriptor)
        except OSError:  # no locks on this file system: nobody can hold one
            return None
        finally:
            os.close(descriptor)
        return None

    def __enter__(self) -> Self:
        return self if self._lock is not None else self.lock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _acquire(self, descriptor: int) -> None:
        path = self.path / LOCK
        try:
            is_free = _take(descriptor, path)
        except OSError as error:
            raise RunError(f"{path} cannot be locked: {error.strerror}; does this file system have locks?") from error
        holder = _read_holder(descriptor)
        if not is_free:
            raise RunError(
                f"{self.path} is in use by {holder}. Wait for it, end it (an empty file {self.stop} makes it save "
                "and stop), or give another run.dir."
            )
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(descriptor)):
            raise RunError(f"{self.path} was given up by another process just now; try again.")  # see `abandon`
        self._remove_leftovers(holder)
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()} {since}\n".encode(), 0)
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror}") from error

    def _remove_leftovers(self, before: Holder) -> None:
        """Remove the unfinished files of the last holder, which must have been killed while it wrote them."""
        if before.pid is not None and not before.is_this_process:
            for path in self.path.rglob(f".*.{before.pid}{TEMPORARY}"):
                remove_quietly(path)


def claim(dir: str | None, name: str, root: Path = Path("runs")) -> RunFolder:
    """Make the folder of a new run and return it.

    Args:
        dir: The folder that the config names, relative to the working folder, or None for `<root>/<name>-<number>`.
        name: The run's name, used when `dir` is None.
        root: Where numbered folders are made; the lowest number above all that are there, also when several
            processes claim one at once.

    Raises:
        RunError: The folder holds a run or files of another kind, or cannot be made.
    """
    try:
        return RunFolder(_claim_numbered(root, name) if dir is None else _claim_named(Path(dir).expanduser()))
    except OSError as error:
        place = Path(dir) if dir is not None else root
        raise RunError(f"the run folder {place} cannot be made: {error.strerror} ({error.filename})") from error


def reopen(path: str | Path) -> RunFolder:
    """Return the folder of a run that exists already, to resume it or to read it.

    Raises:
        RunError: There is no run; the text says what was found instead.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        found = "is a file, not a run folder" if path.exists() else "does not exist"
        raise RunError(f"{path} {found}; a run folder is one that `quincunx train` made (see `quincunx runs list`).")
    if not (path / "config.yaml").is_file():
        raise RunError(f"{path} holds no run: there is no config.yaml in it (`quincunx runs list` shows the runs).")
    return RunFolder(path)


def _claim_named(path: Path) -> Path:
    if path.exists() and not path.is_dir():
        raise RunError(f"run.dir {path} is a file; a run needs a folder of its own: give another run.dir.")
    path.mkdir(parents=True, exist_ok=True)
    found = sorted(entry.name for entry in path.iterdir() if not _is_scrap(entry.name))
    if "config.yaml" in found or "checkpoints" in found:
        raise RunError(f"{path} holds a run already: go on with it by --resume, or give another run.dir.")
    if found:
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        raise RunError(
            f"run.dir {path} holds other files ({shown}); a run needs a folder of its own: give another run.dir."
        )
    return path


def _is_scrap(name: str) -> bool:
    # What a run leaves that died before it wrote its config: there is nothing in it to resume.
    return name == LOCK or (name.startswith(".") and name.endswith(TEMPORARY))


def _claim_numbered(root: Path, name: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(re.escape(name) + r"-([0-9]+)")
    numbers = [int(match[1]) for entry in root.iterdir() if (match := pattern.fullmatch(entry.name))]
    number = max(numbers, default=0) + 1
    while True:
        try:
            (root / f"{name}-{number}").mkdir()
        except FileExistsError:  # another process was faster
            number += 1
        else:
            return root / f"{name}-{number}"


def _take(descriptor: int, path: Path) -> bool:
    for _ in range(1000):
        for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if kind == fcntl.LOCK_EX:
                return True
            # Shared is to be had, exclusive is not: nobody holds it, somebody is just looking (`holder`).
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            time.sleep(0.001)
            break
        else:
            return False
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))


def _read_holder(descriptor: int) -> Holder:
    fields = os.pread(descriptor, 1000, 0).decode("utf-8", "replace").split()
    if len(fields) != 3 or not fields[0].isdecimal():
        return Holder(None, "", "")
    return Holder(int(fields[0]), fields[1], fields[2])


def _close_in_children(folder: RunFolder, descriptor: int) -> None:
    # A forked worker inherits the lock and would keep it beyond a kill of its parent: it closes its copy.
    reference = weakref.ref(folder)

    def close() -> None:
        inherited = reference()
        if inherited is not None and inherited._lock == descriptor:
            inherited.release()

    os.register_at_fork(after_in_child=close)
