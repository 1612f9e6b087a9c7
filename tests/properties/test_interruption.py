"""A run that is killed, stopped or refused goes on as if nothing had happened, or says why it cannot."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from properties.conftest import final_weights
from runner import finish, quincunx, running, start, wait_for


def same_run(run: Path, wanted: Path) -> None:
    assert final_weights(run) == final_weights(wanted)
    assert (run / "metrics.jsonl").read_bytes() == (wanted / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("seed", range(3))
def test_killed_while_writing_and_resumed_again_and_again(write_config, undisturbed, tmp_path, seed):
    """kill -9 at the n-th fsync: in the middle of checkpoints, between files, before and after renames."""
    config, log = write_config(), tmp_path / "log"
    draw = random.Random(seed)
    killed = 0
    for _ in range(4):
        code = finish(start("train", config, "--resume", log=log, die_at_sync=draw.randint(1, 60)))
        assert code in (0, -signal.SIGKILL), log.read_text()
        killed += code != 0
    assert killed >= 2
    assert quincunx("train", config, "--resume", log=log) == 0, log.read_text()
    same_run(tmp_path / "run", undisturbed)


def test_killed_at_any_moment(write_config, undisturbed, tmp_path):
    """kill -9 by the clock, twice in a row, then to the end."""
    config, log, run = write_config(), tmp_path / "log", tmp_path / "run"
    draw = random.Random(7)
    for goal in (4, 11):
        process = start("train", config, "--resume", log=log)
        wait_for(lambda goal=goal: (run / "metrics.jsonl").is_file() and _lines(run) >= goal, process, log)
        time.sleep(draw.random() / 50)
        process.kill()
        finish(process)
    assert quincunx("train", config, "--resume", log=log) == 0, log.read_text()
    same_run(run, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(write_config, undisturbed, tmp_path, number):
    config, log, run = write_config({"checkpoint.every": None}), tmp_path / "log", tmp_path / "run"
    with running("train", config, log=log) as process:
        wait_for(lambda: (run / "metrics.jsonl").is_file() and _lines(run) >= 4, process, log)
        os.kill(process.pid, number)
        code = finish(process)
    if code == 1:  # in time: a run this short may be over first
        assert f"saved and stopped by {signal.Signals(number).name}" in log.read_text()
        assert quincunx("train", config, "--resume", log=log) == 0, log.read_text()
    same_run(run, undisturbed)


def test_stop_and_save_files(write_config, undisturbed, tmp_path):
    config, log, run = write_config({"checkpoint.every": None}), tmp_path / "log", tmp_path / "run"
    with running("train", config, log=log) as process:
        wait_for(lambda: (run / "metrics.jsonl").is_file() and _lines(run) >= 2, process, log)
        (run / "STOP").touch()
        assert finish(process) in (0, 1)
    stopped_at = len(list((run / "checkpoints").glob("update-*")))
    assert stopped_at >= 1
    assert quincunx("train", config, "--resume", log=log) == 0, log.read_text()
    assert not (run / "STOP").exists()
    same_run(run, undisturbed)


def test_stopping_at_an_update_leaves_the_schedule_alone(write_config, undisturbed, tmp_path):
    config, log, run = write_config(), tmp_path / "log", tmp_path / "run"
    assert quincunx("train", config, "budget.stop_at=10", log=log) == 0, log.read_text()
    assert quincunx("train", config, "--resume", log=log) == 0, log.read_text()
    assert final_weights(run) == final_weights(undisturbed)


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_used_when_asked(
    write_config, undisturbed, tmp_path, damage
):
    config, log, run = write_config(), tmp_path / "log", tmp_path / "run"
    assert quincunx("train", config, "budget.stop_at=10", log=log) == 0, log.read_text()
    newest = sorted((run / "checkpoints").glob("update-*"))[-1] / "model.safetensors"
    content = bytearray(newest.read_bytes())
    content[-5] ^= 4
    newest.write_bytes(content if damage == "flip" else content[:-7])
    log.write_text("")
    assert quincunx("train", config, "--resume", log=log) == 1
    text = log.read_text()
    assert str(newest) in text
    assert "--resume --from update-00000009" in text
    assert quincunx("train", config, "--resume", "--from", "update-00000009", log=log) == 0, log.read_text()
    assert final_weights(run) == final_weights(undisturbed)


def test_a_run_in_use_is_refused(write_config, tmp_path):
    config, log, run = write_config({"budget.epochs": 60}), tmp_path / "log", tmp_path / "run"
    second = tmp_path / "second"
    with running("train", config, log=log) as process:
        wait_for(lambda: (run / "metrics.jsonl").is_file() and _lines(run) >= 1, process, log)
        assert quincunx("train", config, "--resume", log=second) == 1
        assert f"in use by process {process.pid}" in second.read_text()
    assert quincunx("train", config, "--resume", "budget.stop_at=5", log=second) in (0, 1)


def test_a_run_that_is_there_already_is_refused(undisturbed, cache, tmp_path):
    log = tmp_path / "log"
    config = undisturbed.parent / "config.json"
    before = final_weights(undisturbed)
    assert quincunx("train", config, log=log) == 1
    assert "--resume" in log.read_text()
    assert final_weights(undisturbed) == before


def test_resuming_with_another_config_is_refused_with_the_difference(write_config, tmp_path):
    config, log = write_config(), tmp_path / "log"
    assert quincunx("train", config, "budget.stop_at=4", log=log) == 0, log.read_text()
    assert quincunx("train", config, "--resume", "optimizer.learning_rate=0.5", log=log) == 1
    assert "optimizer.learning_rate: 0.01 -> 0.5" in log.read_text()
    assert quincunx("train", config, "--resume", "log.every=5", "budget.stop_at=8", log=log) == 0, log.read_text()
    assert "resumed with log.every: 2 -> 5" in log.read_text()


def _lines(run: Path) -> int:
    return (run / "metrics.jsonl").read_bytes().count(b"\n")
