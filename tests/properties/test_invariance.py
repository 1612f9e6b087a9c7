"""What must not change a run: evaluating, logging, checkpointing, chunks, workers, processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from properties.conftest import config_file, final_weights
from quincunx import train as quincunx_train
from quincunx.errors import UsageError
from runner import quincunx


def train(base: Path, cache: Path, name: str, **changes: object) -> Path:
    run, log = base / name, base / f"{name}.log"
    config = config_file(base / f"{name}.json", cache, run, {k.replace("__", "."): v for k, v in changes.items()})
    assert quincunx("train", config, log=log) == 0, log.read_text()
    return run


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluate__every": 1, "evaluate__at_start": True},
        {"evaluate__every": None, "checkpoint__every": None, "checkpoint__best": False, "log__every": 7},
        {"loading__workers": 2, "checkpoint__every": 1, "checkpoint__keep": 1},
    ],
    ids=["evaluated at every update", "never evaluated", "loaded by workers"],
)
def test_the_weights_are_the_same_bit_for_bit(undisturbed, cache, tmp_path, changes):
    assert final_weights(train(tmp_path, cache, "run", **changes)) == final_weights(undisturbed)


# plain gradient descent with small steps: Adam's first steps are signs, which make whole steps of rounding errors
DESCENT = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.02}}


@pytest.fixture(scope="module")
def descent(tmp_path_factory, cache) -> Path:
    return train(tmp_path_factory.mktemp("descent"), cache, "run", **DESCENT)


def test_chunks_change_nothing_but_the_order_of_additions(descent, cache, tmp_path):
    run = train(tmp_path, cache, "run", **DESCENT, chunking__samples=5)
    assert closeness(run, descent) < 1e-5
    other = train(tmp_path, cache, "other", **DESCENT, seed=12)
    assert closeness(other, descent) > 1e-2, "the distance must be able to tell runs apart"


def test_torchrun_with_two_processes_equals_one(descent, cache, tmp_path):
    """The real launcher, gloo, chunks of another size than the single process used."""
    run = tmp_path / "run"
    config = config_file(tmp_path / "config.json", cache, run, {**DESCENT, "chunking.samples": 3})
    result = torchrun("train", config)
    assert result.returncode == 0, result.stdout + result.stderr
    assert closeness(run, descent) < 1e-5
    wanted, found = losses(descent), losses(run)
    assert found.keys() == wanted.keys()
    assert all(found[key] == pytest.approx(wanted[key], rel=1e-4) for key in wanted)
    assert result.stdout.count("trained to the end") == 1, "only one process speaks"


def test_a_config_starts_its_processes_itself(descent, cache, tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    changes = {**DESCENT, "chunking.samples": 3, "compute.processes": 2, "compute.device": "cpu", "log.every": 5}
    config = config_file(tmp_path / "config.json", cache, run, changes)
    assert quincunx("train", config, log=log) == 0, log.read_text()
    assert closeness(run, descent) < 1e-5
    assert log.read_text().count("trained to the end") == 1, "only one process speaks"
    assert "2 processes share every batch" in log.read_text()


def test_without_devices_to_share_the_work_it_is_said_and_done_in_one_process(descent, cache, tmp_path):
    if torch.cuda.device_count() > 1:
        pytest.skip("this machine has several CUDA devices")
    run, log = tmp_path / "run", tmp_path / "log"
    changes = {**DESCENT, "compute.processes": "auto", "budget.stop_at": 1}
    config = config_file(tmp_path / "config.json", cache, run, changes)
    assert quincunx("train", config, log=log) == 0, log.read_text()
    assert "training goes on in one process" in log.read_text()


def test_python_is_told_that_it_is_one_process(cache, tmp_path):
    config = config_file(tmp_path / "config.json", cache, tmp_path / "run", {"compute.processes": 2})
    with pytest.raises(UsageError, match=r"compute\.processes is 2, and there is one: start it by quincunx train"):
        quincunx_train(config)
    assert not (tmp_path / "run").exists()


def test_resumed_by_two_processes_what_one_began(descent, cache, tmp_path):
    """The order of examples is global: another number of processes goes on with the same logical batches."""
    run, log = tmp_path / "run", tmp_path / "log"
    config = config_file(tmp_path / "config.json", cache, run, DESCENT)
    assert quincunx("train", config, "budget.stop_at=9", log=log) == 0, log.read_text()
    result = torchrun("train", config, "--resume")
    assert result.returncode == 0, result.stdout + result.stderr
    assert closeness(run, descent) < 1e-5


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="names of threads are read from /proc")
def test_no_thread_of_the_process_group_outlives_a_run(cache, tmp_path):
    """A thread of gloo that is left over meets an interpreter that is ending, and aborts the process."""
    config = config_file(tmp_path / "config.json", cache, tmp_path / "run", {"budget.epochs": 1})
    script = tmp_path / "train.py"
    script.write_text(THREADS_LEFT, encoding="utf-8")
    result = torchrun(config, program=[script])
    assert result.returncode == 0, result.stdout + result.stderr
    assert "rank 0 keeps []" in result.stdout, result.stdout
    assert "rank 1 keeps []" in result.stdout, result.stdout


THREADS_LEFT = """
import os, sys
from pathlib import Path
from quincunx.cli import run

assert run(["train", sys.argv[1]]) == 0
threads = (Path("/proc/self/task") / task / "comm" for task in os.listdir("/proc/self/task"))
left = sorted(name for name in {file.read_text().strip() for file in threads} if "gloo" in name)
print(f"rank {os.environ['RANK']} keeps {left}")
"""


def closeness(run: Path, other: Path) -> float:
    """Return the relative L2 distance of two runs' final weights."""
    a, b = (load_file(sorted((r / "checkpoints").glob("update-*"))[-1] / "model.safetensors") for r in (run, other))
    assert a.keys() == b.keys()
    first = torch.cat([a[name].flatten().double() for name in sorted(a)])
    second = torch.cat([b[name].flatten().double() for name in sorted(b)])
    return float((first - second).norm() / second.norm())


def losses(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["update"]: line["value"] for line in lines if (line["split"], line["name"]) == ("train", "loss")}


def torchrun(*arguments: object, program: Sequence[object] = ("-m", "quincunx")) -> subprocess.CompletedProcess[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher, *map(str, program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )
