"""A worker and real processes: what it runs, retries and stops, and what a kill -9 leaves behind."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from quincunx.sweep.running import worker
from quincunx.sweep.storage.store import Store
from studies import command_of, end, optuna_states, record_of, start, sweep_of, table, trained, wait_for, work

RATE_LIST = [0.1, 0.03, 0.01, 0.003, 0.001, 0.02]
SPAN = {"optimizer.learning_rate": {"low": 1e-3, "high": 0.1, "log": True}}


def test_runs_every_configuration_and_tells_optuna(tmp_path: Path) -> None:
    spec = sweep_of(tmp_path, workers=3)
    outcome = work(spec)
    assert (outcome.exit_code, outcome.stopped, dict(outcome.runs)) == (0, False, {"done": 6})
    record = record_of(spec)
    assert [trial.settings["optimizer.learning_rate"] for trial in record.trials] == [
        0.1,
        0.03,
        0.01,
        0.003,
        0.001,
        0.02,
    ]
    best = max(record.trials, key=lambda trial: trial.value or 0)
    assert best.number == 2 and best.value == pytest.approx(1 * (1 - 0.5**6) - 4e-4)
    run = best.runs[0]
    assert run.folder == "study_2_optimizer.learning_rate0.01" and run.update == run.total == 6
    assert list(run.values) == [1, 2, 3, 4, 5, 6] and run.memory and run.seconds > 0 and run.owner is None
    assert all(trained(spec, run) == [1, 2, 3, 4, 5, 6] for run in record.runs)
    assert optuna_states(spec) == ["COMPLETE"] * 6


def test_a_finished_sweep_is_left_alone(tmp_path: Path) -> None:
    spec = sweep_of(tmp_path)
    work(spec)
    before, events = table(record_of(spec)), []
    assert work(spec, events=events).exit_code == 0
    assert table(record_of(spec)) == before and events == []


def test_a_grid_that_grew_gets_only_what_is_new(tmp_path: Path) -> None:
    work(sweep_of(tmp_path, {"optimizer.learning_rate": [0.1, 0.01]}))
    events: list[Any] = []
    spec = sweep_of(tmp_path, {"optimizer.learning_rate": [0.05, 0.1, 0.01]})
    work(spec, events=events)
    record = record_of(spec)
    assert [trial.settings["optimizer.learning_rate"] for trial in record.trials] == [0.1, 0.01, 0.05]
    assert events == [("started", 2), ("done", 2)]


def test_replicates_have_seeds_that_count_up_and_are_told_as_their_mean(tmp_path: Path) -> None:
    spec = sweep_of(tmp_path, {"optimizer.learning_rate": [0.1, 0.01]}, n_seeds=3, workers=2)
    work(spec)
    record = record_of(spec)
    assert [run.seed for run in record.runs] == [11, 12, 13] * 2 and [run.number for run in record.runs] == list(
        range(6)
    )
    assert record.trials[1].value == pytest.approx(1 - 0.5**6 - (4 + 5 + 6) / 3 * 1e-4)
    assert len({run.hash for run in record.runs}) == 6


def test_a_configuration_that_was_there_is_not_run_again(tmp_path: Path) -> None:
    ranges = {"optimizer.learning_rate": [0.1, 0.01], "log.every": [1, 2]}  # how it is logged makes no other run
    spec = sweep_of(tmp_path, ranges, {"optimizer.learning_rate": 0.5})
    spec = type(spec)(**{**vars(spec), "ranged": ("optimizer.learning_rate",)})
    events: list[Any] = []
    work(spec, events=events)
    record = record_of(spec)
    assert [run.same_as for run in record.runs] == [None, 0, None, 2]
    assert [run.value for run in record.runs][1::2] == [run.value for run in record.runs][::2]
    assert [number for kind, number in events if kind == "started"] == [0, 2]
    assert [number for kind, number in events if kind == "repeats"] == [1, 3]
    assert not (spec.dir / record.runs[1].folder).exists()


def test_random_draws_from_few_values_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quincunx.sweep.running.scheduling.IN_VAIN", 10)
    spec = sweep_of(tmp_path, {"optimizer.learning_rate": [0.1, 0.01]}, sampler="random", hours=1)
    outcome = work(spec)
    assert "nothing new" in outcome.reason
    assert sum(run.same_as is None for run in record_of(spec).runs) == 2


def test_a_run_that_fails_is_tried_again_from_where_it_was(tmp_path: Path) -> None:
    spec = sweep_of(tmp_path, {"optimizer.learning_rate": [0.1, 0.01]}, {"run.note": "fail 1"})
    events: list[Any] = []
    assert work(spec, events=events).exit_code == 0
    assert [kind for kind, number in events if number == 0] == ["started", "retried", "started", "done"]
    assert all(trained(spec, run) == [1, 2, 3, 4, 5, 6] for run in record_of(spec).runs)


@pytest.mark.parametrize(("note", "words"), [("fail 9", "DataError: row 7"), ("kill 9", "SIGKILL")])
def test_a_run_that_fails_for_good_stops_no_other(tmp_path: Path, note: str, words: str) -> None:
    spec = sweep_of(tmp_path, {"optimizer.learning_rate": [0.1, 0.01]}, {"run.note": note})
    outcome = work(spec)
    assert outcome.exit_code == 1 and dict(outcome.runs) == {"failed": 2}
    runs = record_of(spec).runs
    assert all(words in run.reason and run.attempts == 2 and run.update == 2 for run in runs)
    assert optuna_states(spec) == ["FAIL", "FAIL"]


def test_raised_retries_try_what_had_failed(tmp_path: Path) -> None:
    ranges, changes = {"optimizer.learning_rate": [0.1]}, {"run.note": "fail 3"}
    assert work(sweep_of(tmp_path, ranges, changes, retries=1)).exit_code == 1
    spec = sweep_of(tmp_path, ranges, changes, retries=3)
    assert work(spec).exit_code == 0
    assert trained(spec, record_of(spec).runs[0]) == [1, 2, 3, 4, 5, 6]


def test_training_that_diverged_is_not_tried_again(tmp_path: Path) -> None:
    spec = sweep_of(tmp_path, {"optimizer.learning_rate": [0.1, 0.01]}, {"run.note": "diverge"})
    events: list[Any] = []
    assert work(spec, events=events).exit_code == 1
    assert events == [("started", 0), ("failed", 0), ("started", 1), ("done", 1)]
    assert record_of(spec).runs[0].reason.startswith("NonFiniteError")


def test_fail_fast_begins_nothing_further(tmp_path: Path) -> None:
    spec = sweep_of(tmp_path, changes={"run.note": "diverge"}, fail_fast=True)
    outcome = work(spec)
    assert outcome.exit_code == 1 and "fail_fast" in outcome.reason
    assert [run.state for run in record_of(spec).runs] == ["failed"]


def test_no_run_begins_after_the_updates_are_spent(tmp_path: Path) -> None:
    spec = sweep_of(tmp_path, SPAN, sampler="random", updates=20, workers=2)
    outcome = work(spec)
    assert "sweep.updates" in outcome.reason and [run.update for run in record_of(spec).runs] == [6, 6, 6, 6]


def test_asha_goes_on_from_checkpoints_and_trains_the_best_to_the_end(tmp_path: Path) -> None:
    pruning = {"first": 1, "factor": 2}
    spec = sweep_of(tmp_path, pruner="asha", pruning=pruning, workers=2)
    assert work(spec).exit_code == 0
    record = record_of(spec)
    # rungs at 1, 2 and 4 of 6 updates: of six trials three go on, then one, which then trains to the end
    assert sorted(run.update for run in record.runs)[-1] == 6
    assert [run.number for run in record.runs if run.state == "done"] == [2]
    assert {run.state for run in record.runs} == {"done", "pruned"}
    assert all(trained(spec, run) == list(range(1, run.update + 1)) for run in record.runs)
    assert sum(run.update for run in record.runs) < 0.6 * 36
    assert sorted(set(optuna_states(spec))) == ["COMPLETE", "PRUNED"]


def test_asha_goes_on_where_more_trials_come(tmp_path: Path) -> None:
    settings = {"pruner": "asha", "pruning": {"first": 1, "factor": 2}}
    work(sweep_of(tmp_path, {"optimizer.learning_rate": [0.1, 0.03]}, **settings))
    spec = sweep_of(tmp_path, {"optimizer.learning_rate": [0.1, 0.03, 0.01, 0.001]}, **settings)
    work(spec)
    runs = record_of(spec).runs
    assert runs[2].state == "done" and runs[1].state == "done"
    assert all(trained(spec, run) == list(range(1, run.update + 1)) for run in runs)


def test_median_stops_a_run_by_its_stop_file(tmp_path: Path) -> None:
    rates = {"optimizer.learning_rate": [0.01, 0.012, 0.1]}
    spec = sweep_of(
        tmp_path, rates, {"budget": {"updates": 30}}, pruner="median", pruning={"startup": 2, "after": 2}, workers=1
    )
    events: list[Any] = []
    outcome = work(spec, pause=0.05, events=events)
    last = record_of(spec).runs[2]
    assert outcome.exit_code == 0 and last.state == "pruned" and ("pruned", 2) in events
    assert 2 <= last.update < 30 and "worse than the median" in last.reason
    assert optuna_states(spec)[2] == "PRUNED"


def test_sigterm_has_runs_save_and_stop_and_the_next_start_goes_on(tmp_path: Path) -> None:
    spec = sweep_of(tmp_path, workers=2)
    process = start(spec, pause=0.1)
    wait_for(lambda: len(list(spec.dir.glob("*/trained.jsonl"))) == 2)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    assert end(process) == 1
    runs = record_of(spec).runs
    assert [run.state for run in runs] == ["waiting"] * 2 and all(run.owner is None and run.update < 6 for run in runs)
    assert work(spec).exit_code == 0
    assert all(trained(spec, run) == [1, 2, 3, 4, 5, 6] for run in record_of(spec).runs)
    assert [run.attempts for run in record_of(spec).runs] == [0] * 6


def test_a_second_signal_kills(tmp_path: Path) -> None:
    spec = sweep_of(tmp_path)
    process = start(spec, pause=30)
    wait_for(lambda: len(list(spec.dir.glob("*/summary.json"))) == 1)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    assert end(process, 10) == 1
    assert record_of(spec).runs[0].state == "waiting"


def test_a_run_that_outlives_its_worker_is_waited_for(tmp_path: Path) -> None:
    spec = sweep_of(tmp_path, {"optimizer.learning_rate": [0.1, 0.01]})
    process = start(spec, pause=0.15)
    wait_for(lambda: len(list(spec.dir.glob("*/trained.jsonl"))) == 1)
    process.kill()
    end(process)
    events: list[Any] = []
    assert work(spec, events=events).exit_code == 0
    assert events == [("taken over", 0), ("done", 0), ("started", 1), ("done", 1)]
    assert all(trained(spec, run) == [1, 2, 3, 4, 5, 6] for run in record_of(spec).runs)


def test_a_run_that_was_trained_without_its_worker_is_taken_over_once(tmp_path: Path) -> None:
    spec = sweep_of(tmp_path, {"optimizer.learning_rate": [0.1]})
    process = start(spec, pause=0.05)
    wait_for(lambda: len(list(spec.dir.glob("*/trained.jsonl"))) == 1)
    process.kill()
    end(process)
    summary = next(spec.dir.glob("*/trained.jsonl")).with_name("summary.json")
    wait_for(lambda: summary.is_file() and json.loads(summary.read_text())["state"] == "finished")
    time.sleep(0.2)  # its process has left, and its lock with it
    events: list[Any] = []
    assert work(spec, events=events).exit_code == 0
    assert events == [("taken over", 0), ("done", 0)]


def test_whoever_cannot_be_told_anything_leaves_runs_that_can_be_gone_on_with(tmp_path: Path) -> None:
    spec = sweep_of(tmp_path, workers=2)
    store = Store.open(spec)
    told: list[str] = []

    def closed(kind: str, run: Any) -> None:
        told.append(kind)
        if len(told) > 1:
            raise BrokenPipeError

    try:
        with pytest.raises(BrokenPipeError):
            worker.run(spec, store, command=command_of(spec, 0.05), on_event=closed)
        assert {run.state for run in store.read().runs} == {"waiting"}
    finally:
        store.shut()
    assert work(spec).exit_code == 0
    assert all(trained(spec, run) == [1, 2, 3, 4, 5, 6] for run in record_of(spec).runs)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the table of a sweep that nobody disturbed, by its settings."""
    found: dict[str, Any] = {}

    def table_of(ranges: dict[str, Any], **settings: Any) -> Any:
        key = json.dumps([ranges, settings])
        if key not in found:
            spec = sweep_of(tmp_path_factory.mktemp("undisturbed"), ranges, **settings)
            assert work(spec).exit_code == 0
            found[key] = table(record_of(spec))
        return found[key]

    return table_of


