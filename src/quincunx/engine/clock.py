"""How fast a run goes and what memory it takes; kept apart from everything that runs are compared by."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Sequence

import torch

from quincunx.data.batch import Batch
from quincunx.engine.runtime import Runtime


class Clock:
    """Speed since the last line of the log; never written where runs are compared."""

    def __init__(self, update: int) -> None:
        self._began = time.perf_counter()
        self._update = update
        self._examples = 0
        self._tokens = 0

    def count(self, batches: Sequence[Batch | None], world: int) -> None:
        """Count one update's examples and tokens; the batches are those of one of `world` like shards."""
        for batch in batches:
            if batch is not None:
                self._examples += len(batch) * world
                self._tokens += (int(batch.lengths.sum()) if batch.lengths is not None else 0) * world

    def read(self, update: int, stop_at: int, runtime: Runtime) -> dict[str, float]:
        """Return speeds and begin anew."""
        now = time.perf_counter()
        seconds = max(now - self._began, 1e-9)
        per_second = (update - self._update) / seconds
        speed = {
            "seconds": seconds,
            "updates_per_second": per_second,
            "examples_per_second": self._examples / seconds,
            "seconds_left": (stop_at - update) / per_second if per_second else math.nan,
            "memory_bytes": float(memory_in_use(runtime.device)),
        }
        if self._tokens:
            speed["tokens_per_second"] = self._tokens / seconds
        self._began, self._update, self._examples, self._tokens = now, update, 0, 0
        return speed


def memory_in_use(device: torch.device) -> int:
    """Return the peak of bytes that tensors took on an accelerator, or this process's resident memory on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.current_allocated_memory()
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
