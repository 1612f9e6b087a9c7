"""Images of a set in order, drawn by several processes where that pays.

Each process draws every so-manieth block and sends it through a pipe; the pipes are read in turn, so that the order is
fixed, and memory stays small because a full pipe makes its process wait. The processes run this module, not a copy of
the caller's program, so that scripts without a guard round their main part work too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from typing import IO

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError
from quincunx.recipes.long_range.data.pathfinder.generator import images
from quincunx.recipes.long_range.data.pathfinder.parameters import Parameters

WORTH = 2_000
"""So many images for each process pay for starting it."""


def in_order(
    parameters: Parameters, start: int, count: int, block: int, workers: int | None = None
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield the images `start` to `start + count - 1` as (rows [n, R * R], labels [n]), n being `block` but at the end.

    Arguments: `workers`, processes; without it as many as there are cores, if the set is large enough. Their number
    changes nothing but the time. Errors: DataError where the settings allow no image.
    """
    if workers is None:
        workers = min(usable_cores(), count // WORTH)
    if workers <= 1 or not sys.executable:
        for first in range(start, start + count, block):
            yield images(parameters, first, min(block, start + count - first))
        return
    with ExitStack() as stack:
        processes = [
            stack.enter_context(_Worker(parameters, start, count, block, number, workers)) for number in range(workers)
        ]
        for index, first in enumerate(range(start, start + count, block)):
            size = min(block, start + count - first)
            data = processes[index % workers].read(size * (parameters.resolution**2 + 1))
            pixels = np.frombuffer(data, np.uint8, size * parameters.resolution**2)
            yield pixels.reshape(size, -1), np.frombuffer(data, np.uint8, size, offset=len(pixels))


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker:
    """A process that draws the blocks `number`, `number + workers` ... of a request."""

    def __init__(self, parameters: Parameters, start: int, count: int, block: int, number: int, workers: int) -> None:
        request = {
            "parameters": asdict(parameters),
            "firsts": [start + number * block, start + count, workers * block],
            "block": block,
            "end": start + count,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()", json.dumps(request)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Where this process finds its modules, that one must; one thread each, or they fight for the cores.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        )

    def read(self, size: int) -> bytes:
        """Return the next block; DataError with the process's own words where it came to an end."""
        data = self._pipe(self._process.stdout).read(size)
        if len(data) == size:
            return data
        words = self._pipe(self._process.stderr).read().decode("utf-8", "replace").strip()
        code = self._process.wait()
        raise DataError(words or f"a process that draws Pathfinder images ended early (exit code {code}); run it again")

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._pipe(self._process.stdout).close()
        self._pipe(self._process.stderr).close()
        self._process.wait()

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        if pipe is None:
            raise ValueError("the process was started without a pipe")
        return pipe


def serve() -> None:
    """Draw what the command line of this process asks for and write it, block after block: pixels, then labels."""
    asked = json.loads(sys.argv[1])
    settings = asked["parameters"]
    parameters = Parameters(**{**settings, "margins": tuple(settings["margins"])})
    try:
        for first in range(*asked["firsts"]):
            pixels, labels = images(parameters, first, min(asked["block"], asked["end"] - first))
            sys.stdout.buffer.write(pixels.tobytes() + labels.tobytes())
            sys.stdout.buffer.flush()
    except DataError as problem:
        sys.exit(str(problem))
