"""Config + sizes -> the arithmetic of the whole run, worked out once and never changed.

An *update* is `accumulation` logical batches; a *logical batch* is global over processes and is the pool of in-batch
negatives; a *chunk* is a unit of memory and never has a meaning. Every interval ends up here as a number of updates.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal

from quincunx.config.schema import Sizes, lookup


@dataclass(frozen=True)
class Interval:
    """A distance between events in updates; a share of an epoch need not be a whole number of them."""

    updates: Fraction

    def fires(self, update: int) -> bool:
        """Tell whether the event falls on this update (from 1): the first at or after each multiple."""
        share, whole = self.updates.denominator, self.updates.numerator
        return update * share // whole > (update - 1) * share // whole

    def __str__(self) -> str:
        return str(self.updates) if self.updates.denominator == 1 else f"{float(self.updates):.12g}"


def interval(frequency: int | float | str | None, updates_per_epoch: int | Fraction) -> Interval | None:
    """Return the interval for `epoch`, an int number of updates, or a float share of an epoch; None stays None."""
    if frequency is None:
        return None
    if frequency == "epoch":
        return Interval(max(Fraction(1), Fraction(updates_per_epoch)))
    if isinstance(frequency, float):
        # through the decimal text, so that 0.1 means a tenth and multiples meet the ends of epochs
        return Interval(max(Fraction(1), Fraction(repr(frequency)) * updates_per_epoch))
    return Interval(Fraction(frequency))


@dataclass(frozen=True)
class Plan:
    """The run's arithmetic; saved beside the config, and what a resume follows."""

    train_examples: int
    batch_size: int
    """Examples in a logical batch, over all processes."""
    accumulation: int
    """Logical batches in an update."""
    batches_per_epoch: int
    """Logical batches in an epoch: those of one pass over the data, or as many as the budget says."""
    updates_per_epoch: int | Fraction
    """Not a whole number only where the budget's epoch ends within an update."""
    total_updates: int
    """Where schedules end."""
    stop_at: int
    """Where this run ends: `total_updates` or earlier."""
    log_every: int
    evaluate_every: Interval | None
    checkpoint_every: Interval | None
    chunk_samples: int | None
    chunk_tokens: int | None
    graphs: Literal["auto", "keep", "replay"]
    graph_memory: int | None
    """MiB that kept graphs may hold under `auto`; None is half of what is free."""
    evaluation_batch: int
    evaluation_limit: int | None
    """At most this many examples of the development split are evaluated."""
    sizes: Sizes = field(default_factory=lambda: Sizes(train=1))
    parameters: dict[str, int] | None = None
    """`trainable` and `total` numbers of parameters, once the model is known."""
    memory: dict[str, int] | None = None
    """Estimated bytes by purpose, once the model is known."""

    def with_model(self, parameters: dict[str, int], memory: dict[str, int] | None = None) -> Plan:
        """Return the plan with what only the model can tell."""
        return replace(self, parameters=parameters, memory=memory)

    def to_json(self) -> dict[str, Any]:
        """Return plain containers; intervals as numbers of updates in text."""
        plain = asdict(self)
        for name in ("evaluate_every", "checkpoint_every"):
            value = getattr(self, name)
            plain[name] = None if value is None else str(value)
        if isinstance(self.updates_per_epoch, Fraction):
            plain["updates_per_epoch"] = float(self.updates_per_epoch)
        return plain


