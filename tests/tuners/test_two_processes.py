"""Two gloo processes compute the gradient of one for every tuner, tasks mixed, chunks cut otherwise in each."""

from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

pytest.importorskip("peft")

from quincunx.data.batch import Batch
from quincunx.engine.objective import Summed
from quincunx.engine.runtime import Runtime
from quincunx.engine.step import Step
from tiny_models import MODELS, ROWS, inputs_for, output_of
from toys import cpu, plan
from tuner_rows import ROWS as TUNERS
from tuner_rows import Row

WORLD = 2
CHOSEN = {row.id: row for row in {row.method: row for row in TUNERS if row.method != "convolution"}.values()}
"""The last row of each method. Convolution adapters have batch norms, which see a whole batch or refuse to."""


class Weighed(Summed):
    """Every number of the output with a weight of its own."""

    def weights(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(len(batch))}

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        output = output_of(model, {name: value for name, value in chunk.tensors.items() if name != "tasks"})
        weights = torch.linspace(-1, 1, output[0].numel()).view_as(output[0])
        return {"loss": (output * weights).sum()}


def made(row: Row) -> tuple[nn.Module, Batch]:
    """Return a model with a row's adapter and a batch for it."""
    from peft import get_peft_model

    from quincunx.tuners.peft_plugin import config_class, register

    register()
    torch.manual_seed(2)
    model: Any = get_peft_model(MODELS[row.model](), config_class(row.method)(**dict(row.options)))
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    tensors = inputs_for(MODELS[row.model]()) | {"tasks": torch.tensor([0, 2, 1, 0])}
    return model.eval(), Batch(tensors, torch.arange(ROWS), list(range(ROWS)))


def gradient(row: Row, runtime: Runtime, samples: int | None) -> list[Tensor]:
    model, batch = made(row)
    mine = batch if runtime.world == 1 else batch.select(range(runtime.rank, ROWS, WORLD))
    step = Step(model, Weighed(), runtime, plan(chunk_samples=samples), seed=5)
    step.gradient(0, [mine])
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in step.parameters]


def process(rank: int, port: int, out: Path) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(WORLD))
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    runtime = Runtime(torch.device("cpu"), torch.float32, rank, WORLD)
    found = {name: gradient(row, runtime, 1 if rank == 0 else None) for name, row in CHOSEN.items()}
    torch.save(found, out / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[Tensor]]]:
    """By process: the gradients of every tuner."""
    out = tmp_path_factory.mktemp("gradients")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=process, args=(rank, port, out)) for rank in range(WORLD)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(300)
    assert [one.exitcode for one in processes] == [0, 0]
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.mark.parametrize("name", CHOSEN)
def test_two_processes_compute_the_gradient_of_one(name: str, gradients: list[dict[str, list[Tensor]]]) -> None:
    wanted = torch.cat([value.flatten() for value in gradient(CHOSEN[name], cpu(), None)])
    assert bool(wanted.any())
    for each in gradients:
        found = torch.cat([value.flatten() for value in each[name]])
        assert float((found - wanted).norm() / wanted.norm()) <= 1e-4
