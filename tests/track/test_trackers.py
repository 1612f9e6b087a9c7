"""Trackers: what they write, that a resume repeats nothing, and that a failing one is named."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from quincunx.errors import MissingExtra, RunError, UsageError
from quincunx.runs import read_metrics
from quincunx.track import TRACKERS, Trackers, open_trackers
from quincunx.track.jsonl import JsonLines


def started(folder: Path, *names: str) -> Trackers:
    trackers = open_trackers(names)
    trackers.start(folder, {"recipe": "long_range", "note": "<b>"})
    return trackers


def train(trackers: Trackers, first: int, last: int) -> None:
    for update in range(first, last + 1):
        trackers.log(update, "train", {"loss": 1 / update, "learning_rate": 1e-3 * 0.9**update})
        if update % 3 == 0:
            trackers.log(update, "dev", {"accuracy": update / 100})


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_jsonl_is_always_there_and_first() -> None:
    assert list(open_trackers([]).trackers) == ["jsonl"]
    assert list(open_trackers(["jsonl", "jsonl"]).trackers) == ["jsonl"]


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no tracker 'tensorbord'.*jsonl, tensorboard"):
        open_trackers(["tensorbord"])


def test_the_config_knows_the_same_names() -> None:
    from quincunx.config.sections.run import Log

    schema = Log.model_json_schema()["properties"]["trackers"]["items"]["enum"]
    assert set(schema) == set(TRACKERS)


def test_metrics_hold_values_and_no_clock(tmp_path: Path) -> None:
    trackers = started(tmp_path)
    trackers.log(1, "train", {"loss": math.nan, "learning_rate": 0.1})
    trackers.finish()
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"update": 1, "split": "train", "name": "loss", "value": "nan"}\n'
        '{"update": 1, "split": "train", "name": "learning_rate", "value": 0.1}\n'
    )
    assert math.isnan(read_metrics(tmp_path / "metrics.jsonl")[0]["value"])


def test_killed_and_resumed_twice_gives_the_undisturbed_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    trackers = started(whole, "tensorboard")
    train(trackers, 1, 30)
    trackers.finish()

    trackers = started(cut, "tensorboard")
    train(trackers, 1, 12)
    position = trackers.position()
    trackers.log(12, "dev", {"accuracy": 0.5})  # at the checkpoint's own update, but after it
    train(trackers, 13, 17)  # killed here: nothing is finished
    for last in (21, 30):
        trackers = started(cut, "tensorboard")
        trackers.resume(position)
        train(trackers, 13, last)
    trackers.finish()

    assert (cut / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert scalars(cut) == scalars(whole)
    assert [step for step, _ in scalars(cut)["train/loss"]] == list(range(1, 31))


def test_killed_before_the_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    trackers = started(tmp_path, "tensorboard")
    train(trackers, 1, 5)
    trackers = started(tmp_path, "tensorboard")
    trackers.resume({})
    train(trackers, 1, 2)
    trackers.finish()
    assert [row["update"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 1, 2, 2]
    assert [step for step, _ in scalars(tmp_path)["train/loss"]] == [1, 2]


def test_a_tracker_asked_for_later_begins_there(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    trackers = started(tmp_path)
    train(trackers, 1, 5)
    position = trackers.position()
    trackers.finish()
    trackers = started(tmp_path, "tensorboard")
    trackers.resume(position)
    train(trackers, 6, 7)
    trackers.finish()
    assert [step for step, _ in scalars(tmp_path)["train/loss"]] == [6, 7]
    losses = [row["update"] for row in read_metrics(tmp_path / "metrics.jsonl") if row["name"] == "loss"]
    assert losses == list(range(1, 8))


def test_lost_lines_stop_a_resume(tmp_path: Path) -> None:
    trackers = started(tmp_path)
    train(trackers, 1, 5)
    position = trackers.position()
    trackers.finish()
    os.truncate(tmp_path / "metrics.jsonl", 10)
    with pytest.raises(RunError, match=r"tracker jsonl could not resume: .*metrics\.jsonl has 0 bytes"):
        started(tmp_path).resume(position)
    with pytest.raises(RunError, match="not of jsonl"):
        started(tmp_path).resume({"tensorboard": {}})
    with pytest.raises(RunError, match="number of bytes"):
        started(tmp_path).resume({"jsonl": {"bytes": "many"}})


def test_a_position_is_plain_and_safe_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(os.fstat(descriptor).st_size), real(descriptor)))
    trackers = started(tmp_path)
    train(trackers, 1, 5)
    position = trackers.position()
    assert position == {"jsonl": {"bytes": (tmp_path / "metrics.jsonl").stat().st_size}}
    assert position["jsonl"]["bytes"] in synced


class Failing(JsonLines):
    def log(self, update: int, split: str, values: Mapping[str, float]) -> None:
        raise OSError(28, "No space left on device")

    def finish(self, exit_code: int = 0) -> None:
        raise OSError(28, "No space left on device")


def test_a_failing_tracker_is_named_and_the_others_keep_what_they_have(tmp_path: Path) -> None:
    first, last = JsonLines(), JsonLines()
    trackers = Trackers({"jsonl": first, "other": Failing(), "third": last})
    trackers.start(tmp_path, {})
    with pytest.raises(RunError, match=r"tracker other could not log: .*No space left"):
        trackers.log(1, "train", {"loss": 1.0})
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1
    with pytest.raises(RunError, match="tracker other could not finish"):
        trackers.finish()
    with pytest.raises(RunError, match="not open"):
        last.log(1, "train", {"loss": 1.0})


def test_a_full_disk_reaches_the_caller_of_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    trackers = started(tmp_path, "tensorboard")
    trackers.log(1, "train", {"loss": 1.0})
    file: Any = trackers.trackers["tensorboard"]
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(file._writer, "_writer", full)
        with pytest.raises(RunError, match=r"tracker tensorboard could not log: .*No space left"):
            trackers.log(2, "train", {"loss": 1.0})
        monkeypatch.undo()
    trackers.finish()


def test_tensorboard_shows_the_config_and_takes_any_number(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trackers = started(tmp_path, "tensorboard")
    trackers.log(3, "dev", {"huge": 1e300, "nothing": math.nan, "whole": 3})
    trackers.finish()
    values = scalars(tmp_path)
    assert values["dev/huge"] == [(3, math.inf)]
    assert math.isnan(values["dev/nothing"][0][1])
    assert values["dev/whole"] == [(3, 3.0)]
    found = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert b'"recipe": "long_range"' in found.Tensors("config")[0].tensor_proto.string_val[0]


def test_tensorboard_files_that_a_person_removed_are_not_missed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    trackers = started(tmp_path, "tensorboard")
    train(trackers, 1, 5)
    position = trackers.position()
    trackers.finish()
    for path in (tmp_path / "tensorboard").iterdir():
        path.unlink()
    trackers = started(tmp_path, "tensorboard")
    trackers.resume(position)
    train(trackers, 6, 6)
    trackers.finish()
    assert [step for step, _ in scalars(tmp_path)["train/loss"]] == [6]


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtra, match=r"pip install 'quincunx\[tensorboard\]'"):
        open_trackers(["tensorboard"])
