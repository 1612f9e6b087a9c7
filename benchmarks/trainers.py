"""One training job and those who train it: a loop by hand, our engine, and other trainers as their documentation shows.

Every contestant is a function of the job and a folder of its own, and returns what an update took it.
"""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from measure import Seconds, Watch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from quincunx.config.plan import Plan
from quincunx.config.schema import Sizes
from quincunx.config.sections.training import Schedule
from quincunx.console import ConsoleCallback
from quincunx.data.batch import Batch
from quincunx.data.loader import Updates
from quincunx.data.order import Order
from quincunx.engine.checkpoint import Checkpoints
from quincunx.engine.events import Requests
from quincunx.engine.loop import Loop
from quincunx.engine.objective import Summed
from quincunx.engine.runtime import Runtime
from quincunx.engine.schedule import ClosedForm
from quincunx.engine.state import Best, State
from quincunx.journal import Journal
from quincunx.runs import claim
from quincunx.track import open_trackers

RATE, DECAY, CLIP, LOG_EVERY = 1e-3, 0.01, 1.0, 50
BASE = "plain loop, DataLoader"
OURS = "quincunx"


@dataclass(frozen=True)
class Job:
    """What everybody trains."""

    name: str
    model: nn.Module
    inputs: Tensor
    labels: Tensor
    batch_size: int
    first: int
    """Update after which the clock starts."""
    last: int
    """Update after which it stops; training ends one update later."""
    every: int
    """Updates in a stretch that is timed."""
    fused: bool

    @property
    def updates(self) -> int:
        return self.last + 1

    def optimizer(self, parameters: Any) -> torch.optim.Optimizer:
        # None is torch's own choice, which on a CPU is not the fused one
        return torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY, fused=True if self.fused else None)


class Timed(nn.Module):
    """The job's model, watched: what an update took in each stretch of `every` updates."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.model = copy.deepcopy(job.model)
        self.stretches: list[Seconds] = []
        self._first, self._last, self._every, self._count = job.first, job.last, job.every, 0

    def forward(self, inputs: Tensor) -> Tensor:
        since = self._count - self._first
        if since >= 0 and since % self._every == 0 and self._count <= self._last:
            if since:
                self.stretches.append(self._watch.read() / self._every)
            self._watch = Watch()
        self._count += 1
        return self.model(inputs)


@dataclass(frozen=True)
class Result:
    """One training."""

    took: Seconds
    """By an update, in the middle one of its stretches."""
    loss: float
    """Over all examples, at the end: everybody must have learned alike."""


def result(job: Job, model: Timed) -> Result:
    with torch.no_grad():
        loss = functional.cross_entropy(model.model.eval()(job.inputs), job.labels)
    wall = statistics.median(stretch.wall for stretch in model.stretches)
    cpu = statistics.median(stretch.cpu for stretch in model.stretches)
    return Result(Seconds(wall, cpu), float(loss))


# by hand


def plain(job: Job, folder: Path, *, loader: bool) -> Result:
    """Return what a loop takes that a person would write for this one job."""
    model = Timed(job)
    optimizer = job.optimizer(model.parameters())
    model.train()
    total = 0.0
    batches = from_loader(job) if loader else from_tensors(job)
    with (folder / "log.jsonl").open("w") as log:
        for update, (inputs, labels) in zip(range(1, job.updates + 1), batches, strict=False):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(inputs), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            total += loss.item()
            if update % LOG_EVERY == 0:
                log.write(json.dumps({"update": update, "loss": total / LOG_EVERY}) + "\n")
                log.flush()
                total = 0.0
    return result(job, model)


def from_loader(job: Job) -> Iterator[Sequence[Tensor]]:
    return iter(DataLoader(TensorDataset(job.inputs, job.labels), batch_size=job.batch_size, shuffle=True))


def from_tensors(job: Job) -> Iterator[Sequence[Tensor]]:
    for chosen in torch.randperm(len(job.inputs)).split(job.batch_size):
        yield job.inputs[chosen], job.labels[chosen]


# ours


class CrossEntropy(Summed):
    """Cross-entropy, every example counting the same."""

    def weights(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(len(batch))}

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        return {"loss": functional.cross_entropy(model(chunk["inputs"]), chunk["labels"], reduction="sum")}


class Examples:
    """The job's examples one by one."""

    lengths = None

    def __init__(self, job: Job) -> None:
        self.inputs, self.labels = job.inputs, job.labels

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index], self.labels[index]


def collate(examples: Sequence[tuple[Tensor, Tensor]], ids: Sequence[int], rows: Sequence[int], seed: int) -> Batch:
    inputs, labels = zip(*examples, strict=True)
    return Batch({"inputs": torch.stack(inputs), "labels": torch.stack(labels)}, torch.tensor(rows), ids)


