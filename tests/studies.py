"""What tests of sweeps share: a small sweep whose runs take no time, and workers in processes that can be killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from runner import tiny

CHILD = Path(__file__).parent / "sweep" / "child.py"
"""Stands for `quincunx train`."""

RATES = {"optimizer.learning_rate": [0.1, 0.03, 0.01, 0.003, 0.001, 0.02]}


def sweep_of(
    folder: Path, ranges: Mapping[str, Any] = RATES, changes: Mapping[str, Any] | None = None, **settings: Any
) -> Any:
    """Return a sweep over the tiny config in `folder/study`, its runs six updates long."""
    from quincunx.sweep.reading.spec import open_sweep

    base = tiny({"budget": {"updates": 6}, "run.name": "study", **(changes or {})})
    return open_sweep({**base, "ranges": dict(ranges), "sweep": {"dir": str(folder / "study"), **settings}})


def command_of(spec: Any, pause: float = 0.002) -> Callable[[Any], list[str]]:
    """Return the command that stands for `quincunx train`, `pause` being the seconds of an update."""
    from quincunx.sweep.storage.store import trial_path

    def command(run: Any) -> list[str]:
        end = [] if run.target is None else [f"budget.stop_at={run.target}"]
        return [sys.executable, str(CHILD), str(trial_path(spec.dir, run)), *end, "--resume", "--pause", str(pause)]

    return command


def work(
    spec: Any,
    *,
    host: str | None = None,
    pause: float = 0.002,
    events: list[Any] | None = None,
    real: bool = False,
) -> Any:
    """Work on a sweep in this process, and return how it stands; with `real`, runs are trained in earnest."""
    from quincunx.sweep.running import worker
    from quincunx.sweep.storage.store import Store

    store = Store.open(spec, host=host)
    try:
        note = (lambda kind, run: events.append((kind, run.number))) if events is not None else None
        return worker.run(spec, store, command=None if real else command_of(spec, pause), on_event=note)
    finally:
        store.shut()


def start(
    spec: Any,
    *,
    host: str | None = None,
    pause: float = 0.002,
    die_at: int | None = None,
    own_group: bool = False,
    real: bool = False,
) -> BaseProcess:
    """Start a worker in a process of its own; with `die_at` it kills itself before that change to the outer world."""
    options = (spec, host, pause, die_at, own_group, real)
    process = multiprocessing.get_context("fork").Process(target=_work, args=options)
    process.start()
    return process


def end(process: BaseProcess, timeout: float = 240) -> int:
    """Wait for a worker and return its exit code (negative: the signal that killed it)."""
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        raise AssertionError("the worker did not end in time")
    return process.exitcode


def record_of(spec: Any) -> Any:
    """Return all that a sweep knows."""
    from quincunx.sweep.storage.store import Store

    store = Store.open(spec, begin=False)
    try:
        return store.read()
    finally:
        store.shut()


def table(record: Any) -> list[Any]:
    """Return what must be the same however a sweep was disturbed: everything but clocks, memory and attempts."""
    return [
        [
            *(run.number, run.trial, run.replicate, run.seed, run.folder, run.hash, run.state, run.update),
            *(run.value, tuple(run.values.items()), run.same_as, json.dumps(trial.settings), json.dumps(trial.point)),
        ]
        for trial in record.trials
        for run in trial.runs
    ]


def trained(spec: Any, run: Any) -> list[int]:
    """Return the updates that the processes of a run made, in the order in which they were made."""
    path = Path(spec.dir) / run.folder / "trained.jsonl"
    return [json.loads(line)[1] for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def optuna_states(spec: Any) -> list[str]:
    """Return the states of the trials in Optuna's own eyes."""
    import optuna

    storage = spec.settings.storage or f"sqlite:///{spec.dir}/sweep.db"
    study = optuna.load_study(study_name=None, storage=storage.replace("postgresql://", "postgresql+psycopg://"))
    return [trial.state.name for trial in study.get_trials(deepcopy=False)]


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def _work(spec: Any, host: str | None, pause: float, die_at: int | None, own_group: bool, real: bool) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if own_group:
        os.setpgid(0, 0)
    if die_at is not None:
        _die_at(die_at)
    os._exit(work(spec, host=host, pause=pause, real=real).exit_code)


def _die_at(number: int) -> None:
    """Kill this process before the given change to the outer world: a commit, a file put in its place, a process."""
    from sqlalchemy import Engine, event

    calls = 0

    def count(*arguments: Any, **named: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "commit", count)
    for owner, name in ((Path, "replace"), (subprocess.Popen, "__init__")):
        original = getattr(owner, name)

        def counting(*arguments: Any, original: Any = original, **named: Any) -> Any:
            count()
            found = original(*arguments, **named)
            count()
            return found

        setattr(owner, name, counting)