POINTS = 40
"""At least so many changes to the outer world are made in the sweep below; the test says how many it found."""


@pytest.mark.parametrize("first", [12, 24, 36])
def test_killed_before_some_changes(tmp_path: Path, undisturbed: Any, first: int) -> None:
    assert _killed_before(tmp_path, undisturbed, first)


@pytest.mark.slow
def test_killed_before_each_change(tmp_path: Path, undisturbed: Any) -> None:
    number = 1
    while _killed_before(tmp_path / str(number), undisturbed, number):
        number += 1
    assert number > POINTS


def _killed_before(folder: Path, undisturbed: Any, number: int) -> bool:
    """Kill a worker before one change to the outer world, go on, compare; False where it made fewer changes."""
    ranges, settings = {"optimizer.learning_rate": [0.1, 0.01]}, {"n_seeds": 2}
    spec = sweep_of(folder, ranges, **settings)
    killed = end(start(spec, die_at=number)) == -signal.SIGKILL
    assert end(start(spec)) == 0
    record = record_of(spec)
    assert table(record) == undisturbed(ranges, **settings)
    # only the worker was killed: so no update was lost, and none was made twice
    assert all(trained(spec, run) == [1, 2, 3, 4, 5, 6] for run in record.runs)
    assert optuna_states(spec) == ["COMPLETE"] * 2
    assert [run.attempts for run in record.runs] == [0] * 4
    return killed


