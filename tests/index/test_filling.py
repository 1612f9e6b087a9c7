"""Filling a store: by one process or several, killed and begun again, never over something else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from quincunx.errors import DataError, RunError, UsageError
from quincunx.index.filling import Filling, begin, shard_name
from quincunx.index.shards import Shard
from quincunx.index.store import Store
from stores import begun, fill, maker, planned, vectors

ROWS, SIZE, WIDTH = 20, 4, 6
WORKER = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from stores import begun, maker, planned
folder, stop = Path(sys.argv[1]), int(sys.argv[3])
plan = planned({ROWS}, {SIZE}, {WIDTH})
filling, make = begun(folder, plan), maker(plan)
if filling is None:  # the others were quicker
    sys.exit(0)
def slowly(number):
    if number == stop:
        (folder.parent / f"reached-{{number}}").touch()
        time.sleep(600)
    return make(number)
filling.fill(slowly)
filling.close()
"""


@contextmanager
def worker(folder: Path, stop: int = -1) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that fills the store of a folder, and stays at one shard for ever."""
    tests = Path(__file__).parent.parent
    process = subprocess.Popen([sys.executable, "-c", WORKER, str(folder), str(tests), str(stop)])
    try:
        deadline = time.monotonic() + 120
        while stop >= 0 and not (folder.parent / f"reached-{stop}").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def whole(folder: Path) -> None:
    assert np.array_equal(Store.open(folder, verify=True).read(), vectors(ROWS, WIDTH))


def filling_of(folder: Path) -> Filling:
    found = begun(folder, planned(ROWS, SIZE, WIDTH))
    assert found is not None
    return found


def make_all(filling: Filling) -> list[int]:
    """Fill a store and return the shards that were made."""
    made: list[int] = []
    filling.fill(maker(filling.plan), made.append)
    filling.close()
    return made


def test_a_killed_process_costs_the_shard_it_was_at_and_no_other(tmp_path: Path):
    folder = tmp_path / "store"
    with worker(folder, stop=3) as process:
        pass  # killed by the signal that cannot be caught
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(UsageError, match="3 of 5 shards are there"):
        Store.open(folder)
    before = {name: (folder / name).stat().st_mtime_ns for name in map(shard_name, range(3))}
    assert make_all(filling_of(folder)) == [3, 4]
    assert before == {name: (folder / name).stat().st_mtime_ns for name in before}
    whole(folder)
    scraps = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert scraps == [], "nothing half-written is left"


def test_a_shard_that_a_living_process_makes_is_left_to_it_and_taken_over_when_it_dies(tmp_path: Path):
    folder = tmp_path / "store"
    with worker(folder, stop=0) as process:
        filling, made = filling_of(folder), list[int]()

        def shown(number: int) -> None:
            made.append(number)
            if len(made) == 4:  # everything else is there: what is left is waited for until its maker is gone
                assert not (folder / shard_name(0)).exists()
                os.kill(process.pid, signal.SIGKILL)

        assert filling.fill(maker(filling.plan), shown) == 5
        filling.close()
    assert made == [1, 2, 3, 4, 0], "the shard of the killed one is told as well"
    whole(folder)


def test_several_processes_make_each_shard_once(tmp_path: Path):
    folder = tmp_path / "store"
    with worker(folder) as first, worker(folder) as second:
        made = make_all(found) if (found := begun(folder, planned(ROWS, SIZE, WIDTH))) is not None else []
        assert first.wait(60) == 0 and second.wait(60) == 0
    assert len(set(made)) == len(made)
    whole(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["manifest.json", *(f"shard-{n:05d}.{end}" for n in range(5) for end in ("safetensors", "jsonl"))]
    )


def test_a_whole_store_is_left_as_it_is(tmp_path: Path):
    fill(tmp_path, ROWS, SIZE, WIDTH)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert begun(tmp_path, planned(ROWS, SIZE, WIDTH)) is None
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


@pytest.mark.parametrize("begun_only", [True, False])
@pytest.mark.parametrize("change", [{"weights": "b"}, {"dimension": 7}, {"precision": "bf16"}, {"dtype": "float16"}])
def test_vectors_made_otherwise_are_refused_and_nothing_is_overwritten(tmp_path: Path, change, begun_only):
    plan = planned(ROWS, SIZE, WIDTH)
    if begun_only:
        begun(tmp_path, plan)
    else:
        fill(tmp_path, ROWS, SIZE, WIDTH)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (name,) = change
    with pytest.raises(UsageError, match=f"made otherwise: {name} .*Nothing in it was changed"):
        begun(tmp_path, plan, {**plan.made, **change})
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_another_plan_is_the_callers_to_refuse(tmp_path: Path):
    plan = planned(ROWS, SIZE, WIDTH)
    begun(tmp_path, plan)

    def refuse(found):
        assert found == plan
        raise UsageError("another corpus")

    with pytest.raises(UsageError, match="another corpus"):
        begin(tmp_path, plan.made, lambda: plan, refuse)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"thesis.tex.*left as it is"):
        begun(tmp_path, planned(ROWS, SIZE, WIDTH))
    with pytest.raises(UsageError, match="is a file"):
        begun(tmp_path / "thesis.tex", planned(ROWS, SIZE, WIDTH))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_fails_while_planning_leaves_no_plan(tmp_path: Path):
    def fail():
        raise DataError("a bad corpus")

    with pytest.raises(DataError, match="a bad corpus"):
        begin(tmp_path / "store", {}, fail, lambda found: found)
    assert list((tmp_path / "store").iterdir()) == []
    fill(tmp_path / "store", ROWS, SIZE, WIDTH)
    whole(tmp_path / "store")


def test_a_shard_that_fails_leaves_those_before_it(tmp_path: Path):
    plan = planned(ROWS, SIZE, WIDTH)
    filling, make = filling_of(tmp_path), maker(plan)

    def fail(number: int) -> Shard:
        if number == 2:
            raise DataError("document 9 has no vector")
        return make(number)

    with pytest.raises(DataError, match="document 9"):
        filling.fill(fail)
    assert filling.missing == [2, 3, 4]
    assert make_all(filling) == [2, 3, 4]
    whole(tmp_path)


@pytest.mark.parametrize("end", ["safetensors", "jsonl"])
def test_a_damaged_shard_is_made_anew_by_the_same_command(tmp_path: Path, end: str):
    fill(tmp_path, ROWS, SIZE, WIDTH)
    path = tmp_path / f"shard-00002.{end}"
    path.write_bytes(path.read_bytes()[:-9])
    assert make_all(filling_of(tmp_path)) == [2]
    whole(tmp_path)
    (tmp_path / shard_name(4)).unlink()
    assert make_all(filling_of(tmp_path)) == [4]
    whole(tmp_path)


def test_a_damaged_plan_is_named(tmp_path: Path):
    begun(tmp_path, planned(ROWS, SIZE, WIDTH))
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(DataError, match=r"plan.json is damaged"):
        begun(tmp_path, planned(ROWS, SIZE, WIDTH))


def test_a_shard_of_another_size_never_enters_the_manifest(tmp_path: Path):
    filling = filling_of(tmp_path)
    make = maker(filling.plan)
    filling.fill(lambda number: Shard(["x"], vectors(1, WIDTH), ["t"]) if number == 1 else make(number))
    with pytest.raises(DataError, match=r"shard-00001.* 1 vectors .* 4 of width 6"):
        filling.close()
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="nothing here refuses to be written")
def test_a_full_disk_is_said_and_costs_nothing(tmp_path: Path):
    filling = filling_of(tmp_path)
    path = tmp_path / f".{shard_name(1)}.partial"
    path.symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"shard-00001.* cannot be written.*whole stay"):
        filling.fill(maker(filling.plan))
    path.unlink(missing_ok=True)
    assert filling.missing == [1, 2, 3, 4]
    assert make_all(filling) == [1, 2, 3, 4]
    whole(tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text())["count"] == ROWS
