"""The database of a sweep on SQLite: its lock, its errors, paths of every kind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from quincunx.errors import RunError, UsageError
from quincunx.sweep.storage.database import SCHEMA, open_database


@pytest.mark.parametrize("name", ["plain", "what? 100%", "a{b}c", "ü #1", "x&mode=ro"])
def test_any_folder_can_hold_one(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    database = open_database(None, folder, "x")
    database.optuna(True)
    database.make_tables()
    assert (folder / "sweep.db").stat().st_size > 0
    with database.begin() as connection:
        # seconds since 1970 in UTC: a time zone, or another unit, would be half an hour off at least
        assert abs(connection.execute(sa.select(database.now)).scalar_one() - time.time()) < 900


def test_nothing_is_made_by_opening(tmp_path: Path) -> None:
    open_database(None, tmp_path, "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("mysql://me:hunter2@host/base", "of kind mysql"),
        ("sqlite:///x.db", "leave it out"),
        ("not an url", "is not an URL"),
        ("//me:hunter2@host", "is not an URL"),
    ],
)
def test_other_storages_are_refused(tmp_path: Path, storage: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        open_database(storage, tmp_path, "x")
    assert "hunter2" not in str(caught.value)


def test_tables_of_a_later_version_are_refused(tmp_path: Path) -> None:
    database = open_database(None, tmp_path, "x")
    database.make_tables()
    with database.begin() as connection:
        connection.execute(SCHEMA.update().values(version=99))
    with pytest.raises(RunError, match="tables of version 99"):
        database.make_tables()


def test_errors_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "sweep.db").write_bytes(b"this is no database" * 100)
    database = open_database(None, tmp_path, "x")
    with pytest.raises(RunError, match=r"sweep\.db cannot be used: file is not a database"):
        database.make_tables()
    with pytest.raises(RunError, match="cannot be opened"):
        open_database(None, tmp_path / "nowhere", "x").lock().__enter__()


def test_a_transaction_is_whole_or_not_at_all(tmp_path: Path) -> None:
    database = open_database(None, tmp_path, "x")
    database.make_tables()
    with pytest.raises(ZeroDivisionError), database.begin() as connection:
        connection.execute(SCHEMA.update().values(version=0))
        raise ZeroDivisionError
    with database.begin() as connection:
        assert connection.execute(sa.select(SCHEMA.c.version)).scalar_one() == 1


def test_the_lock_keeps_others_out_and_ends_with_its_holder(tmp_path: Path) -> None:
    entered, enter = os.pipe()
    pid = os.fork()
    if pid == 0:
        with open_database(None, tmp_path, "x").lock():
            os.write(enter, b"x")
            time.sleep(60)
        os._exit(0)
    assert os.read(entered, 1) == b"x"
    reached = os.fork()
    if reached == 0:
        with open_database(None, tmp_path, "x").lock():
            os.write(enter, b"y")
        os._exit(0)
    os.set_blocking(entered, False)
    time.sleep(0.2)
    with pytest.raises(BlockingIOError):
        os.read(entered, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(reached, 0)
    os.waitpid(pid, 0)
    assert os.read(entered, 1) == b"y"
