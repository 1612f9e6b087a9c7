"""The record of a sweep: what each step writes, and how the next worker completes what was left half done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from quincunx.errors import RunError
from quincunx.sweep.storage.database import SWEEPS
from quincunx.sweep.storage.owners import is_alive, owner_of
from quincunx.sweep.storage.store import Store, trial_path
from quincunx.sweep.storage.table import Table
from studies import optuna_states, record_of, sweep_of, table, work

SPAN = {"optimizer.learning_rate": {"low": 1e-3, "high": 0.1, "log": True}}


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def opened() -> Iterator[Any]:
    """Return a function that opens the storage of a sweep."""
    stores: list[Store] = []

    def open_it(spec: Any, **named: Any) -> Store:
        stores.append(Store.open(spec, **named))
        return stores[-1]

    yield open_it
    for store in stores:
        store.shut()


def _done(store: Store, run: Any, value: float = 0.5, **changes: Any) -> None:
    claimed = store.claim(run, None)
    assert claimed is not None
    ended = {"state": "done", "update": 6, "value": value, "values": {6: value}, **changes}
    assert store.finish(replace(claimed, **ended))


def test_what_was_written_is_read_back(tmp_path: Path, opened: Any) -> None:
    store = opened(sweep_of(tmp_path))
    [run] = store.add_trial(store.read())
    assert store.read().runs == [run] and run.total == 6 and run.state == "waiting"
    claimed = store.claim(run, 3)
    assert claimed is not None and claimed.owner == store.owner and claimed.target == 3
    values = {1: float("nan"), 2: 0.1 + 0.2, 3: float("inf")}
    ended = replace(claimed, state="paused", update=3, value=float("nan"), values=values, memory=2**40, reason="ü\n'x")
    assert store.finish(ended)
    [found] = store.read().runs
    assert str(found) == str(replace(ended, owner=None))  # by text, since nan is not itself
    assert trial_path(store.spec.dir, run).read_text().startswith("# Run 0 of the sweep")


def test_a_trial_killed_before_its_runs_were_made_is_completed(
    tmp_path: Path, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = sweep_of(tmp_path, SPAN, sampler="tpe", trials=3, n_seeds=2)
    store = opened(spec)
    store.add_trial(store.read())

    def killed(*arguments: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Table, "insert", killed)
        store.add_trial(store.read())
    assert optuna_states(spec) == ["RUNNING", "RUNNING"] and len(store.read().trials) == 1
    other = opened(spec)
    record = other.mend(other.read())
    assert [run.trial for run in record.runs] == [0, 0, 1, 1] and [run.number for run in record.runs] == [0, 1, 2, 3]
    assert optuna_states(spec) == ["RUNNING", "RUNNING"]
    assert other.mend(record) == record


def test_a_trial_that_nobody_told_optuna_of_is_told(tmp_path: Path, opened: Any) -> None:
    spec = sweep_of(tmp_path)
    store = opened(spec)
    [run] = store.add_trial(store.read())
    _done(store, run)
    assert optuna_states(spec) == ["RUNNING"]
    other = opened(spec)
    other.mend(other.read())
    assert optuna_states(spec) == ["COMPLETE"]
    store.mend(store.read())  # who had not heard of it tells again, and nothing happens


def test_a_run_is_claimed_once(tmp_path: Path, opened: Any) -> None:
    spec = sweep_of(tmp_path)
    first, second = opened(spec, host="alpha"), opened(spec, host="beta")
    [run] = first.add_trial(first.read())
    assert first.claim(run, None) is not None
    assert second.claim(run, None) is None


def test_what_was_taken_over_is_no_longer_written_by_the_one_before(tmp_path: Path, opened: Any) -> None:
    spec = sweep_of(tmp_path)
    first, second = opened(spec, host="alpha"), opened(spec, host="beta")
    [run] = first.add_trial(first.read())
    mine = first.claim(run, None)
    taken = second.claim(second.read().runs[0], None)
    assert mine is not None and taken is not None and taken.host == "beta"
    assert not first.finish(replace(mine, state="done", value=0.9))
    assert first.beat([replace(mine, update=5)]) == {} and second.beat([replace(taken, update=2)]) == {0: "running"}
    assert first.read().runs[0].update == 2
    assert second.finish(replace(taken, state="done", value=0.1)) and first.read().runs[0].value == 0.1


def test_who_is_gone_is_known_at_once_on_the_same_machine(tmp_path: Path, opened: Any) -> None:
    spec = sweep_of(tmp_path)
    program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    store = opened(spec)
    store.beat()
    [run] = store.add_trial(store.read())
    claimed = store.claim(run, None)
    assert claimed is not None
    assert store.facts(store.read(), {0}).orphans == frozenset()
    assert store.facts(store.read()).orphans == {0}  # claimed by this very worker, which does not have it
    other = opened(spec)
    other.owner = other._table.owner = "somebody:1:2"
    assert other.facts(other.read()).orphans == frozenset()
    host, _, began = owner_of("me").rsplit(":", 2)
    assert is_alive(owner_of("me")) and not is_alive(f"{host}:{program.pid}:{began}x")
    program.kill()
    program.wait()
    assert not is_alive(f"me:{program.pid}:{began}")


def test_hours_count_only_while_somebody_is_at_work(tmp_path: Path, opened: Any) -> None:
    store = opened(sweep_of(tmp_path))
    store.beat()
    assert store.read().hours == 0
    for before, hours in ((30, 30 / 3600), (7200, 30 / 3600), (45, 75 / 3600)):
        with store._database.begin() as connection:
            connection.execute(SWEEPS.update().values(beat=SWEEPS.c.beat - before))
        store.beat()
        assert store.read().hours == pytest.approx(hours, abs=2 / 3600)


def test_hours_between_two_starts_do_not_count(tmp_path: Path, opened: Any) -> None:
    spec = sweep_of(tmp_path)
    store, other = opened(spec), opened(spec)
    other._table.owner += "0"  # of a process of its own

    def half_a_minute_goes_by() -> None:
        with store._database.begin() as connection:
            connection.execute(SWEEPS.update().values(beat=SWEEPS.c.beat - 30))

    store.beat()
    store.leave()
    half_a_minute_goes_by()
    store.beat()
    assert store.read().hours == pytest.approx(0, abs=2 / 3600)
    half_a_minute_goes_by()
    other.beat()  # one that comes while somebody is at work
    assert store.read().hours == pytest.approx(30 / 3600, abs=2 / 3600)


def test_numbers_that_folders_bear_already_are_passed_by(tmp_path: Path, opened: Any) -> None:
    spec = sweep_of(tmp_path)
    for name in ("study_0_lr1", "study_2", "study_31_x", "other_1_x"):
        (spec.dir / name).mkdir(parents=True)
    store = opened(spec)
    numbers = [run.number for _ in range(3) for run in store.add_trial(store.read())]
    assert numbers == [1, 3, 4]


def test_contradictory_draws_are_refused_with_their_reason(tmp_path: Path) -> None:
    ranges = {"evaluate.metric": [None, "dev/accuracy"], "evaluate.goal": [None, "max"], **SPAN}
    spec = sweep_of(tmp_path, ranges, sampler="random", trials=12)
    events: list[Any] = []
    outcome = work(spec, events=events)
    record = record_of(spec)
    bad = [
        trial
        for trial in record.trials
        if trial.settings["evaluate.metric"] is None and trial.settings["evaluate.goal"]
    ]
    assert 0 < len(bad) < 12
    assert all(trial.runs[0].state == "refused" and "names none" in trial.runs[0].reason for trial in bad)
    assert dict(outcome.runs) == {"done": 12 - len(bad), "refused": len(bad)} and outcome.exit_code == 0
    assert optuna_states(spec).count("FAIL") == len(bad)
    assert [number for kind, number in events if kind == "refused"] == [trial.runs[0].number for trial in bad]


def test_a_study_with_trials_of_others_is_refused(tmp_path: Path, opened: Any) -> None:
    store = opened(sweep_of(tmp_path))
    store.add_trial(store.read())
    store._storage.create_new_trial(store._sweep)
    with pytest.raises(RunError, match="trial 1 of the study was not made by this sweep"):
        store.mend(store.read())


def test_a_folder_may_be_moved(tmp_path: Path) -> None:
    work(sweep_of(tmp_path))
    before = table(record_of(sweep_of(tmp_path)))
    (tmp_path / "study").rename(tmp_path / "elsewhere")
    moved = sweep_of(tmp_path, dir=str(tmp_path / "elsewhere"))
    assert table(record_of(moved)) == before
    assert work(moved).exit_code == 0 and table(record_of(moved)) == before


def test_reading_makes_nothing(tmp_path: Path) -> None:
    spec = sweep_of(tmp_path)
    with pytest.raises(RunError, match=r"holds no sweep: there is no sweep\.db"):
        Store.open(spec, begin=False)
    assert not spec.dir.exists()


def test_adaptive_samplers_see_paused_and_diverged_trials(tmp_path: Path, opened: Any) -> None:
    spec = sweep_of(tmp_path, SPAN, sampler="tpe", trials=40)

    def next_rate(good: Any) -> float:
        store = opened(sweep_of(tmp_path / str(next_rate.calls), SPAN, sampler="tpe", trials=40))
        next_rate.calls += 1
        for _ in range(25):
            [run] = store.add_trial(store.read())
            rate = store.read().trials[-1].settings["optimizer.learning_rate"]
            good(store, run, rate)
        [_] = store.add_trial(store.read())
        return store.read().trials[-1].settings["optimizer.learning_rate"]

    next_rate.calls = 0

    def diverge(store: Store, run: Any, rate: float) -> None:
        _done(store, run, state="failed" if rate > 0.01 else "done", reason="NonFiniteError: x" if rate > 0.01 else "")

    def pause(store: Store, run: Any, rate: float) -> None:
        claimed = store.claim(run, 2)
        assert claimed is not None
        store.finish(replace(claimed, state="paused", update=2, value=rate, values={2: rate}))

    assert next_rate(diverge) < 0.01
    assert next_rate(pause) > 0.03
    assert spec.sampler == "tpe"


def test_a_run_of_another_machine_gets_its_file_anew(tmp_path: Path, opened: Any) -> None:
    spec = sweep_of(tmp_path, {"optimizer.learning_rate": [0.1, 0.01]})
    store = opened(spec)
    [run] = store.add_trial(store.read())
    text = trial_path(spec.dir, run).read_text()
    trial_path(spec.dir, run).unlink()
    assert store.config_file(run).read_text() == text
    trial_path(spec.dir, run).unlink()
    shrunk = opened(sweep_of(tmp_path, {"optimizer.learning_rate": [0.01]}))
    shrunk.read()
    with pytest.raises(RunError, match="no longer among the ranges"):
        shrunk.config_file(run)


def test_the_sweep_row_is_there_once(tmp_path: Path, opened: Any) -> None:
    stores = [opened(sweep_of(tmp_path, changes={"seed": None})) for _ in range(3)]
    assert len({store.seed for store in stores}) == 1
    with stores[0]._database.begin() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(SWEEPS)).scalar_one() == 1
