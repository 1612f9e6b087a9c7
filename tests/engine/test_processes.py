"""Two gloo processes compute the gradient of one, whatever the chunk counts of each."""

from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from quincunx.data.batch import Batch
from quincunx.engine.runtime import Runtime
from quincunx.engine.step import Step
from toys import Contrastive, Encoder, TwoTerms, cpu, labelled, pairs, plan

WORLD = 2


def make(kind: str):
    torch.manual_seed(0)
    if kind == "summed":
        return Encoder().double(), TwoTerms().double(), [labelled(9), labelled(5, 1), labelled(1, 2)]
    return Encoder().double(), Contrastive().double(), [pairs(9), pairs(5, 1), pairs(1, 2)]


def shard(batch: Batch, rank: int) -> Batch | None:
    rows = range(rank, len(batch), WORLD)
    return batch.select(rows) if rows else None


def process(rank: int, port: int, kind: str, out: Path) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(WORLD))
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    model, objective, batches = make(kind)
    runtime = Runtime(torch.device("cpu"), torch.float32, rank, WORLD)
    if kind == "summed":
        batches = [shard(batch, rank) for batch in batches]
    # the first process cuts every row by itself, the second not at all
    step = Step(model, objective, runtime, plan(chunk_samples=1 if rank == 0 else None), seed=5)
    outcome = step.gradient(3, batches)
    torch.save(
        {"grads": [p.grad for p in step.parameters], "sums": {k: float(v) for k, v in outcome.sums.items()}},
        out / f"{rank}.pt",
    )
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", ["summed", "represented"])
def test_two_processes_equal_one(kind, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=process, args=(rank, port, kind, tmp_path)) for rank in range(WORLD)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(120)
    assert [one.exitcode for one in processes] == [0, 0]
    model, objective, batches = make(kind)
    step = Step(model, objective, cpu(), plan(), seed=5)
    outcome = step.gradient(3, batches)
    wanted = torch.cat([p.grad.flatten() for p in step.parameters])
    for rank in range(WORLD):
        saved = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        found = torch.cat([grad.flatten() for grad in saved["grads"]])
        assert float((found - wanted).norm() / wanted.norm()) <= 1e-12
        assert saved["sums"] == {k: pytest.approx(float(v), rel=1e-12) for k, v in outcome.sums.items()}


def test_a_parameter_that_no_process_uses_keeps_no_gradient(tmp_path):
    """Otherwise weight decay would pull on it in two processes and not in one."""
    runtime = cpu()
    unused = torch.nn.Parameter(torch.ones(2))
    runtime.add_gradients([unused])
    assert unused.grad is None
