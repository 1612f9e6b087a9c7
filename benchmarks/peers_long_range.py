"""Softmax attention on ListOps, time per update: our engine beside the loop that github.com/mlpen/Nystromformer uses.

Same model size, data, batch, dropout and chunk limit; an update of ours is the real engine's, with all that a run has.
What separates the two is taken apart by giving ours the peer's habits one by one: no bucketing, then every sequence
padded to the peer's length, then the explicit matrix of weights. Bucketing makes updates of unlike size, so that the
updates that are timed are spread evenly over the lengths of an epoch. Beside it stand the published figures of
Hrrformer, which is no contestant here, and what is different there.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python benchmarks/peers_long_range.py [--rounds 5] [--long-rounds 3]

About 5 minutes on 2 cores, nearly all for the long sequences (`--jobs short` leaves them out).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Seconds, Watch, alternate, machine, ratios, spread, table
from padded_loop import PaddedClassifier, PaddedExamples, Shape, padded_length
from padded_loop import train as train_padded
from rich.console import Console
from torch import nn

from quincunx.config.load import load
from quincunx.config.plan import make_plan
from quincunx.console import ConsoleCallback
from quincunx.data.batch import Batch
from quincunx.data.loader import Collate, Updates
from quincunx.data.order import Indices, Order
from quincunx.engine.checkpoint import Checkpoints
from quincunx.engine.events import Callback, Requests
from quincunx.engine.experiment import Experiment
from quincunx.engine.loop import Loop
from quincunx.engine.optim import build_optimizer
from quincunx.engine.runtime import Runtime
from quincunx.engine.schedule import ClosedForm
from quincunx.engine.state import Best, State
from quincunx.journal import Journal
from quincunx.recipes import schemas
from quincunx.recipes.long_range.config import LongRangeConfig
from quincunx.recipes.long_range.presets import preset_text
from quincunx.recipes.long_range.recipe import RECIPE
from quincunx.runs import claim
from quincunx.track import open_trackers

DROPOUT = 0.1
EPOCH = 50
"""Batches in an epoch, from which those that are timed are taken."""
EXAMPLE = Path(__file__).parent.parent / "examples/long_range/listops_short.yaml"
OURS = "quincunx"
STEPS = (
    ("peer, matrix recomputed", "the loop as its config has it"),
    ("peer, matrix kept", "attention checkpointing off"),
    ("quincunx, full length, explicit matrix", "our engine and model with the peer's padding and matrix"),
    ("quincunx, full length", "fused attention"),
    ("quincunx, no bucketing", "padded to the longest of a chunk"),
    (OURS, "batches of like length"),
)
"""The contestants, each with what is new over the one before."""

HRRFORMER = (
    ("1 layer", 38.79, 66.50, 75.40, 48.47, 70.71, 59.97),
    ("2 to 6 layers", 39.98, 65.38, 76.15, 50.45, 72.17, 60.83),
)
"""Test accuracy in percent from its readme: ListOps, Text, Retrieval, Image, Pathfinder, mean."""
HRRFORMER_DIFFERS = """\
Hrrformer's published test accuracies (readme of github.com/FutureComputing4AI/Hrrformer), 20 epochs each. What differs
from what is timed above: its attention is hrr-bundled; its models are 128 to 1024 wide, trained at batches of 32 to
128 over several GPUs in JAX with label smoothing 0.1; test accuracy is printed after every epoch and no checkpoint is
chosen on development data; no seeds, no intervals; padding takes part in its trace. ListOps from its outermost
operator alone: 35.8. Its speed (28 times Luna-256 with one layer, 10 times with several; up to 280 times in the
paper) is on GPUs and against attention that forms its matrix, as the peer above does."""


@dataclass(frozen=True)
class Job:
    """What everybody trains."""

    name: str
    config: Path
    changes: Sequence[str]
    longest: int
    """Tokens of the longest sequences."""
    batch_size: int
    limit: int
    """Examples in a chunk."""
    warmup: int
    """Updates before those that are timed."""
    padded_updates: int
    """Timed in one training where every batch has the same size."""
    updates: int
    """Timed in one training where batches differ in size."""

    @property
    def positions(self) -> int:
        """Length to which the peer pads; every model has so many positions."""
        return padded_length(self.longest)


@dataclass(frozen=True)
class Result:
    """One training."""

    took: Seconds
    """By an update."""
    tokens: float
    """Computed by an update, padding counted."""
    loss: float
    """Mean over the updates."""


def jobs(chosen: argparse.Namespace, folder: Path) -> list[Job]:
    narrow = folder / "narrow.yaml"
    narrow.write_text(preset_text("narrow", "listops"), encoding="utf-8")
    low, high = chosen.min_length, chosen.max_length
    made = {
        "short": Job(
            "ListOps 20-100 tokens, width 128, 2 layers, 4 heads",
            EXAMPLE,
            ["update.clip_norm=null"],
            100,
            chosen.short_batch,
            chosen.short_batch,
            1,
            chosen.short_updates,
            chosen.short_updates,
        ),
        "long": Job(
            f"ListOps {low}-{high} tokens, width 64, 2 layers, 2 heads (preset narrow)",
            narrow,
            [f"data.min_length={low}", f"data.max_length={high}"],
            high,
            chosen.batch,
            chosen.samples,
            0,  # an update of the peer takes many seconds
            1,
            chosen.updates,
        ),
    }
    return [made[name] for name in chosen.jobs]


def configured(job: Job, folder: Path, updates: int, *changes: str) -> LongRangeConfig:
    """Return a job's config, decided: what everybody shares, and this contestant's own changes."""
    shared = [
        *job.changes,
        f"data.cache={folder}",
        f"data.train={EPOCH * job.batch_size}",
        "data.dev=50",
        "data.test=50",
        "seed=0",
        f"encoder.max_seq_len={job.positions}",
        f"encoder.dropout={DROPOUT}",
        f"encoder.attention_dropout={DROPOUT}",
        f"update.batch_size={job.batch_size}",
        f"chunking.samples={job.limit}",
        "schedule.kind=fixed",
        "budget.epochs=null",
        f"budget.updates={job.warmup + updates}",
        "evaluate.every=null",
        "checkpoint.every=null",
    ]
    return RECIPE.decide(load(job.config, [*shared, *changes], schemas=schemas()).config)[0]


class Spread(Order):
    """A few batches of each epoch, spread evenly over their sizes, after some of middle size for warming up."""

    def __init__(self, order: Order, lengths: Indices, warmup: int, updates: int) -> None:
        super().__init__(order.count, order.batch_size, order.seed)
        self._order, self._sizes, self._warmup, self._timed = order, lengths, warmup, updates

    @property
    def batches_per_epoch(self) -> int:
        return self._warmup + self._timed

    def epoch(self, epoch: int) -> list[Indices]:
        batches = sorted(self._order.epoch(epoch), key=lambda batch: int(self._sizes[batch].sum()))
        places = [int((number + 0.5) * len(batches) / self._timed) for number in range(self._timed)]
        return [batches[len(batches) // 2]] * self._warmup + [batches[place] for place in places]


@dataclass(frozen=True)
class FullLength:
    """A collate that pads every batch to the peer's length and lets no chunk be trimmed."""

    collate: Collate
    positions: int

    def __call__(self, examples: Sequence[Any], ids: Sequence[int], rows: Sequence[int], seed: int) -> Batch:
        batch = self.collate(examples, ids, rows, seed)
        tokens = batch["tokens"]
        padded = nn.functional.pad(tokens, (0, self.positions - tokens.shape[1]))
        return Batch({**batch.tensors, "tokens": padded}, batch.rows, batch.ids)


