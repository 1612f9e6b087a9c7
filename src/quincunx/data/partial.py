"""Files that are either absent or whole: written beside, synced, renamed; one writer at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from quincunx.runs.files import sync


class BeingWritten(Exception):
    """Another process is writing the file."""


@contextmanager
def partial_file(target: Path, *, wait: bool) -> Iterator[IO[bytes]]:
    """Yield an empty file that `finish` turns into the target; without `finish` it is removed on leaving.

    The half-written file stands beside the target under a fixed name and is locked, so that what a killed process left
    is taken over, and what a living one is writing is waited for (`wait`) or respected (BeingWritten). Where the file
    system knows no locks, each process writes under a name of its own, and the last to rename wins.
    """
    path = target.with_name(f".{target.name}.partial")
    while True:
        file = _open(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise BeingWritten(str(target)) from None
        except OSError as error:
            file.close()
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            path = target.with_name(f".{target.name}.{socket.gethostname()}.{os.getpid()}.partial")
            file = _open(path)
            break
        if _is(file, path):
            break
        file.close()  # whoever held the lock has finished or removed this very file: take the next
    try:
        file.truncate(0)
        yield file
    finally:
        if _is(file, path):
            path.unlink()
        file.close()


def finish(file: IO[bytes], target: Path) -> None:
    """Make the file that `partial_file` gave the target, durably."""
    file.flush()
    os.fsync(file.fileno())
    Path(file.name).replace(target)
    sync(target.parent)


def _open(path: Path) -> IO[bytes]:
    """Open for writing anywhere in the file, made if missing, what it holds left alone until it is locked."""
    return open(path, "r+b", opener=lambda name, flags: os.open(name, flags | os.O_CREAT, 0o666))


def _is(file: IO[bytes], path: Path) -> bool:
    """Tell whether the open file is the one that now has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
