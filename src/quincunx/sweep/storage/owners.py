"""Who is at work: the name of a worker, and whether the worker of a name is still there."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

import psutil


def host_name() -> str:
    """Return the name of this machine."""
    return socket.gethostname()


def machine() -> str:
    """Return what tells this machine, since it was started, from all others, and one container on it from another.

    Process numbers mean something only within the same one; two containers may well bear the same host's name.
    """
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    return f"{socket.gethostname()}/{psutil.boot_time():.0f}"


def owner_of(host: str) -> str:
    """Return the name of this process as a worker: `host:pid:start`."""
    return f"{host}:{os.getpid()}:{_began(os.getpid())}"


def is_alive(owner: str) -> bool:
    """Tell whether the process of this machine that bears a name is there, and no other that took its number over."""
    _, pid, began = owner.rsplit(":", 2)
    return pid.isdecimal() and _began(int(pid)) == began


def _began(pid: int) -> str | None:
    try:
        # in ticks since the machine was started, which no change of the clock moves; what follows the name's bracket
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        pass
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None
