"""A full disk: the error says so, what was saved before is whole, and with room again the run goes on."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Said
from quincunx import Run, train
from quincunx.engine.checkpoint import Checkpoints
from quincunx.engine.events import Callback
from quincunx.errors import RunError
from runner import tiny

WIDE = {"encoder.embedding_dim": 96, "encoder.hidden_dim": 192, "evaluate.every": None, "checkpoint.best": False}
"""With AdamW's moments a checkpoint takes 1.3 MiB."""

Cli = Callable[..., Said]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return a function that makes a disk of a size, or changes its size."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = False

    def size(text: str) -> Path:
        nonlocal mounted
        how = f"remount,size={text}" if mounted else f"size={text}"
        command = ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(disk)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command")
        if result.returncode != 0:
            pytest.skip(f"a small disk cannot be mounted: {result.stderr.strip()}")
        mounted = True
        return disk

    yield size
    if mounted:
        gc.collect()  # the frames of a failed run may still hold weights that are mapped from its files
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def wide(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("quincunx.report.to_png", lambda chart: b"")
    path = work / "wide.json"
    path.write_text(json.dumps(tiny(WIDE)))
    return path


def whole(folder: Path) -> list[str]:
    """Return the names of a run's checkpoints, each read whole."""
    checkpoints = Checkpoints(folder / "checkpoints")
    return [checkpoints.load(path).path.name for path in checkpoints.all()]


def test_a_disk_too_small_for_the_next_checkpoint(cli: Cli, wide: Path, work: Path, small_disk):
    """Two checkpoints fit, the third does not; then room is made."""
    disk = small_disk("3500k")
    said = cli("train", wide, f"run.dir={disk}/run")
    assert said.code == 1, said.text
    assert "the checkpoint of update 9 could not be written" in said.err
    assert "disk is full" in said.err
    assert "make room, then go on with --resume" in said.err
    assert whole(disk / "run") == ["update-00000003", "update-00000006"]
    assert not list((disk / "run/checkpoints").glob(".*")), "the draft gave its room back"
    summary = json.loads((disk / "run/summary.json").read_text())
    assert summary["state"] == "failed"
    assert "disk is full" in summary["reason"]
    again = cli("train", wide, f"run.dir={disk}/run", "--resume")
    assert again.code == 1, "still no room"
    assert whole(disk / "run") == ["update-00000003", "update-00000006"]
    small_disk("40m")
    said = cli("train", wide, f"run.dir={disk}/run", "--resume")
    assert said.code == 0, said.err
    assert cli("train", wide, "run.dir=undisturbed").code == 0
    for name in ("metrics.jsonl", "checkpoints/update-00000024/model.safetensors"):
        assert (disk / "run" / name).read_bytes() == (work / "undisturbed" / name).read_bytes()


def test_a_disk_without_a_byte_left(wide: Path, work: Path, small_disk, caplog: pytest.LogCaptureFixture):
    """Not even the record of the failure can be written: the first error is the one that is told."""
    disk = small_disk("30m")
    filler = disk / "filler"

    class Filler(Callback):
        def update(self, update: int) -> None:
            if update == 5:
                with filler.open("wb") as file:
                    try:
                        while True:
                            os.write(file.fileno(), bytes(4096))
                    except OSError as error:
                        assert error.errno == errno.ENOSPC

    with pytest.raises(RunError, match=r"checkpoint of update 6 could not be written.*the disk is full"):
        train(wide, f"run.dir={disk}/run", callbacks=[Filler()])
    assert "the record of a run that broke off is not complete" in caplog.text
    assert "no report" in caplog.text
    assert whole(disk / "run") == ["update-00000003"]
    assert Run(disk / "run").metrics("train/loss")[-1][0] == 6, "whole lines only"
    filler.unlink()
    train(wide, f"run.dir={disk}/run", resume=True)
    train(wide, "run.dir=undisturbed")
    assert (disk / "run/metrics.jsonl").read_bytes() == (work / "undisturbed/metrics.jsonl").read_bytes()


def test_no_room_from_the_beginning(cli: Cli, wide: Path, work: Path, small_disk):
    disk = small_disk("16k")
    said = cli("train", wide, f"run.dir={disk}/run")
    assert said.code == 1
    assert "No space left on device" in said.err
    assert "fault of quincunx" not in said.err


@pytest.mark.parametrize("kind", ["os", "torch"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    """Wherever no small disk can be mounted: the errors that a full one raises, from the system and from torch."""
    checkpoints = Checkpoints(tmp_path, keep=2)

    def save(update: int) -> None:
        weights = {"model": {"w": torch.full((3,), float(update))}, "objective": {}}
        checkpoints.save(update, weights, {"step": update}, {"update": update}, best=True)

    save(1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*arguments: Any, **named: Any) -> None:
        if kind == "os":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    if kind == "torch":
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 0))
    with pytest.raises(RunError, match=r"checkpoint of update 2 could not be written.*the disk is full"):
        save(2)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    monkeypatch.undo()
    save(3)
    assert checkpoints.best() == checkpoints.path(3)
