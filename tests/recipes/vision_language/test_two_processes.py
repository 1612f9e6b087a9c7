"""Two gloo processes compute the gradient of one, with tasks mixed, weights of each task's own, and a pointer."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.data.batch import Batch
from quincunx.engine.runtime import Runtime
from quincunx.engine.step import Outcome, Step
from toys import cpu, plan
from vision_language_runs import experiment_of

WORLD = 2
SETTINGS: dict[str, Any] = {
    "adapt.bottleneck": True,
    "adapt.reduction_factor": 4,
    "adapt.track_z": True,
    "data.refcoco.pointer": True,
    "log.train_accuracy": True,
}


def gradient(world: Path, runtime: Runtime, samples: int | None) -> tuple[Outcome, Tensor]:
    """Return what is computed of this process's rows of a batch of all tasks, and of one of fewer rows than needed."""
    made = experiment_of(world, SETTINGS)
    source: Any = made.source
    starts = [sum(source.sizes[:number]) for number in range(len(source.sizes))]
    model = made.parts.model.double().train()
    batches: list[Batch | None] = []
    for numbers in ([start + step for start in starts for step in range(2)], starts[3:4]):
        mine: Sequence[int] = range(runtime.rank, len(numbers), runtime.world)
        if not mine:
            batches.append(None)
            continue
        own = [numbers[row] for row in mine]
        batch = made.collate([source[number] for number in own], own, mine, 7)
        double = {name: each.double() if each.is_floating_point() else each for name, each in batch.tensors.items()}
        batches.append(Batch(double, batch.rows, batch.ids, batch.lengths, batch.padded, batch.extents))
    step = Step(model, made.parts.objective.train(), runtime, plan(chunk_samples=samples, accumulation=2), seed=5)
    outcome = step.gradient(0, batches)
    return outcome, torch.cat([p.grad.flatten() for p in step.parameters if p.grad is not None])


def process(rank: int, port: int, world: Path, out: Path) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(WORLD))
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    runtime = Runtime(torch.device("cpu"), torch.float32, rank, WORLD)
    outcome, found = gradient(world, runtime, 1 if rank == 0 else None)
    torch.save({"gradient": found, "sums": {k: float(v) for k, v in outcome.sums.items()}}, out / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(world: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=process, args=(rank, port, world, tmp_path)) for rank in range(WORLD)]
    for one in processes:
        one.start()
    outcome, wanted = gradient(world, cpu(), None)
    for one in processes:
        one.join(120)
    assert [one.exitcode for one in processes] == [0, 0]
    for rank in range(WORLD):
        saved = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert float((saved["gradient"] - wanted).norm()) <= 1e-12 * float(wanted.norm())
        for name, value in outcome.sums.items():
            assert saved["sums"][name] == pytest.approx(float(value), rel=1e-12), name
