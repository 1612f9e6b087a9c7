"""Rules between the shared settings, used by every recipe that has them."""

from __future__ import annotations

from quincunx.config.plan import total_updates
from quincunx.config.schema import Rule, Sizes, lookup

RULES: tuple[Rule, ...] = (
    Rule(
        name="epochs-or-updates",
        paths=("budget.updates", "budget.epochs"),
        applies=lambda config: config.budget.updates is not None and config.budget.epochs is not None,
        message="budget.updates ({budget.updates}) and budget.epochs ({budget.epochs}) both say how long to train",
        remedy="keep one of the two",
        failing={"budget.updates": 10, "budget.epochs": 2},
    ),
    Rule(
        name="two-intervals-of-saving",
        paths=("checkpoint.every_batches", "checkpoint.every"),
        applies=lambda config: (
            config.checkpoint.every_batches is not None and config.checkpoint.every not in ("epoch", None)
        ),
        message="checkpoint.every ({checkpoint.every}) and checkpoint.every_batches ({checkpoint.every_batches}) both "
        "say how often to save",
        remedy="keep one of the two",
        failing={"checkpoint.every": 10, "checkpoint.every_batches": 20},
    ),
    Rule(
        name="processes-on-one-device",
        paths=("compute.processes", "compute.device"),
        applies=lambda config: (
            config.compute.processes not in (None, 1)
            and (config.compute.device == "mps" or config.compute.device.startswith("cuda:"))
        ),
        message="compute.processes is {compute.processes}, but compute.device {compute.device} is a single one",
        remedy="set compute.device to cuda, cpu or auto, or leave processes out",
        failing={"compute.processes": 2, "compute.device": "cuda:0"},
    ),
    Rule(
        name="compiled-on-mps",
        paths=("compute.compile", "compute.device"),
        applies=lambda config: config.compute.compile and config.compute.device == "mps",
        message="compute.compile is not tried on device mps",
        remedy="set compute.compile=false",
        failing={"compute.compile": True, "compute.device": "mps"},
    ),
    Rule(
        name="dead-patience",
        paths=("evaluate.patience",),
        applies=lambda config: config.evaluate.patience is not None and config.evaluate.every is None,
        message="evaluate.patience counts evaluations, but evaluate.every is null: there is only the one at the end",
        remedy="set evaluate.every, or leave patience out",
        failing={"evaluate.patience": 2, "evaluate.every": None},
    ),
    Rule(
        name="goal-without-metric",
        paths=("evaluate.goal",),
        applies=lambda config: config.evaluate.goal is not None and config.evaluate.metric is None,
        message="evaluate.goal says how to read a metric, but evaluate.metric names none",
        remedy="name the metric, for example evaluate.metric=dev/accuracy",
        failing={"evaluate.goal": "max"},
    ),
    Rule(
        name="metric-without-goal",
        paths=("evaluate.metric",),
        applies=lambda config: (
            config.evaluate.metric is not None
            and config.evaluate.goal is None
            and not config.evaluate.metric.endswith(("/accuracy", "/loss"))
        ),
        message="whether {evaluate.metric} should grow or shrink is not known",
        remedy="set evaluate.goal to max or min",
        failing={"evaluate.metric": "dev/spread"},
    ),
    Rule(
        name="stop-after-the-end",
        paths=("budget.stop_at",),
        applies=lambda config, sizes: (
            config.budget.stop_at is not None and config.budget.stop_at > total_updates(config, sizes)
        ),
        message="budget.stop_at is {budget.stop_at}, after the last update",
        remedy="leave it out, or raise budget.epochs or budget.updates",
        failing={"budget.stop_at": 1000, "budget.updates": 10},
        severity="warning",
        stage="sized",
        sizes=Sizes(train=100),
    ),
    Rule(
        name="warmup-fills-training",
        paths=("schedule.warmup",),
        applies=lambda config, sizes: (
            lookup(config, "schedule.kind") in ("linear", "cos")
            and config.schedule.course(total := total_updates(config, sizes)).warmup >= total
        ),
        message="schedule.warmup ({schedule.warmup} updates) leaves no update of the training to the schedule itself",
        remedy="lower schedule.warmup, or train longer",
        failing={"schedule.kind": "linear", "schedule.warmup": 10, "budget.updates": 10},
        stage="sized",
        sizes=Sizes(train=100),
    ),
)
