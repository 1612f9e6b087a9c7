"""Training loops over the toys, quick enough for a test each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from quincunx.config.plan import interval
from quincunx.config.sections.training import Schedule
from quincunx.data.batch import Batch
from quincunx.data.loader import Updates
from quincunx.data.order import Order
from quincunx.engine.checkpoint import Checkpoints
from quincunx.engine.events import Callback, Requests
from quincunx.engine.loop import Loop
from quincunx.engine.objective import Represented
from quincunx.engine.schedule import build_schedule
from quincunx.engine.state import Best, State
from quincunx.metrics.record import Evaluation
from quincunx.runs import read_metrics
from quincunx.track import open_trackers
from toys import Encoder, TwoTerms, cpu, labelled, pairs, plan

EXAMPLES, BATCH, PER_EPOCH = 14, 4, 4
"""The last batch of an epoch is short."""


class Examples:
    """The rows of one batch of the toys as a source, their order and their collation."""

    lengths = None

    def __init__(self, rows: Batch) -> None:
        self.all = rows

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, examples: Sequence[int], ids: Sequence[int], rows: Sequence[int], seed: int) -> Batch:
        chosen = self.all.select(list(examples))
        return Batch(chosen.tensors, torch.tensor(list(rows)), [f"id-{i}" for i in ids], chosen.lengths, chosen.padded)


class Recorder(Callback):
    """Writes down every event."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def update(self, update: int) -> None:
        self.events.append(("update", update))

    def log(self, progress: Any) -> None:
        self.events.append(("log", progress.update))

    def evaluation(self, update: int, split: str, evaluation: Evaluation) -> None:
        self.events.append(("evaluation", update, split))

    def checkpoint(self, update: int, path: Path, best: bool) -> None:
        self.events.append(("checkpoint", update, best))

    def of(self, kind: str) -> list[int]:
        return [event[1] for event in self.events if event[0] == kind]


def scripted(values: Sequence[float]) -> Callable[..., Evaluation]:
    """Return an evaluator that gives these values, one after another."""
    left = iter(values)
    return lambda model, runtime, plan: Evaluation({"score": next(left)})


def build(folder: Path, **changes: Any) -> Loop:
    """Return a loop over the toys, 4 updates an epoch, 2 epochs, the same weights each time.

    `changes` are fields of the loop, its state or its plan, and functions that make the model and the objective.
    """
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model, objective = changes.pop("model", Encoder)(), changes.pop("objective", TwoTerms)()
    optimizer = torch.optim.SGD([*model.parameters(), *objective.parameters()], lr=0.1)
    total = changes.pop("total", 2 * PER_EPOCH)
    rates, _ = build_schedule(changes.pop("schedule", Schedule(kind="linear")), optimizer, total, PER_EPOCH)
    fields: dict[str, Any] = {"log_every": 100, "total_updates": total, "stop_at": total}
    fields |= {"updates_per_epoch": PER_EPOCH, "batch_size": BATCH, "train_examples": EXAMPLES}
    for name in ("evaluate_every", "checkpoint_every"):
        fields[name] = interval(changes.pop(name, None), PER_EPOCH)
    fields |= {name: changes.pop(name) for name in list(changes) if name in plan().__dataclass_fields__}
    rows = pairs(EXAMPLES) if isinstance(objective, Represented) else labelled(EXAMPLES)
    source, order = Examples(rows), Order(EXAMPLES, BATCH, 1, accumulation=fields.get("accumulation", 1))
    trackers = open_trackers(["jsonl"])
    trackers.start(folder, {})
    best = Best("dev/score", changes.pop("goal", "max"))
    settings: dict[str, Any] = {
        "plan": plan(**fields),
        "state": State(model, objective, optimizer, rates, best, changes.pop("scaler", None)),
        "data": Updates(source, source.collate, order, 1),
        "seed": 1,
        "runtime": cpu(),
        "checkpoints": Checkpoints(folder / "checkpoints", changes.pop("keep", 100)),
        "trackers": trackers,
        "requests": Requests(folder),
    }
    return Loop(**{**settings, **changes})


def logged(folder: Path, name: str) -> dict[int, float]:
    """Return a metric of the metrics file by update, name as `split/name`."""
    rows = read_metrics(folder / "metrics.jsonl")
    return {row["update"]: row["value"] for row in rows if f"{row['split']}/{row['name']}" == name}


class Counting(TwoTerms):
    """Counts its updates in a buffer, as a queue or a moving average would change."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def after_update(self) -> None:
        self.updates += 1