def ours(job: Job, folder: Path) -> Result:
    """Return what our loop takes with everything that a run has: tracker, journal, console, requests from outside."""
    model, objective = Timed(job), CrossEntropy()
    optimizer = job.optimizer([{"name": "decay", "params": list(model.parameters())}])
    count = len(job.inputs)
    per_epoch = -(-count // job.batch_size)
    plan = Plan(
        train_examples=count,
        batch_size=job.batch_size,
        accumulation=1,
        batches_per_epoch=per_epoch,
        updates_per_epoch=per_epoch,
        total_updates=job.updates,
        stop_at=job.updates,
        log_every=LOG_EVERY,
        evaluate_every=None,
        checkpoint_every=None,
        chunk_samples=None,
        chunk_tokens=None,
        graphs="auto",
        evaluation_batch=job.batch_size,
        evaluation_limit=None,
        sizes=Sizes(train=count),
    )
    rates = ClosedForm(Schedule(), optimizer, plan.total_updates, per_epoch)
    state = State(model, objective, optimizer, rates, Best("dev/loss", "min"))
    run = claim(str(folder / "run"), "overhead")
    trackers = open_trackers(["jsonl"])
    trackers.start(run.path, {})
    with (folder / "console.txt").open("w") as terminal:
        journal = Journal(run, SimpleNamespace(recipe="overhead"), plan, state)
        callbacks = [journal, ConsoleCallback(Console(file=terminal))]
        loop = Loop(
            plan=plan,
            state=state,
            data=Updates(Examples(job), collate, Order(count, job.batch_size, 0), 0),
            seed=0,
            runtime=Runtime(torch.device("cpu"), torch.float32),
            checkpoints=Checkpoints(run.checkpoints),
            trackers=trackers,
            requests=Requests(run.path),
            callbacks=callbacks,
            clip_norm=CLIP,
        )
        for callback in callbacks:
            callback.start(plan, 0, [])
        with loop.requests:
            loop.run()
        trackers.finish()
        for callback in callbacks:
            callback.end(state.update, "finished")
    return result(job, model)


# the others, each as its documentation shows


class Dictionaries(Dataset[dict[str, Tensor]]):
    """The job's examples as the Trainer of transformers takes them."""

    def __init__(self, job: Job) -> None:
        self.inputs, self.labels = job.inputs, job.labels

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": self.inputs[index], "labels": self.labels[index]}


class WithLoss(nn.Module):
    """A model that computes its loss, as the Trainer of transformers expects."""

    def __init__(self, model: Timed) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.model(inputs)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


def hf_trainer(job: Job, folder: Path) -> Result:
    from transformers import Trainer, TrainingArguments

    model = Timed(job)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=job.updates,
        per_device_train_batch_size=job.batch_size,
        learning_rate=RATE,
        weight_decay=DECAY,
        lr_scheduler_type="constant",
        max_grad_norm=CLIP,
        optim="adamw_torch_fused" if job.fused else "adamw_torch",
        logging_steps=LOG_EVERY,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    Trainer(model=WithLoss(model), args=arguments, train_dataset=Dictionaries(job)).train()
    return result(job, model)


def accelerate(job: Job, folder: Path) -> Result:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = Timed(job)
    data = DataLoader(TensorDataset(job.inputs, job.labels), batch_size=job.batch_size, shuffle=True)
    prepared, optimizer, batches = accelerator.prepare(model, job.optimizer(model.parameters()), data)
    prepared.train()
    total = 0.0
    with (folder / "log.jsonl").open("w") as log:
        for update, (inputs, labels) in zip(range(1, job.updates + 1), batches, strict=False):
            optimizer.zero_grad()
            loss = functional.cross_entropy(prepared(inputs), labels)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(prepared.parameters(), CLIP)
            optimizer.step()
            total += loss.item()
            if update % LOG_EVERY == 0:
                log.write(json.dumps({"update": update, "loss": total / LOG_EVERY}) + "\n")
                log.flush()
                total = 0.0
    return result(job, model)


def lightning(job: Job, folder: Path) -> Result:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.loggers import CSVLogger

    class Module(LightningModule):
        def __init__(self, model: Timed) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Sequence[Tensor], index: int) -> Tensor:
            inputs, labels = batch
            loss = functional.cross_entropy(self.model(inputs), labels)
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return job.optimizer(self.parameters())

    model = Timed(job)
    trainer = Trainer(
        max_steps=job.updates,
        accelerator="cpu",
        devices=1,
        gradient_clip_val=CLIP,
        log_every_n_steps=LOG_EVERY,
        logger=CSVLogger(str(folder)),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = DataLoader(TensorDataset(job.inputs, job.labels), batch_size=job.batch_size, shuffle=True)
    trainer.fit(Module(model), data)
    return result(job, model)


CONTESTANTS: Mapping[str, Callable[[Job, Path], Result]] = {
    BASE: partial(plain, loader=True),
    "plain loop, tensors indexed": partial(plain, loader=False),
    OURS: ours,
    "Accelerate as wrapper": accelerate,
    "HF Trainer": hf_trainer,
    "Lightning Trainer": lightning,
}