@pytest.mark.parametrize(
    "settings",
    [
        {"sampler": "grid"},
        {"sampler": "random", "trials": 10},
        pytest.param({"sampler": "qmc", "trials": 10}, marks=pytest.mark.slow),
        {"sampler": "tpe", "trials": 10},
    ],
    ids=lambda settings: settings["sampler"],
)
def test_killed_at_random(tmp_path: Path, undisturbed: Any, settings: dict[str, Any]) -> None:
    rates = [0.001 * step for step in range(1, 11)]
    ranges: dict[str, Any] = {"optimizer.learning_rate": rates} if settings["sampler"] == "grid" else SPAN
    spec = sweep_of(tmp_path, ranges, workers=2, **settings)
    chance = random.Random(settings["sampler"])
    workers = [start(spec, pause=0.02) for _ in range(2)]
    for _ in range(3):
        time.sleep(chance.uniform(0.2, 0.8))
        hit = chance.randrange(2)
        workers[hit].kill()
        workers[hit].join()
        workers[hit] = start(spec, pause=0.02)
    assert [end(worker) for worker in workers] == [0, 0]
    record = record_of(spec)
    assert len(record.trials) == 10 and all(run.state == "done" for run in record.runs)
    assert all(trained(spec, run) == [1, 2, 3, 4, 5, 6] for run in record.runs)
    assert optuna_states(spec) == ["COMPLETE"] * 10
    if settings["sampler"] != "tpe":
        assert table(record) == undisturbed(ranges, workers=2, **settings)