class Counter(Callback):
    """Takes the time of the updates after the warm-up, from the first forward pass on."""

    def __init__(self, model: nn.Module, warmup: int) -> None:
        self._warmup, self._done, self._tokens = warmup, 0, 0
        self._watch: Watch | None = None
        self._took = Seconds(0.0, 0.0)
        model.register_forward_pre_hook(self._count)

    def _count(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._done >= self._warmup:
            self._watch = self._watch or Watch()
            self._tokens += inputs[0].numel()

    def update(self, update: int) -> None:
        """An update was applied."""
        self._done = update
        if self._watch is not None:
            self._took = self._watch.read()

    def result(self, losses: Sequence[float]) -> Result:
        count = self._done - self._warmup
        return Result(self._took / count, self._tokens / count, statistics.fmean(losses))


class Losses(Callback):
    """Keeps the loss of every update."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def log(self, progress: Any) -> None:
        """A line of the log."""
        self.found.append(progress.values["loss"])


def ours(job: Job, config: LongRangeConfig, experiment: Experiment, rounds: Iterator[int], full: bool) -> Result:
    """Return what our loop takes; with `full` every sequence is padded to the peer's length."""
    torch.manual_seed(0)
    parts = RECIPE.parts(config)
    optimizer, _ = build_optimizer(config.optimizer, config.update, (parts.model, parts.objective))
    lengths = np.asarray(experiment.source.lengths)
    bucketed = lengths if config.loading.bucketing else None
    order = Order(len(lengths), job.batch_size, next(rounds), lengths=bucketed, window=config.loading.window)
    plan = make_plan(config, experiment.sizes)
    total = plan.total_updates
    rates = ClosedForm(config.schedule, optimizer, total, total)  # pyright: ignore[reportArgumentType] - ours, not a node
    state = State(parts.model, parts.objective, optimizer, rates, Best("dev/loss", "min"))
    collate = FullLength(experiment.collate, job.positions) if full else experiment.collate
    counter, losses = Counter(parts.model, job.warmup), Losses()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "console.txt").open("w") as terminal:
        run = claim(str(Path(folder) / "run"), "peers")
        trackers = open_trackers(["jsonl"])
        trackers.start(run.path, {})
        callbacks = [Journal(run, config, plan, state), ConsoleCallback(Console(file=terminal)), losses, counter]
        loop = Loop(
            plan=plan,
            state=state,
            data=Updates(experiment.source, collate, Spread(order, lengths, job.warmup, total - job.warmup), 0),
            seed=0,
            runtime=Runtime(torch.device("cpu"), torch.float32),
            checkpoints=Checkpoints(run.checkpoints),
            trackers=trackers,
            requests=Requests(run.path),
            callbacks=callbacks,
        )
        for callback in callbacks:
            callback.start(plan, 0, [])
        with loop.requests:
            loop.run()
        trackers.finish()
        for callback in callbacks:
            callback.end(state.update, "finished")
    return counter.result(losses.found)


