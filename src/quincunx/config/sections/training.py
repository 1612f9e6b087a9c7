"""What one update is, how it is cut, how far training goes and how weights move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, Tag

from quincunx.config.schema import AnyCase, Section, TargetNode, When, target_or, unless, when


class Update(Section):
    """One update: `accumulation` logical batches of `batch_size` examples, then one step of the optimizer."""

    batch_size: int = Field(default=32, ge=1)
    """Examples in a logical batch, over all processes together."""
    accumulation: int = Field(default=1, ge=1)
    """Logical batches per update, averaged by their weights; the last update of an epoch may have fewer."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Scale gradients down to this total L2 norm. Unset or null: no clipping."""
    no_decay: Annotated[bool, unless("optimizer.weight_decay", 0)] | None = None
    """Leave biases and the weights of norms out of weight decay. Unset: yes for ours, no for a `_target_` optimizer."""


class Chunking(Section):
    """How a logical batch is cut to fit into memory. Never changes a gradient."""

    samples: int | None = Field(default=None, ge=1)
    """At most this many examples at once. Unset: no such limit."""
    tokens: int | None = Field(default=None, ge=1)
    """At most this many tokens at once, padding counted (longest example times examples). Unset: no such limit."""
    graphs: Annotated[Literal["auto", "keep", "replay"], AnyCase] = "auto"
    """For objectives over a whole batch: `keep` every chunk's graph, or `replay` its forward pass to save memory;
    `auto` keeps graphs while they fit into `graph_memory`, a single chunk's always, and replays the rest."""
    graph_memory: Annotated[int, when("chunking.graphs", "auto")] | None = Field(default=None, ge=0)
    """MiB that kept graphs may hold. Unset: half of the memory that is free when training starts."""


SUMMED = When("the objective compares the examples of a batch, which this recipe's does not", lambda config: False)


class SummedChunking(Chunking):
    """How a logical batch is cut to fit into memory. Never changes a gradient."""

    graphs: Annotated[Literal["auto", "keep", "replay"], AnyCase, SUMMED] = "auto"
    """Keep or replay the graphs of chunks, for objectives over a whole batch. No choice here: the loss is a sum over
    examples, so each chunk's graph is used up at once."""
    graph_memory: Annotated[int, SUMMED] | None = Field(default=None, ge=0)
    """MiB that kept graphs may hold, for the same objectives."""


class Loading(Section):
    """How examples reach the engine."""

    bucketing: bool = True
    """Put examples of like length into the same batch, so that little is padded; an epoch still sees each one once."""
    window: Annotated[int, when("loading.bucketing", True)] = Field(default=50, ge=1)
    """Batches whose examples are sorted by length together; larger pads less, smaller shuffles more."""
    workers: int = Field(default=0, ge=0)
    """Processes that load examples; 0 loads in the training process."""


class Budget(Section):
    """How long training goes on."""

    epochs: int | None = Field(default=None, ge=1)
    """Passes over the training data. Unset: 1, or as many as `updates` needs."""
    updates: int | None = Field(default=None, ge=1)
    """Total number of updates, in place of `epochs`; schedules end there."""
    batches_per_epoch: int | None = Field(default=None, ge=1)
    """Logical batches in an epoch, which then goes on in the data where the one before it stopped: so one evaluates and
    saves more often, or less, than once a pass. Unset: an epoch is a pass over the data."""
    stop_at: int | None = Field(default=None, ge=1)
    """End this run after so many updates, leaving schedules as the total says; `--resume` with a later one goes on."""


@dataclass(frozen=True)
class Apart:
    """How the parameters of one part of the model move, where they have settings of their own."""

    learning_rate: float
    """Peak learning rate."""
    weight_decay: float
    """Weight decay, as this kind of optimizer understands it."""
    kind: str
    """The kind of optimizer, a word that `optimizer.kind` may have."""


class AdamW(Section):
    """AdamW with decoupled weight decay."""

    kind: Annotated[Literal["adamw"], AnyCase] = "adamw"
    """`adamw`, or give `_target_` in its place."""
    learning_rate: float = Field(default=1e-3, ge=0)
    """Peak learning rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        default_factory=lambda: [0.9, 0.999], min_length=2, max_length=2
    )
    """Decay rates of the two running moments."""
    eps: float = Field(default=1e-8, gt=0)
    """Term added to the denominator."""

    @property
    def moments(self) -> tuple[float, float]:
        """The decay rates of the two running moments."""
        return self.betas[0], self.betas[1]

    @property
    def apart(self) -> Mapping[str, Apart]:
        """Parts of the model with settings of their own, by the first words of their parameters' names."""
        return {}


@dataclass(frozen=True)
class Course:
    """Where the rate of `linear` and `cos` turns, in a training of T updates."""

    warmup: int
    """Updates over which the rate rises to its peak."""
    final_div_factor: float
    """What the peak is divided by at the end of the fall; infinity: it falls to zero."""
    past_end: bool
    """The fall ends one update after the last, which so has a rate above that of the end; false: on the last."""


class Schedule(Section):
    """The learning rate over the updates s = 0 .. T-1."""

    kind: Annotated[Literal["fixed", "exp_decay", "linear", "cos"], AnyCase] = "fixed"
    """`fixed`, `exp_decay`, `linear` or `cos`, or give `_target_` in place of this section."""
    decay: Annotated[float, when("schedule.kind", "exp_decay")] = Field(default=0.9, gt=0)
    """Factor of the learning rate per epoch: after e epochs it is exactly learning_rate * decay^e."""
    smooth: Annotated[bool, when("schedule.kind", "exp_decay")] = False
    """Decay a little at every update (the same value at the ends of epochs) instead of once an epoch."""
    warmup: Annotated[int, when("schedule.kind", "linear", "cos")] = Field(default=0, ge=0)
    """Updates over which the rate rises linearly to its peak."""
    final_div_factor: Annotated[float, when("schedule.kind", "linear", "cos")] = Field(default=100.0, ge=1)
    """The last update's rate is learning_rate / final_div_factor."""

    def course(self, total: int) -> Course:
        """Return where the rate of `linear` and `cos` turns in a training of so many updates."""
        del total  # the warm-up is counted in updates here; a recipe may give it as a share of them
        return Course(self.warmup, self.final_div_factor, past_end=False)


Optimizer = Annotated[Annotated[AdamW, Tag("adamw")] | TargetNode, target_or("adamw")]
RateSchedule = Annotated[Annotated[Schedule, Tag("schedule")] | TargetNode, target_or("schedule")]
