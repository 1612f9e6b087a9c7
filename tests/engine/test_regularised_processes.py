"""The z-regulariser in two gloo processes, whatever the chunks of each, is what it is in one."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from quincunx.config.sections.peft import Peft
from quincunx.data.batch import Batch
from quincunx.engine.experiment import Parts
from quincunx.engine.objective import Part, Representations, Represented, Summed
from quincunx.engine.regularised import regularised
from quincunx.engine.runtime import Runtime
from quincunx.engine.step import Step
from quincunx.tuners.adapter import Site
from quincunx.tuners.bottleneck.config import BottleneckConfig
from quincunx.tuners.bottleneck.layer import dense
from quincunx.tuners.residual import ResidualAdapter
from toys import VOCABULARY, WIDTH, cpu, labelled, pairs, plan, side

WORLD = 2


class Reader(nn.Module):
    """Two layers with adapters over embeddings, and a mean over the valid tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = Layers()

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        valid = torch.arange(tokens.shape[1]) < lengths[:, None]
        states = self.layers(self.embedding(tokens), valid)
        return (states * valid[..., None]).sum(1) / lengths[:, None]


class Layers(nn.Module):
    """What says which positions are valid."""

    def __init__(self) -> None:
        super().__init__()
        made = (ResidualAdapter(WIDTH, 3, dense, BottleneckConfig(dropout=0.0)) for _ in range(2))
        self.maps = nn.ModuleList(Site(nn.Linear(WIDTH, WIDTH), adapter) for adapter in made)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        for each in self.maps:
            x = functional.gelu(each(x))
        return x


class Sizes(Summed):
    """The squared norm of each text's mean."""

    def weights(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(len(batch))}

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        return {"loss": model(chunk["tokens"], chunk["lengths"]).square().sum()}


class Pairs(Represented):
    """Each text against the others' counterparts."""

    def weights(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(len(batch))}

    def parts(self, batch: Batch) -> Sequence[Part]:
        return [Part("query", side(batch, "query")), Part("document", side(batch, "document"))]

    def represent(self, model: nn.Module, rows: Part) -> dict[str, Tensor]:
        return {"vector": model(rows.batch["tokens"], rows.batch["lengths"])}

    def loss(self, model: nn.Module, representations: Representations, batch: Batch) -> dict[str, Tensor]:
        scores = representations["query"]["vector"] @ representations["document"]["vector"].T
        return {"loss": functional.cross_entropy(scores, torch.arange(len(batch)), reduction="sum")}


def make(kind: str) -> tuple[Parts, list[Batch]]:
    torch.manual_seed(0)
    model = Reader().double().train()
    for parameter in model.parameters():
        parameter.data = 0.5 * torch.randn_like(parameter)
    draw = labelled if kind == "summed" else pairs
    objective = Sizes() if kind == "summed" else Pairs()
    section = Peft(method="bottleneck", z_weight=2.0, track_z=True)
    return regularised(Parts(model, objective), section), [draw(9), draw(5, 1), draw(1, 2)]


def process(rank: int, port: int, out: Path) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(WORLD))
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for kind in ("summed", "represented"):
        parts, batches = make(kind)
        given: list[Batch | None] = [*batches]
        if kind == "summed":
            shares = [range(rank, len(batch), WORLD) for batch in batches]
            given = [batch.select(rows) if rows else None for batch, rows in zip(batches, shares, strict=True)]
        runtime = Runtime(torch.device("cpu"), torch.float32, rank, WORLD)
        # the first process cuts every row by itself, the second not at all
        step = Step(parts.model, parts.objective, runtime, plan(chunk_samples=1 if rank == 0 else None), seed=5)
        outcome = step.gradient(3, given)
        sums = {name: float(value) for name, value in outcome.sums.items()}
        torch.save({"grads": [p.grad for p in step.parameters], "sums": sums}, out / f"{kind}-{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=process, args=(rank, port, tmp_path)) for rank in range(WORLD)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(120)
    assert [one.exitcode for one in processes] == [0, 0]
    for kind in ("summed", "represented"):
        parts, batches = make(kind)
        step = Step(parts.model, parts.objective, cpu(), plan(), seed=5)
        outcome = step.gradient(3, batches)
        wanted = torch.cat([p.grad.flatten() for p in step.parameters if p.grad is not None])
        assert len(outcome.sums) == 4
        for rank in range(WORLD):
            saved = torch.load(tmp_path / f"{kind}-{rank}.pt", weights_only=True)
            found = torch.cat([grad.flatten() for grad in saved["grads"]])
            assert float((found - wanted).norm()) <= 1e-12 * float(wanted.norm())
            for name, value in outcome.sums.items():
                assert abs(saved["sums"][name] - float(value)) <= 1e-12 * abs(float(value)), name
