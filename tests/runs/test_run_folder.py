"""Claiming, reopening and locking run folders, with real second processes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from quincunx.errors import RunError
from quincunx.runs import RunFolder, claim, reopen

HOLD = """
import os, sys
from pathlib import Path
from quincunx.runs import RunFolder
folder = RunFolder(Path(sys.argv[1])).lock()
if "fork" in sys.argv and os.fork() == 0:
    print(os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(0)
if "fork" not in sys.argv:
    print(os.getpid(), flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(path: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a process that holds a folder's lock; yield it and the id that it printed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


class TestClaim:
    def test_numbers_go_up_from_the_highest(self, tmp_path: Path) -> None:
        (tmp_path / "toy-7").mkdir()
        (tmp_path / "toy-9x").mkdir()
        (tmp_path / "toy.5-30").mkdir()
        assert claim(None, "toy", tmp_path).path == tmp_path / "toy-8"
        assert claim(None, "toy", tmp_path).path == tmp_path / "toy-9"
        assert claim(None, "new", tmp_path / "a" / "b").path == tmp_path / "a" / "b" / "new-1"

    def test_default_place_is_below_the_working_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert claim(None, "toy").path == Path("runs/toy-1")
        assert (tmp_path / "runs" / "toy-1").is_dir()

    def test_processes_at_once_get_different_numbers(self, tmp_path: Path) -> None:
        program = """
import sys
from pathlib import Path
from quincunx.runs import claim
sys.stdin.read(1)
for _ in range(40):
    print(claim(None, "toy", Path(sys.argv[1])).path.name)
"""
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        claimed = [name for process in processes for name in process.communicate("x", timeout=60)[0].split()]
        assert sorted(claimed) == sorted(f"toy-{number}" for number in range(1, 81))

    def test_a_given_folder_is_made_with_its_parents(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b"
        assert claim(str(path), "ignored").path == path
        assert path.is_dir()
        assert claim(str(path), "ignored").path == path, "an empty folder is as good as none"

    def test_home_is_understood(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        assert claim("~/x", "toy").path == tmp_path / "x"

    def test_a_run_is_never_overwritten(self, tmp_path: Path) -> None:
        folder = claim(str(tmp_path / "x"), "toy")
        folder.write_text("config.yaml", "recipe: long_range\n")
        with pytest.raises(RunError, match=r"x holds a run already.*--resume.*another run\.dir"):
            claim(str(tmp_path / "x"), "toy")

    def test_foreign_files_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").touch()
        with pytest.raises(RunError, match=r"other files \(thesis\.tex\).*another run\.dir"):
            claim(str(tmp_path), "toy")

    def test_a_run_that_died_before_its_config_leaves_nothing_in_the_way(self, tmp_path: Path) -> None:
        with claim(str(tmp_path), "toy"):
            pass
        (tmp_path / ".config.yaml.123.writing").touch()
        assert claim(str(tmp_path), "toy").path == tmp_path

    @pytest.mark.parametrize("directory", ["file", "file/x"])
    def test_a_file_in_the_way_is_named(self, tmp_path: Path, directory: str) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(RunError, match="file"):
            claim(str(tmp_path / directory), "toy")

    def test_a_name_that_no_folder_can_have_is_an_error_of_ours(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="cannot be made"):
            claim(None, "x" * 300, tmp_path)


class TestAbandon:
    def test_a_folder_without_a_config_goes_and_one_with_anything_stays(self, tmp_path: Path) -> None:
        with claim(str(tmp_path / "x"), "toy") as folder:
            folder.abandon()
        assert not folder.path.exists()
        folder.abandon()
        with claim(str(tmp_path / "x"), "toy") as folder:
            folder.write_text("config.yaml", "")
            folder.abandon()
        assert folder.config.is_file()

    def test_a_lock_that_was_given_up_meanwhile_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # Between opening the lock file and locking it, the process that had claimed the folder gives it up.
        folder = claim(str(tmp_path / "x"), "toy")
        real = fcntl.flock

        def slow(descriptor: int, operation: int) -> None:
            monkeypatch.setattr(fcntl, "flock", real)
            folder.abandon()
            real(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", slow)
        with pytest.raises(RunError, match="given up by another process"):
            RunFolder(folder.path).lock()


class TestReopen:
    def test_needs_a_run(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="does not exist"):
            reopen(tmp_path / "nothing")
        with pytest.raises(RunError, match=r"no config\.yaml"):
            reopen(tmp_path)
        (tmp_path / "config.yaml").touch()
        with pytest.raises(RunError, match="is a file"):
            reopen(tmp_path / "config.yaml")
        assert reopen(tmp_path).config == tmp_path / "config.yaml"


class TestLock:
    def test_a_second_process_is_refused_and_told_who(self, tmp_path: Path) -> None:
        with holding(tmp_path) as (process, pid):
            assert pid == process.pid
            with pytest.raises(RunError, match=rf"in use by process {pid} on \S+ since 20\d\d-"):
                RunFolder(tmp_path).lock()
            holder = RunFolder(tmp_path).holder()
            assert holder is not None
            assert (holder.pid, holder.is_this_process) == (pid, False)

    def test_kill_releases_at_once(self, tmp_path: Path) -> None:
        with holding(tmp_path) as (process, _):
            process.send_signal(signal.SIGKILL)
            process.wait()
            with RunFolder(tmp_path).lock():
                pass

    def test_a_worker_that_outlives_its_parent_holds_no_lock(self, tmp_path: Path) -> None:
        with holding(tmp_path, "fork") as (process, worker):
            with pytest.raises(RunError, match=f"process {process.pid} "):
                RunFolder(tmp_path).lock()
            process.send_signal(signal.SIGKILL)
            process.wait()
            os.kill(worker, 0)  # still alive
            with RunFolder(tmp_path):
                pass

    def test_a_child_that_ends_leaves_the_lock_to_its_parent(self, tmp_path: Path) -> None:
        with RunFolder(tmp_path) as folder:
            child = os.fork()
            if child == 0:
                folder.release()
                os._exit(0)
            os.waitpid(child, 0)
            with pytest.raises(RunError, match="in use"):
                RunFolder(tmp_path).lock()

    def test_one_process_cannot_take_it_twice(self, tmp_path: Path) -> None:
        with RunFolder(tmp_path) as folder:
            with pytest.raises(RunError, match=f"in use by process {os.getpid()} "):
                RunFolder(tmp_path).lock()
            holder = folder.holder()
            assert holder is not None
            assert holder.is_this_process
        assert folder.holder() is None
        with RunFolder(tmp_path):
            pass

    def test_looking_never_takes_it_away(self, tmp_path: Path) -> None:
        # One process looks all the time; locking beside it must always succeed.
        look = """
import sys
from pathlib import Path
from quincunx.runs import RunFolder
folder = RunFolder(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    folder.holder()
"""
        (tmp_path / "run.lock").touch()
        with subprocess.Popen([sys.executable, "-c", look, str(tmp_path)], stdout=subprocess.PIPE, text=True) as looker:
            try:
                assert looker.stdout
                looker.stdout.readline()
                for _ in range(300):
                    with RunFolder(tmp_path):
                        pass
            finally:
                looker.kill()

    def test_unfinished_files_of_a_killed_holder_are_removed(self, tmp_path: Path) -> None:
        with holding(tmp_path) as (process, pid):
            process.kill()
            process.wait()
        (tmp_path / "evaluations").mkdir()
        for name in (f".config.yaml.{pid}.writing", f"evaluations/.dev.json.{pid}.writing", ".report.html.1.writing"):
            (tmp_path / name).touch()
        with RunFolder(tmp_path):
            left = sorted(path.name for path in tmp_path.rglob("*.writing"))
        assert left == [".report.html.1.writing"], "what another process is writing stays"

    def test_a_lost_folder_is_an_error_of_ours(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=r"run\.lock cannot be opened"):
            RunFolder(tmp_path / "gone").lock()
        assert RunFolder(tmp_path / "gone").holder() is None