def test_eight_workers_begun_at_once_share_one_sweep(tmp_path: Path, undisturbed: Any) -> None:
    ranges = {"optimizer.learning_rate": [0.001 * step for step in range(1, 25)]}
    spec = sweep_of(tmp_path, ranges)
    workers = [start(spec) for _ in range(8)]
    assert [end(worker) for worker in workers] == [0] * 8
    record = record_of(spec)
    assert [run.number for run in record.runs] == list(range(24))
    assert sorted(path.name for path in spec.dir.glob("study_*")) == sorted(run.folder for run in record.runs)
    assert all(trained(spec, run) == [1, 2, 3, 4, 5, 6] for run in record.runs)
    assert table(record) == undisturbed(ranges)


def test_a_worker_and_its_runs_killed_together(tmp_path: Path, undisturbed: Any) -> None:
    ranges = {"optimizer.learning_rate": [0.1, 0.01, 0.003]}
    spec = sweep_of(tmp_path, ranges)
    process = start(spec, pause=0.05)
    wait_for(lambda: len(list(spec.dir.glob("*_1_*/trained.jsonl"))) == 1)
    process.kill()
    process.join()
    run = record_of(spec).runs[1]
    pid = json.loads((spec.dir / run.folder / "trained.jsonl").read_text().splitlines()[0])[0]
    os.kill(pid, signal.SIGKILL)
    assert work(spec).exit_code == 0
    assert table(record_of(spec)) == undisturbed(ranges)


