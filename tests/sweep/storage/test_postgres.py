"""Several machines' worth of workers on one real PostgreSQL server."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from quincunx.errors import RunError
from quincunx.sweep.storage.database import Unreachable, open_database
from quincunx.sweep.storage.store import Store
from studies import end, record_of, start, sweep_of, table, trained, wait_for, work

if TYPE_CHECKING:
    from sweep.conftest import Server

RATES = {"optimizer.learning_rate": [round(0.002 * step, 3) for step in range(1, 13)]}


def _on(server: Server, folder: Path, name: str, ranges: Any = RATES, **settings: Any) -> Any:
    return sweep_of(folder, ranges, storage=server.url, name=name, **settings)


def test_two_hosts_share_a_sweep_and_run_every_trial_once(postgres: Server, tmp_path: Path) -> None:
    spec = _on(postgres, tmp_path, "shared", workers=2)
    first = start(spec, host="alpha", pause=0.4, own_group=True)  # slow, so that the other finds something to do
    wait_for(lambda: len(list(spec.dir.glob("*/trained.jsonl"))) == 2)
    second = start(spec, host="beta", pause=0.02, own_group=True)
    assert [end(first), end(second)] == [0, 0]
    record = record_of(spec)
    assert [run.number for run in record.runs] == list(range(12)) and all(run.state == "done" for run in record.runs)
    assert all(trained(spec, run) == [1, 2, 3, 4, 5, 6] for run in record.runs)
    assert {run.host for run in record.runs} == {"alpha", "beta"}
    alone = sweep_of(tmp_path / "alone", RATES)
    work(alone)
    assert table(record) == table(record_of(alone))


def test_two_hosts_with_folders_of_their_own(postgres: Server, tmp_path: Path) -> None:
    here, there = (_on(postgres, tmp_path / host, "apart", workers=2) for host in ("alpha", "beta"))
    workers = [start(here, host="alpha", pause=0.02), start(there, host="beta", pause=0.02)]
    assert [end(worker) for worker in workers] == [0, 0]
    record = record_of(here)
    folders = Counter(path.parent.name for spec in (here, there) for path in spec.dir.glob("*/trained.jsonl"))
    assert folders == Counter(run.folder for run in record.runs) and len(folders) == 12
    for run in record.runs:
        assert ((here if run.host == "alpha" else there).dir / run.folder).is_dir()


def test_a_host_that_is_gone_loses_its_runs_after_the_lease(postgres: Server, tmp_path: Path) -> None:
    here, there = (_on(postgres, tmp_path / host, "gone", lease=600) for host in ("alpha", "beta"))
    process = start(here, host="alpha", pause=0.05)
    wait_for(lambda: len(list(here.dir.glob("*_0_*/trained.jsonl"))) == 1)
    process.kill()
    process.join()
    store = Store.open(there, host="beta")
    record = store.read()
    assert store.facts(record).orphans == frozenset()  # it may be busy
    engine = sa.create_engine(postgres.url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sa.text("update quincunx_workers set beat = beat - 601"))
    engine.dispose()
    assert store.facts(record).orphans == {0} and not store.reaches(record.runs[0])
    store.shut()
    assert work(there, host="beta").exit_code == 0
    runs = record_of(there).runs
    assert {run.host for run in runs} == {"beta"} and all(run.state == "done" for run in runs)
    assert trained(there, runs[0]) == [1, 2, 3, 4, 5, 6]  # from the beginning: alpha's folder is out of reach


def test_a_paused_trial_goes_on_where_its_folder_is(postgres: Server, tmp_path: Path) -> None:
    settings = {"pruner": "asha", "pruning": {"first": 2, "factor": 2}, "workers": 2}
    here, there = (_on(postgres, tmp_path / host, "rungs", **settings) for host in ("alpha", "beta"))
    workers = [start(here, host="alpha", pause=0.02), start(there, host="beta", pause=0.02)]
    assert [end(worker) for worker in workers] == [0, 0]
    record = record_of(here)
    assert any(run.state == "done" for run in record.runs)
    for run in record.runs:
        assert trained(here if run.host == "alpha" else there, run) == list(range(1, run.update + 1))


def test_killed_at_random(postgres: Server, tmp_path: Path) -> None:
    spec = _on(postgres, tmp_path, "killed", workers=2)
    hosts = ("alpha", "beta")
    workers = [start(spec, host=host, pause=0.02) for host in hosts]
    for hit, pause in ((0, 0.6), (1, 0.3), (0, 0.5)):
        time.sleep(pause)
        workers[hit].kill()
        workers[hit].join()
        workers[hit] = start(spec, host=hosts[hit], pause=0.02)
    assert [end(worker) for worker in workers] == [0, 0]
    record = record_of(spec)
    assert len(record.runs) == 12 and all(run.state == "done" for run in record.runs)
    assert all(trained(spec, run) == [1, 2, 3, 4, 5, 6] for run in record.runs)


def test_a_server_that_is_away_for_a_moment_costs_nothing(postgres: Server, tmp_path: Path) -> None:
    spec = _on(postgres, tmp_path, "moment", workers=2)
    process = start(spec, pause=0.05)
    wait_for(lambda: len(list(spec.dir.glob("*/trained.jsonl"))) >= 3)
    postgres.stop()
    time.sleep(1)
    postgres.start()
    assert end(process) == 0
    record = record_of(spec)
    assert len(record.runs) == 12 and all(run.state == "done" and run.attempts == 0 for run in record.runs)
    assert all(trained(spec, run) == [1, 2, 3, 4, 5, 6] for run in record.runs)


def test_several_sweeps_in_one_database(postgres: Server, tmp_path: Path) -> None:
    first = _on(postgres, tmp_path / "a", "first", {"optimizer.learning_rate": [0.1]}, n_seeds=2)
    second = _on(postgres, tmp_path / "b", "second", {"optimizer.learning_rate": [0.2, 0.3]})
    work(first)
    work(second)
    assert [run.number for run in record_of(first).runs] == [run.number for run in record_of(second).runs] == [0, 1]
    with pytest.raises(RunError, match="no sweep of the name third"):
        record_of(_on(postgres, tmp_path / "c", "third"))


def test_snapshots_reach_other_machines(postgres: Server, tmp_path: Path) -> None:
    here = Store.open(_on(postgres, tmp_path / "a", "snapshot"), host="alpha")
    assert here.snapshot is None
    here.keep({"ranges": [1, 2.5, None, "x"]})
    there = Store.open(_on(postgres, tmp_path / "b", "snapshot"), host="beta")
    assert there.snapshot == {"ranges": [1, 2.5, None, "x"]}
    here.shut()
    there.shut()


def test_a_seed_that_was_drawn_is_the_same_for_all(postgres: Server, tmp_path: Path) -> None:
    stores = [
        Store.open(
            _on(postgres, tmp_path / host, "seed", {"update.batch_size": [8]}, changes={"seed": None}), host=host
        )
        for host in ("alpha", "beta")
    ]
    assert stores[0].spec.seed is None and stores[0].seed == stores[1].seed
    for store in stores:
        store.shut()


def test_a_killed_holder_frees_the_lock(postgres: Server, tmp_path: Path) -> None:
    database = open_database(postgres.url, tmp_path, "locked")
    holder, other = os.pipe()
    pid = os.fork()
    if pid == 0:
        with open_database(postgres.url, tmp_path, "locked").lock():
            os.write(other, b"x")
            time.sleep(60)
        os._exit(0)
    assert os.read(holder, 1) == b"x"
    with database.begin() as connection:
        taken = connection.execute(sa.text("select count(*) from pg_locks where locktype = 'advisory'")).scalar_one()
    assert taken == 1
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with database.lock():
        pass
    database.close()


@pytest.mark.parametrize(
    "url", ["postgresql://me:hunter2@127.0.0.1:9/nowhere", "postgresql://me@127.0.0.1:9/nowhere?password=hunter2"]
)
def test_passwords_are_never_told(tmp_path: Path, url: str) -> None:
    database = open_database(url, tmp_path, "x")
    with pytest.raises(Unreachable) as caught, database.lock():
        pass
    assert "hunter2" not in str(caught.value) and "@127.0.0.1:9/nowhere" in str(caught.value)
    assert "hunter2" not in database.shown
