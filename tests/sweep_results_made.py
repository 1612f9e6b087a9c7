"""Records of sweeps that never ran, for tests of what is made of results."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from quincunx.sweep.records import RunRecord, RunState, SweepRecord, TrialRecord
from quincunx.sweep.report import Facts, RangeFact

RANGES = (
    RangeFact("optimizer.learning_rate", ("optimizer.learning_rate",), True),
    RangeFact("size", ("encoder.num_layers", "encoder.model_dim")),
    RangeFact("attention.kind", ("attention.kind",)),
    RangeFact("attention.random_features", ("attention.random_features",)),
    RangeFact("encoder.dropout", ("encoder.dropout",), False),
)


def trial(
    number: int,
    found: Sequence[float | None],
    settings: Mapping[str, Any] | None = None,
    *,
    seeds: Sequence[int] | None = None,
    state: RunState = "done",
    **run: Any,
) -> TrialRecord:
    """Return a trial with one run for each value that was found; seeds count up from 1."""
    given = settings if settings is not None else {"lr": 0.1 * (number + 1)}
    runs = [
        replace(
            RunRecord(
                number=number * len(found) + place,
                trial=number,
                replicate=place,
                seed=(seeds or range(1, len(found) + 1))[place],
                folder=f"toy_{number * len(found) + place}",
                hash=f"{number}-{place}",
                state=state,
                update=100,
                total=100,
                value=value,
                values={50: value / 2, 100: value} if value is not None else {},
                seconds=60.0 + number,
                memory=(100 + number) << 20,
            ),
            **run,
        )
        for place, value in enumerate(found)
    ]
    return TrialRecord(number, given, given, runs)


def sweep(*trials: TrialRecord) -> SweepRecord:
    return SweepRecord(trials, hours=0.5)


def facts(**changes: Any) -> Facts:
    base = Facts(
        name="toy-sweep",
        dir=Path("runs/toy-sweep"),
        metric="dev/accuracy",
        goal="max",
        sampler="random",
        pruner="none",
        n_seeds=3,
        ranges=(RangeFact("lr", ("lr",), False),),
        command="quincunx sweep toy.yaml",
        written="Written today.",
    )
    return replace(base, **changes)


def realistic(count: int = 60, seeds: int = 3, evaluations: int = 20, loss: bool = False) -> SweepRecord:
    """Return a random search over five ranges, one conditional; some configurations fail, some are pruned."""
    generator = random.Random(7)
    sizes = [(2, 64), (2, 128), (4, 128), (6, 256)]
    trials: list[TrialRecord] = []
    for number in range(count):
        size = generator.randrange(4)
        kind = generator.randrange(3)
        rate = float(f"{10 ** generator.uniform(-4.5, -1.5):.6g}")
        dropout = round(generator.uniform(0, 0.5), 3)
        point: dict[str, Any] = {"optimizer.learning_rate": rate, "size": size, "attention.kind": kind}
        settings: dict[str, Any] = {
            "optimizer.learning_rate": rate,
            "encoder.num_layers": sizes[size][0],
            "encoder.model_dim": sizes[size][1],
            "attention.kind": ["softmax", "performer", "hrr"][kind],
        }
        if kind == 1:
            point["attention.random_features"] = generator.randrange(3)
            settings["attention.random_features"] = [64, 128, 256][point["attention.random_features"]]
        point["encoder.dropout"] = settings["encoder.dropout"] = dropout
        quality = (
            0.62 - 0.05 * (math.log10(rate) + 3) ** 2 + 0.012 * size - 0.03 * (kind == 2) - 0.15 * (dropout - 0.1) ** 2
        )
        state: RunState = "done"
        if rate > 0.015 and generator.random() < 0.6:
            state = "failed"
        elif quality < 0.56 and generator.random() < 0.5:
            state = "pruned"
        elif number >= count - 2:
            state = "running"
        last = {"done": evaluations, "failed": 3, "pruned": 7, "running": evaluations // 2}.get(state, 0)
        runs: list[RunRecord] = []
        for replicate in range(seeds):
            luck = generator.gauss(0, 0.006)
            line: dict[int, float] = {}
            top = -math.inf
            for step in range(1, last + 1):
                height = 0.1 + (quality - 0.1) * (1 - math.exp(-step * (0.1 + 60 * rate**0.7) / 4)) + luck
                top = max(top, height + generator.gauss(0, 0.006))
                line[step * 100] = 1 - top if loss else top
            own = state if state != "failed" or replicate == 0 else "done"
            runs.append(
                RunRecord(
                    number=number * seeds + replicate,
                    trial=number,
                    replicate=replicate,
                    seed=11 + replicate,
                    folder=f"lra_{number * seeds + replicate}_learning_rate{rate}",
                    hash=f"{number}-{replicate}",
                    state=own,
                    update=100 * last,
                    total=100 * evaluations,
                    value=None if own in ("failed", "running") else line[100 * last],
                    values=line,
                    seconds=(20 + 9 * size**1.7 + 8 * (kind == 0) * size + generator.random() * 4) * last / 4,
                    memory=int((400 + 170 * size + 90 * (kind == 0) * size + 30 * generator.random()) * 2**20),
                    reason="the loss is nan at update 312: lower optimizer.learning_rate" if own == "failed" else "",
                )
            )
        trials.append(TrialRecord(number, point, settings, runs))
    return SweepRecord(trials, hours=1.7)


def realistic_facts(**changes: Any) -> Facts:
    return facts(
        name="listops-sweep",
        dir=Path("runs/listops-sweep"),
        ranges=RANGES,
        pruner="median",
        command="quincunx sweep examples/long_range/listops.yaml",
        **changes,
    )