def epoch_length(config: Any, sizes: Sizes) -> tuple[int, int | Fraction]:
    """Return the logical batches and the updates of an epoch.

    A pass over the data ends with an update of its own, which may have fewer logical batches; an epoch of so many
    logical batches (`budget.batches_per_epoch`) goes on where the one before it stopped, and need not end with one.
    """
    accumulation, asked = config.update.accumulation, config.budget.batches_per_epoch
    if asked is None:
        batches = sizes.batches(config.update.batch_size)
        return batches, -(-batches // accumulation)
    updates = Fraction(asked, accumulation)
    return asked, int(updates) if updates.denominator == 1 else updates


def total_updates(config: Any, sizes: Sizes) -> int:
    """Return the number of updates that the budget asks for."""
    if config.budget.updates is not None:
        return config.budget.updates
    return math.ceil(epoch_length(config, sizes)[1] * (config.budget.epochs or 1))


def make_plan(config: Any, sizes: Sizes, chunk_samples: int | None = None) -> Plan:
    """Return the plan of a checked config.

    `chunk_samples` is the recipe's own limit besides `chunking.samples`; the smaller applies.
    """
    update, budget = config.update, config.budget
    batches, per_epoch = epoch_length(config, sizes)
    total = total_updates(config, sizes)
    limits = [limit for limit in (config.chunking.samples, chunk_samples) if limit is not None]
    chunk = min(limits) if limits else None
    evaluation, saving = config.evaluate, config.checkpoint
    saved = interval(saving.every, per_epoch)
    if saving.every_batches is not None:
        saved = Interval(max(Fraction(1), Fraction(saving.every_batches, update.accumulation)))
    return Plan(
        train_examples=sizes.train,
        batch_size=update.batch_size,
        accumulation=update.accumulation,
        batches_per_epoch=batches,
        updates_per_epoch=per_epoch,
        total_updates=total,
        stop_at=0 if getattr(config.evaluate, "only", False) else min(total, budget.stop_at or total),
        log_every=config.log.every,
        evaluate_every=interval(evaluation.every, per_epoch),
        checkpoint_every=saved,
        chunk_samples=chunk,
        chunk_tokens=config.chunking.tokens,
        graphs=config.chunking.graphs,
        graph_memory=config.chunking.graph_memory,
        evaluation_batch=evaluation.batch_size or min(update.batch_size, chunk or update.batch_size),
        evaluation_limit=evaluation.max_batches * update.batch_size if evaluation.max_batches else None,
        sizes=sizes,
    )


def describe(plan: Plan, config: Any) -> list[tuple[str, str]]:
    """Return the plan as pairs of label and text for the terminal."""
    rows = [
        ("training examples", f"{plan.train_examples:,}"),
        (
            "one update",
            f"{plan.accumulation} logical batch{'es' if plan.accumulation > 1 else ''} of {plan.batch_size} examples",
        ),
        ("updates per epoch", f"{float(plan.updates_per_epoch):,.12g} ({plan.batches_per_epoch:,} logical batches)"),
        ("updates in all", f"{plan.total_updates:,}" + _stop(plan)),
        ("chunks", _chunks(plan)),
        ("evaluation", _every(plan.evaluate_every) + _evaluated(plan, config.evaluate)),
        ("checkpoints", _every(plan.checkpoint_every)),
        ("log", _every(Interval(Fraction(plan.log_every)))),
        ("schedule", _schedule(plan, config)),
    ]
    if plan.parameters:
        trainable, total = plan.parameters["trainable"], plan.parameters["total"]
        share = 100 * trainable / total if total else 0.0
        rows.append(("parameters", f"{trainable:,} trainable of {total:,} ({share:.4g} %)"))
    if plan.memory:
        parts = ", ".join(f"{name} {_bytes(size)}" for name, size in plan.memory.items() if name != "total")
        rows.append(("memory, estimated", f"{_bytes(plan.memory['total'])} ({parts})"))
    return rows


def _stop(plan: Plan) -> str:
    return f", this run stops at {plan.stop_at:,}" if plan.stop_at < plan.total_updates else ""


def _every(found: Interval | None) -> str:
    if found is None:
        return "at the end only"
    return "every update" if found.updates == 1 else f"every {float(found.updates):,.12g} updates"


def _evaluated(plan: Plan, evaluation: Any) -> str:
    dev = plan.sizes.evaluation.get("dev")
    if dev is None:
        return ""
    by_tokens = evaluation.BY_TOKENS and evaluation.batch_size is None
    together = "as many at once as a budget of tokens allows" if by_tokens else f"{plan.evaluation_batch} at once"
    return f", on {min(dev, plan.evaluation_limit or dev):,} development examples, {together}"


def _chunks(plan: Plan) -> str:
    limits: list[str] = []
    if plan.chunk_samples is not None:
        limits.append(f"{plan.chunk_samples} examples")
    if plan.chunk_tokens is not None:
        limits.append(f"{plan.chunk_tokens:,} tokens")
    if not limits:
        return "none: a logical batch is computed whole"
    return f"a logical batch is computed at most {' and '.join(limits)} at once, with the same gradient"


def _schedule(plan: Plan, config: Any) -> str:
    kind = lookup(config, "schedule.kind")
    if kind is None:
        return f"{lookup(config, 'schedule.target')}"
    if kind in ("linear", "cos"):
        course = config.schedule.course(plan.total_updates)
        end = "zero after the last one" if course.past_end else f"1/{course.final_div_factor:g} at the end"
        return f"{kind}, {course.warmup:,} updates of warm-up, {end}"
    return f"{kind}, times {config.schedule.decay:g} per epoch" if kind == "exp_decay" else kind


def _bytes(size: int) -> str:
    value = float(size)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} GiB"
