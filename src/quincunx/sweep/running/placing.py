"""Where the runs of a machine compute: each worker's place has a CUDA device and a share of the CPU's cores."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from quincunx.errors import UsageError
from quincunx.sweep.settings import Sweep


def cuda_devices(environment: Mapping[str, str]) -> list[str]:
    """Return the CUDA devices that a process with this environment sees, by the names that CUDA_VISIBLE_DEVICES takes.

    Found without torch, whose import takes longer than all else that a sweep does by itself.
    """
    if (named := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        devices = [name.strip() for name in named.split(",")]
        return devices[: devices.index("-1")] if "-1" in devices else [name for name in devices if name]
    with suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
        return [str(index) for index, _ in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]
    return []


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def placement(settings: Sweep, visible: Sequence[str]) -> list[str | None]:
    """Return a CUDA device for each place of a worker, in turn; None where a run is to see what the worker sees.

    Args:
        settings: The section `sweep`.
        visible: What `cuda_devices` found.

    Raises:
        UsageError: `sweep.devices` names one that is not there.
    """
    chosen: list[str] = []
    if settings.devices == "auto":
        chosen = list(visible) if settings.workers > 1 else []
    elif settings.devices != "all":
        beyond = [index for index in settings.devices if index >= len(visible)]
        if beyond:
            there = "there is one" if len(visible) == 1 else f"there are {len(visible)}" if visible else "there is none"
            raise UsageError(f"sweep.devices names the CUDA device {beyond[0]}; counted from 0 {there} on this machine")
        chosen = [visible[index] for index in settings.devices]
    return [chosen[place % len(chosen)] if chosen else None for place in range(settings.workers)]


def environment(settings: Sweep, device: str | None, config: Any, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a run's process gets besides those that the worker has.

    Args:
        settings: The section `sweep`.
        device: Of the place, as `placement` says.
        config: The run's.
        inherited: The worker's own environment.
    """
    found: dict[str, str] = {}
    # a run that shares its batches among several devices needs to see them
    alone = config.compute.processes in (None, 1)
    if device is not None and (alone or settings.devices != "auto"):
        found["CUDA_VISIBLE_DEVICES"] = device
    if config.compute.threads is None:
        if settings.threads is not None:
            found["OMP_NUM_THREADS"] = str(settings.threads)
        elif settings.workers > 1 and "OMP_NUM_THREADS" not in inherited:
            found["OMP_NUM_THREADS"] = str(max(1, usable_cores() // settings.workers))
    return found