def peer(job: Job, shape: Shape, examples: PaddedExamples, rate: float, recompute: bool) -> Result:
    """Return what the peer's loop takes."""
    torch.manual_seed(0)
    model = PaddedClassifier(shape, recompute)
    counter = Counter(model, job.warmup)
    losses: list[float] = []
    for loss in train_padded(model, examples, job.batch_size, job.limit, job.warmup + job.padded_updates, rate):
        losses.append(loss)
        counter.update(len(losses))
    return counter.result(losses)


def contestants(job: Job, folder: Path) -> tuple[dict[str, Callable[[], Result]], str]:
    """Return who trains the job, and a line on what they share."""
    config = configured(job, folder, job.updates)
    experiment = RECIPE.build(config)
    encoder = config.encoder
    assert encoder.vocab_size is not None and encoder.num_classes is not None
    shape = Shape(
        vocabulary=encoder.vocab_size,
        classes=encoder.num_classes,
        positions=job.positions,
        width=encoder.embedding_dim,
        hidden=encoder.hidden_dim,
        heads=encoder.num_heads,
        head_dim=encoder.head_dim,
        layers=encoder.num_layers,
        dropout=DROPOUT,
    )
    source = experiment.source
    single = [experiment.collate([source[i]], [i], [0], 0) for i in range(len(source))]
    sequences = [batch["tokens"][0].numpy() for batch in single]
    examples = PaddedExamples(sequences, [int(batch["labels"][0]) for batch in single], job.positions)
    rate = getattr(config.optimizer, "learning_rate", 1e-4)
    dropping = ["encoder.attention_dropout=0.0", f"attention.options.softmax.weight_dropout={DROPOUT}"]
    no_buckets = "loading.bucketing=false"
    unbucketed = configured(job, folder, job.updates, no_buckets)
    full = configured(job, folder, job.padded_updates, no_buckets)
    explicit = configured(job, folder, job.padded_updates, no_buckets, *dropping)
    calls: list[Callable[[], Result]] = [
        partial(peer, job, shape, examples, rate, recompute=True),
        partial(peer, job, shape, examples, rate, recompute=False),
        partial(ours, job, explicit, experiment, seeds(), full=True),
        partial(ours, job, full, experiment, seeds(), full=True),
        partial(ours, job, unbucketed, experiment, seeds(), full=False),
        partial(ours, job, config, experiment, seeds(), full=False),
    ]
    sizes = {sum(p.numel() for p in model.parameters()) for model in (experiment.parts.model, PaddedClassifier(shape))}
    if len(sizes) > 1:
        raise SystemExit(f"the models differ in size: {sizes}")
    mean = statistics.fmean(map(len, sequences))
    line = (
        f"{sizes.pop():,} parameters, batch {job.batch_size}, at most {job.limit} at once, dropout {DROPOUT}; "
        f"sequences of {mean:.0f} tokens on average, padded by the peer to {job.positions}"
    )
    return dict(zip((name for name, _ in STEPS), calls, strict=True)), line