@pytest.mark.slow
def test_real_training_killed_and_gone_on_with_ends_as_if_undisturbed(
    tmp_path: Path, data_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUINCUNX_CACHE", str(data_cache))
    ranges = {"optimizer.learning_rate": [0.01, 0.03, 0.0001]}
    settings = {"pruner": "asha", "pruning": {"first": 4, "factor": 3}, "workers": 2}
    changes = {"budget": {"updates": 24}, "evaluate.every": 4, "data.train": 400}
    spec = sweep_of(tmp_path, ranges, changes, **settings)
    process = start(spec, real=True)
    wait_for(lambda: len(list(spec.dir.glob("*/checkpoints/update-*"))) >= 1, 120)
    process.kill()
    process.join()
    process = start(spec, real=True)
    wait_for(lambda: [run.state for run in record_of(spec).runs][2:] == ["running"], 120)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    assert end(process, 120) == 1
    assert end(start(spec, real=True), 300) == 0
    record = record_of(spec)
    assert sorted(run.state for run in record.runs) == ["done", "pruned", "pruned"]
    assert sorted(run.update for run in record.runs) == [4, 4, 24]
    best = next(run for run in record.runs if run.state == "done")
    assert list(best.values) == [4, 8, 12, 16, 20, 24] and best.memory and best.memory > 2**27
    # the file of the run trains the same run by itself
    from quincunx import train

    text = Path(spec.dir, "trials", f"{best.number}.yaml").read_text(encoding="utf-8")
    alone = tmp_path / "alone.yaml"
    alone.write_text(text.replace(str(spec.dir / best.folder), str(tmp_path / "alone")), encoding="utf-8")
    train(alone)
    ours, theirs = ((folder / "metrics.jsonl").read_bytes() for folder in (spec.dir / best.folder, tmp_path / "alone"))
    assert ours == theirs
