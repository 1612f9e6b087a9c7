"""Runs of the command line in processes of their own, forked from one that has imported everything already."""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PRELOADED = [
    "quincunx.launch",
    "quincunx.console",
    "quincunx.recipes.long_range.recipe",
    "quincunx.recipes.compression.recipe",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
]
"""What takes longer to import than these runs take; what is not installed is passed over."""

TINY: dict[str, Any] = {
    "recipe": "long_range",
    "seed": 11,
    "data": {
        "train": 120,
        "dev": 30,
        "test": 30,
        "min_length": 4,
        "max_length": 24,
        "max_depth": 3,
        "max_arguments": 4,
    },
    "encoder": {
        "embedding_dim": 8,
        "hidden_dim": 12,
        "head_dim": 4,
        "num_heads": 2,
        "num_layers": 2,
        "vocab_size": 18,
        "max_seq_len": 30,
        "dropout": 0.1,
        "attention_dropout": 0.1,
    },
    "attention": {"kind": "softmax"},
    "update": {"batch_size": 16, "clip_norm": 1.0},
    "budget": {"epochs": 3},
    "optimizer": {"learning_rate": 0.01},
    "schedule": {"kind": "cos", "warmup": 3},
    "evaluate": {"every": 0.5},
    "checkpoint": {"every": 3},
    "log": {"every": 2},
    "compute": {"threads": 1, "device": "cpu"},
}
"""A run of 24 updates: every kind of event falls on some of them, and they fall together on few."""


def tiny(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the tiny config with dotted changes."""
    tree = copy.deepcopy(TINY)
    for dotted, value in (changes or {}).items():
        node = tree
        *parents, last = dotted.split(".")
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def command(arguments: list[str], log: Path, die_at_sync: int | None, environment: dict[str, str]) -> None:
    """Run the command line in this process, its output going to `log`; with `die_at_sync`, be killed at that fsync."""
    os.environ.update(environment)
    # as in a terminal: a shell that runs the tests in the background has its children ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if die_at_sync is not None:
        _die_at_sync(die_at_sync)
    from quincunx.cli import run

    code = run(arguments)
    sys.stdout.flush()
    os._exit(code)


def start(*arguments: object, log: Path, die_at_sync: int | None = None, **environment: str) -> BaseProcess:
    """Start the command line in a process of its own and return it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(
        target=command, args=([str(argument) for argument in arguments], log, die_at_sync, environment)
    )
    process.start()
    return process


@contextmanager
def running(*arguments: object, log: Path, **environment: str) -> Iterator[BaseProcess]:
    """Start the command line in a process of its own, which is killed if it is still there at the end."""
    process = start(*arguments, log=log, **environment)
    try:
        yield process
    finally:
        process.kill()
        process.join()


def wait_for(condition: Callable[[], bool], process: BaseProcess, log: Path, seconds: float = 60) -> None:
    """Wait until something holds, which must come while the process lives."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.002)


def finish(process: BaseProcess, timeout: float = 120) -> int:
    """Wait for a process and return its exit code (negative: the signal that killed it)."""
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError("the process did not end in time")
    return process.exitcode


def quincunx(*arguments: object, log: Path, **environment: str) -> int:
    """Run the command line in a process of its own and return its exit code."""
    return finish(start(*arguments, log=log, **environment))


def _die_at_sync(number: int) -> None:
    """Kill this process at the given call of os.fsync: every write that must survive goes through it."""
    calls = 0
    original = os.fsync

    def counting(descriptor: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        original(descriptor)

    os.fsync = counting