def seeds() -> Iterator[int]:
    """Yield the seed of the order, another one in each round."""
    number = 0
    while True:
        yield number
        number += 1


def compare(job: Job, rounds: int, folder: Path) -> None:
    """Measure one job and print its tables."""
    calls, sizes = contestants(job, folder)
    found = alternate(calls, rounds)
    wall = {name: [each.took.wall for each in results] for name, results in found.items()}
    counts = f"{job.updates} updates" + (
        f" ({job.padded_updates} at full length)" * (job.updates != job.padded_updates)
    )
    print(f"\n{job.name}: {sizes}; {rounds} rounds of {counts}\n")
    rows: list[list[object]] = [
        [
            name,
            f"{spread([1e3 * value for value in wall[name]]):.0f}",
            f"{ratios(wall[name], wall[OURS]):.2f}",
            f"{ratios([each.took.cpu for each in results], [each.took.cpu for each in found[OURS]]):.2f}",
            f"{statistics.fmean(each.tokens for each in results):,.0f}",
            f"{statistics.fmean(each.loss for each in results):.3f}",
        ]
        for name, results in found.items()
    ]
    print(table(["", "ms per update", f"times {OURS}", "in CPU time", "tokens computed", "loss"], rows))
    print("\nwhere the difference comes from, each over the one before\n")
    names = [name for name, _ in STEPS]
    steps = [
        [what, f"{ratios(wall[before], wall[name]):.2f} times as fast"]
        for before, (name, what) in zip(names, STEPS[1:], strict=False)
    ]
    print(table(["", ""], steps), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="on short sequences")
    parser.add_argument("--long-rounds", type=int, default=3, help="on long sequences")
    parser.add_argument("--jobs", nargs="+", choices=["short", "long"], default=["short", "long"])
    parser.add_argument("--short-batch", type=int, default=64)
    parser.add_argument("--short-updates", type=int, default=6, help="timed in one training on short sequences")
    parser.add_argument("--batch", type=int, default=32, help="examples in a batch of long sequences")
    parser.add_argument("--samples", type=int, default=8, help="of them at once, for everybody; the peer's own is 32")
    parser.add_argument(
        "--updates", type=int, default=4, help="timed in one training on long sequences of unlike length"
    )
    parser.add_argument("--min-length", type=int, default=500, help="of the long sequences")
    parser.add_argument("--max-length", type=int, default=2000)
    chosen = parser.parse_args()
    print(f"{machine(torch.get_num_threads())}; median [quartiles], ratios round by round")
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        for job in jobs(chosen, Path(folder)):
            compare(job, chosen.long_rounds if job.warmup == 0 else chosen.rounds, Path(folder))
    print(f"\n{HRRFORMER_DIFFERS}\n")
    print(table(["Hrrformer", "ListOps", "Text", "Retrieval", "Image", "Pathfinder", "mean"], HRRFORMER))


if __name__ == "__main__":
    main()
