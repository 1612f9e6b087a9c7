"""A run's own record: true at any moment, its clock going on when the run is resumed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quincunx.engine.events import Progress
from quincunx.engine.state import Best
from quincunx.errors import RunError
from quincunx.journal import Journal
from quincunx.metrics.record import Evaluation
from quincunx.runs import RunFolder, read_summary
from toys import plan


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr("quincunx.journal.time.monotonic", lambda: now.seconds)
    return now


def journal(folder: Path, update: int = 0) -> tuple[Journal, SimpleNamespace]:
    folder.mkdir(exist_ok=True)
    config = SimpleNamespace(recipe="toy", task="listops")
    state = SimpleNamespace(update=update, best=Best("dev/score", "max"))
    made: Any = Journal(RunFolder(folder), config, plan(stop_at=9), state)  # pyright: ignore[reportArgumentType]
    return made, state


def test_the_summary_is_true_at_any_moment(tmp_path, clock):
    made, state = journal(tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    made.start(plan(), 0, [])
    assert read_summary(folder)["state"] == "running"
    assert read_summary(folder)["best"] is None
    clock.seconds += 2.5
    state.update, state.best.value, state.best.update = 4, 0.5, 4
    made.evaluation(4, "dev", Evaluation({"score": 0.5}))
    assert read_summary(folder) == {
        "recipe": "toy",
        "task": "listops",
        "state": "running",
        "update": 4,
        "updates": 9,
        "best": {"metric": "dev/score", "value": 0.5, "update": 4},
        "reason": "",
        "seconds": 2.5,
    }
    written = json.loads((tmp_path / "run/evaluations/dev-00000004.json").read_text())
    assert (written["split"], written["update"], written["scalars"]) == ("dev", 4, {"score": 0.5})


def test_the_clock_goes_on_where_the_run_was_left(tmp_path, clock):
    first, state = journal(tmp_path / "run")
    first.start(plan(), 0, [])
    clock.seconds += 10
    state.update = 3
    first.end(3, "SIGTERM")
    summary = read_summary(RunFolder(tmp_path / "run"))
    assert (summary["state"], summary["seconds"]) == ("interrupted", 10)
    assert summary["reason"] == "saved and stopped by SIGTERM; --resume goes on"
    clock.seconds += 1000  # nobody was training
    second, state = journal(tmp_path / "run", 3)
    second.start(plan(), 3, [])
    clock.seconds += 5
    second.log(Progress(6, 9, 1.0, {}, {"seconds": 5.0}))
    second.end(9, "finished")
    summary = read_summary(RunFolder(tmp_path / "run"))
    assert (summary["state"], summary["seconds"], summary["reason"]) == ("finished", 15, "trained to the end")
    lines = [json.loads(line) for line in (tmp_path / "run/timings.jsonl").read_text().splitlines()]
    assert lines == [{"update": 6, "elapsed": 15, "seconds": 5.0}]


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (KeyboardInterrupt(), "interrupted", "stopped without saving"),
        (RunError("the disk"), "failed", "RunError: the disk"),
        (SystemExit(3), "failed", "SystemExit: 3"),
    ],
)
def test_how_a_run_broke_off(tmp_path, clock, error, state, reason):
    made, _ = journal(tmp_path / "run")
    made.start(plan(), 0, [])
    made.error(error)
    summary = read_summary(RunFolder(tmp_path / "run"))
    assert (summary["state"], summary["reason"]) == (state, reason)


@pytest.mark.parametrize("reason", ["finished", "stop_at", "patience"])
def test_ends_of_its_own(tmp_path, clock, reason):
    made, _ = journal(tmp_path / "run")
    made.start(plan(), 0, [])
    made.end(9, reason)
    assert read_summary(RunFolder(tmp_path / "run"))["state"] == "finished"
