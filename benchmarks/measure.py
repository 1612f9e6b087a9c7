"""How the benchmarks measure: contestants take turns in one process and are compared round by round.

What disturbs a machine then meets all of them alike; medians and quartiles of the ratios within rounds say how sure a
figure is.
"""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from quincunx.runs.machine import environment

T = TypeVar("T")


@dataclass(frozen=True)
class Seconds:
    """What something took."""

    wall: float
    cpu: float
    """Of all threads of the process together."""

    def __truediv__(self, count: int) -> Seconds:
        return Seconds(self.wall / count, self.cpu / count)


class Watch:
    """Reads both clocks."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Seconds:
        """Return what has passed since the watch was made."""
        return Seconds(time.perf_counter() - self._wall, time.process_time() - self._cpu)


@dataclass(frozen=True)
class Spread:
    """The middle of some values and where half of them lie."""

    median: float
    low: float
    high: float

    def __format__(self, form: str) -> str:
        return f"{self.median:{form}} [{self.low:{form}}, {self.high:{form}}]"


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the quartiles of values; of a single one, that one three times."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratios(values: Sequence[float], base: Sequence[float]) -> Spread:
    """Return the spread of values over a base measured in the same rounds."""
    return spread([value / other for value, other in zip(values, base, strict=True)])


def alternate(contestants: Mapping[str, Callable[[], T]], rounds: int, warmup: int = 1) -> dict[str, list[T]]:
    """Return what each contestant measured in each round.

    Every round calls each of them once, beginning one further than the round before; the first `warmup` rounds are
    not kept. Progress goes to standard error.
    """
    names = list(contestants)
    found: dict[str, list[T]] = {name: [] for name in names}
    for number in range(-warmup, rounds):
        at = number % len(names)
        for name in names[at:] + names[:at]:
            gc.collect()
            value = contestants[name]()
            if number >= 0:
                found[name].append(value)
        print(f"\rround {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
    print("\r" + " " * 20 + "\r", end="", file=sys.stderr, flush=True)
    return found


def growth(work: Callable[[], object], steps: int = 4) -> float:
    """Return how far the resident memory grows at its peak over a few calls, in MiB: Linux, in a fresh process.

    What the first call brings in for good (libraries, compiled code) should be behind it already.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _resident("VmRSS")
    for _ in range(steps):
        work()
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{field}:")[1].split()[0]) / 1024


def in_child(script: str, *arguments: object) -> float:
    """Return the number that a script prints when it is run with these arguments in a process of its own."""
    command = [sys.executable, script, *map(str, arguments)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1])


def multiply_rate(size: int = 2048) -> float:
    """Return the floating-point operations per second of one large float32 matrix product, with torch's threads."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    best = min(_seconds(lambda: left @ right) for _ in range(5))
    return 2 * size**3 / best


def triad_rate(numbers: int = 1 << 25) -> float:
    """Return the bytes per second of a + s b into c, each array far larger than the caches, with torch's threads."""
    a, b, c = (torch.ones(numbers) for _ in range(3))
    best = min(_seconds(lambda: torch.add(a, b, alpha=2.0, out=c)) for _ in range(5))
    return 3 * 4 * numbers / best


def _seconds(work: Callable[[], object]) -> float:
    watch = Watch()
    work()
    return watch.read().wall


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine(threads: int | str | None = None) -> str:
    """Return a line on where figures come from: processor, cores, threads, versions, day."""
    facts = environment()
    cpu, packages = facts["cpu"], facts["packages"]
    used = "" if threads is None else f", {threads} thread{'' if threads == 1 else 's'}"
    return (
        f"{cpu['model']}, {cpu['usable']} cores{used}; Python {facts['python']}, torch {packages['torch']}, "
        f"quincunx {packages['quincunx']}; {facts['time'][:10]}"
    )
