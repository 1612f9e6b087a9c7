"""Retrieval trained by two processes is as trained by one, and a run that was killed goes on as if it had not been.

One launch of torchrun trains all kinds of model, one after another: what takes long is starting it.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from properties.test_invariance import torchrun
from quincunx import Run, train
from quincunx.engine.checkpoint import Checkpoints
from recipes.retrieval.collections_made import config_of, write_collection
from runner import finish, start

# plain gradient descent: Adam's first steps are signs, which make whole steps of rounding errors
DESCENT = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}, "evaluate__every": None, "log__every": 1}
DUAL = {
    "memory__use": True,
    "memory__kind": "dual",
    "memory__size": 48,
    "memory__warmup": 2,
    "memory__momentum": 0.5,
    "objective__directions": ["q->d", "d->q"],
}
KINDS = {
    "bi": {"update__accumulation": 2},
    "poly": {"mode": "poly-encoder", "poly__codes": 4, "objective__learn_temperature": True},
    "dual": DUAL,
}
"""Batches of 24, the last of an epoch of 16: no number of them is shared out evenly."""

TRAIN_ALL = """
import sys
import torch.distributed as dist
import torch.distributed.nn.functional  # before there is a group, which it would keep alive

from quincunx.cli import run

dist.init_process_group("gloo")  # one for all runs: each would make its own and find in the store what the last left
for line in open(sys.argv[1], encoding="utf-8"):
    assert run(["train", *line.split()]) == 0, line
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def data(base: Path) -> Path:
    return write_collection(base / "data", train=100, test=12)


@pytest.fixture(scope="module")
def alone(base: Path, data: Path) -> dict[str, Run]:
    """Each kind, trained by this process."""
    return {
        kind: train(config_of(data, base / "alone" / kind, base / "cache", **DESCENT, **changes))
        for kind, changes in KINDS.items()
    }


@pytest.fixture(scope="module")
def together(base: Path, data: Path) -> dict[str, Run]:
    """Each kind, trained by two processes in chunks of another size, `dual` twice: whole, and in two parts."""
    lines: list[str] = []
    for name, kind in (*((kind, kind) for kind in KINDS), ("parts", "dual")):
        chunks = {"chunking__samples": 5, "chunking__graphs": "replay"}
        config = config_of(data, base / "together" / name, base / "cache", **DESCENT, **KINDS[kind], **chunks)
        (base / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
        lines.append(f"{base / name}.json" + " budget.stop_at=4" * (name == "parts"))
    lines.append(f"{base / 'parts'}.json --resume")
    (base / "lines").write_text("\n".join(lines), encoding="utf-8")
    (base / "all.py").write_text(TRAIN_ALL, encoding="utf-8")
    result = torchrun(base / "lines", program=[base / "all.py"])
    assert result.returncode == 0, result.stdout + result.stderr
    return {name: Run(base / "together" / name) for name in (*KINDS, "parts")}


def state(run: Run) -> dict[str, dict[str, Tensor]]:
    """Return the weights and buffers of model and objective in the newest checkpoint."""
    return dict(Checkpoints(run.folder.checkpoints).load(run.checkpoint("last")).weights)


def distance(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    assert found.keys() == wanted.keys(), "names of weights tell nothing of how many processes there were"
    first, second = (torch.cat([one[name].flatten().double() for name in sorted(one)]) for one in (found, wanted))
    return float((first - second).norm() / second.norm())


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_as_one(alone, together, kind):
    wanted, found = alone[kind], together[kind]
    assert distance(state(found)["model"], state(wanted)["model"]) < 1e-5
    curves = [dict(run.metrics("train/loss")) for run in (found, wanted)]
    assert curves[0].keys() == curves[1].keys()
    assert len(curves[1]) == wanted.summary["update"] >= 4
    assert all(curves[0][update] == pytest.approx(value, rel=1e-4) for update, value in curves[1].items())
    another = state(alone["dual" if kind == "bi" else "bi"])["model"]
    assert another.keys() != state(wanted)["model"].keys() or distance(another, state(wanted)["model"]) > 1e-3


def test_two_processes_remember_what_one_does(alone, together):
    """Entries of both queues, whose they are and from when, and the key encoder that made them."""
    wanted, found = (state(runs["dual"])["objective"] for runs in (alone, together))
    whole = [name for name, value in wanted.items() if not value.is_floating_point()]
    assert {name.rpartition(".")[2] for name in whole} >= {"keys", "hashes", "stamps", "position", "filled", "updates"}
    for name in whole:
        assert torch.equal(found[name], wanted[name]), name
    for side in ("query", "document"):
        vectors = f"memory.queues.{side}.vectors"
        assert wanted[vectors].norm(dim=1).min() > 0, "full"
        torch.testing.assert_close(found[vectors], wanted[vectors], rtol=1e-4, atol=1e-5)
    assert distance(*({n: v for n, v in one.items() if n.startswith("memory.keys.")} for one in (found, wanted))) < 1e-5


def test_two_processes_go_on_bit_for_bit(together):
    """Stopped between two checkpoints' worth of updates, with a half-used memory."""
    whole, parts = state(together["dual"]), state(together["parts"])
    for part in ("model", "objective"):
        assert whole[part].keys() == parts[part].keys()
        for name, value in whole[part].items():
            assert torch.equal(parts[part][name], value), name
    assert dict(together["parts"].metrics("train/loss")) == dict(together["dual"].metrics("train/loss"))


def test_a_killed_run_goes_on_bit_for_bit_with_its_memory(base, data, alone):
    """kill -9 in the middle of a checkpoint, when the memory has begun to act; then resumed to the end."""
    log, run = base / "log", base / "killed"
    changes = {**DESCENT, **DUAL, "checkpoint__every": 1}
    config = base / "killed.json"
    config.write_text(json.dumps(config_of(data, run, base / "cache", **changes)), encoding="utf-8")
    assert finish(start("train", config, log=log, die_at_sync=60)) == -signal.SIGKILL, log.read_text()
    done = max(int(path.name.removeprefix("update-")) for path in (run / "checkpoints").glob("update-*"))
    assert DUAL["memory__warmup"] < done < alone["dual"].summary["update"], log.read_text()
    assert finish(start("train", config, "--resume", log=log)) == 0, log.read_text()
    whole, found = state(alone["dual"]), state(Run(run))
    for part in ("model", "objective"):
        for name, value in whole[part].items():
            assert torch.equal(found[part][name], value), name
    assert dict(Run(run).metrics("train/loss")) == dict(alone["dual"].metrics("train/loss"))
