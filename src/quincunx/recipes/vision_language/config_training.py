"""The config's sections on how weights move, what is generated, measured and handed in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from quincunx.config.schema import Accepts, AnyCase, Section, When, lookup, unless, when
from quincunx.config.sections.run import Compute, Evaluate, Log
from quincunx.config.sections.training import AdamW, Apart, Course, Loading, Schedule, Update
from quincunx.recipes.vision_language.config_data import asks

ADAM = when("optimizer.kind", "adamw", "adam", "adamax")
APART = when("optimizer.separate_vision", True)
VISION = "vision_tower"
"""What the names of the image encoder's parameters begin with."""
GENERATES = When(
    "the objective is tasks and model.classifier is false",
    lambda config: config.objective == "tasks" and not config.model.classifier,
    ("objective", "model.classifier"),
)


DECAYS = When(
    "optimizer.weight_decay is not 0, or optimizer.separate_vision is true and optimizer.vision_weight_decay is not 0",
    lambda config: (
        lookup(config, "optimizer.weight_decay") != 0
        or (
            lookup(config, "optimizer.separate_vision") is True and lookup(config, "optimizer.vision_weight_decay") != 0
        )
    ),
    ("optimizer.weight_decay", "optimizer.separate_vision", "optimizer.vision_weight_decay"),
)


class VisionLanguageUpdate(Update):
    """One update: `accumulation` logical batches of `batch_size` examples, then one step of the optimizer."""

    no_decay: Annotated[bool, DECAYS] | None = None
    """Leave biases and the weights of norms out of weight decay. Unset: yes for ours, no for a `_target_` optimizer."""


class VisionLanguageOptimizer(AdamW):
    """The optimizer, with rates of its own for the image encoder where asked."""

    kind: Annotated[Literal["adamw", "adam", "adamax", "sgd", "rms"], AnyCase] = "adamw"  # pyright: ignore[reportIncompatibleVariableOverride] - wider
    """`adamw`; `adam` and `adamax` without decoupled decay; `sgd`, without momentum; `rms`, RMSprop. Or give `_target_`
    in its place."""
    learning_rate: float = Field(default=1e-4, ge=0)
    """Peak learning rate: of everything, or of all but the image encoder."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay: decoupled in `adamw`, part of the gradient in the others."""
    beta1: Annotated[float, ADAM] = Field(default=0.9, ge=0, lt=1)
    """Decay rate of the first running moment."""
    beta2: Annotated[float, ADAM] = Field(default=0.999, ge=0, lt=1)
    """Decay rate of the second."""
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]] | None, ADAM] = Field(  # pyright: ignore[reportIncompatibleVariableOverride] - may be unset
        default=None, min_length=2, max_length=2
    )
    """Both at once, in place of `beta1` and `beta2`."""
    eps: Annotated[float, unless("optimizer.kind", "sgd")] = Field(default=1e-6, gt=0)
    """Term added to the denominator."""
    separate_vision: bool = False
    """The image encoder has a rate and a decay of its own."""
    vision_learning_rate: Annotated[float, APART] = Field(default=1e-4, ge=0)
    """Its peak learning rate."""
    vision_weight_decay: Annotated[float, APART] = Field(default=0.01, ge=0)
    """Its weight decay."""
    vision_adam: Annotated[bool, APART] = True
    """It moves by the same optimizer; false: by SGD without momentum."""

    @property
    def moments(self) -> tuple[float, float]:
        """The decay rates of the two running moments: `betas`, else `beta1` and `beta2`."""
        return (self.beta1, self.beta2) if self.betas is None else (self.betas[0], self.betas[1])

    @property
    def apart(self) -> Mapping[str, Apart]:
        """The image encoder's settings, where it has its own."""
        if not self.separate_vision:
            return {}
        kind = self.kind if self.vision_adam else "sgd"
        return {VISION: Apart(self.vision_learning_rate, self.vision_weight_decay, kind)}


class VisionLanguageSchedule(Schedule):
    """The learning rate over the updates s = 0 .. T-1."""

    kind: Annotated[Literal["fixed", "exp_decay", "linear", "cos"], AnyCase] = "linear"
    """`fixed`, `exp_decay`, `linear` or `cos`, or give `_target_` in place of this section."""
    warmup_ratio: Annotated[float, when("schedule.kind", "linear", "cos"), when("schedule.warmup", 0)] = Field(
        default=0.05, ge=0, lt=1
    )
    """Share of all updates over which the rate rises to its peak, in whole updates, rounded down; `schedule.warmup`
    counts them in its place."""
    final_div_factor: Annotated[float, when("schedule.kind", "linear", "cos"), when("schedule.to_zero", False)] = Field(
        default=100.0, ge=1
    )
    """The last update's rate is learning_rate / final_div_factor."""
    to_zero: Annotated[bool, when("schedule.kind", "linear", "cos")] = True
    """The rate falls to zero, which it would reach one update after the last; false: to learning_rate /
    final_div_factor, which the last update has."""

    def course(self, total: int) -> Course:
        """Return where the rate turns; a share of the updates is rounded down to whole ones."""
        # through the decimal text, so that 0.29 of 100 updates are 29
        share = int(Fraction(repr(self.warmup_ratio)) * total)
        warmup = self.warmup or share
        return Course(warmup, math.inf if self.to_zero else self.final_div_factor, past_end=self.to_zero)


class VisionLanguageLoading(Loading):
    """How examples reach the engine."""

    bucketing: bool = False
    """Put examples of like length into the same batch. Off here: texts are short, and pictures have one size."""


class VisionLanguageEvaluate(Evaluate):
    """When and how the model is evaluated during training; never changes training."""

    only: bool = False
    """Train nothing: evaluate the weights that the run starts from, and write its report."""
    submit: Annotated[bool, when("objective", "tasks")] = False
    """Write the predictions of the last evaluation in the form that each task's leaderboard takes, those of
    `data.hidden` among them."""
    at_start: bool = False
    """Evaluate once before the first update: whether everything works is known at once."""


class Generate(Section):
    """How answers are generated, at evaluation and in `quincunx predict`."""

    beams: Annotated[int, GENERATES] = Field(default=1, ge=1)
    """Beams of the search, for captions and translations; questions are answered greedily unless `beams_everywhere`."""
    beams_everywhere: Annotated[bool, GENERATES, unless("generate.beams", 1)] = False
    """Search with beams in every task."""
    max_length: Annotated[int, GENERATES] = Field(default=20, ge=1)
    """Tokens of an answer, at most; captions and translations have 40 at least."""


class VisionLanguageLog(Log):
    """What is printed and tracked."""

    train_accuracy: Annotated[bool, asks("refcoco", "vcr")] = False
    """Log how often the training batch was answered rightly, for tasks that choose (refcoco, vcr)."""


class VisionLanguageCompute(Compute):
    """Hardware, precision, compilation."""

    multi_gpu: bool = False
    """Several processes share every batch; becomes `processes: auto`."""
    distributed: bool = False
    """The same."""
    local_rank: Annotated[int, Accepts("-1, or the rank that the launcher gave this process")] = Field(
        default=-1, ge=-1
    )
    """Of this process among those of its machine. -1: what the launcher says; anything else must be the same."""
    deepspeed: str | None = Field(default=None, min_length=1)
    """A configuration of DeepSpeed. It is not there yet, so it is refused."""
