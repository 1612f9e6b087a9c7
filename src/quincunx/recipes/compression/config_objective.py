"""The config's sections on what is learnt, and on how it is measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from quincunx.config.schema import Section, When, when
from quincunx.config.sections.run import Evaluate, Run
from quincunx.recipes.compression.config_blotch import LEVELS
from quincunx.recipes.compression.kinds import compresses, weights

WEIGHED = When(
    "data.context_length is set and objective.reconstruct_only is not",
    lambda config: config.data.context_length is not None and not config.objective.reconstruct_only,
    ("data.context_length", "objective.reconstruct_only"),
)
DISTILS = When(
    "objective.distillation is above 0",
    lambda config: "distillation" in weights(config),
    ("objective.distillation",),
)
COMPRESSING = When("something is compressed", compresses, ("data.context_length", "objective.reconstruct_only"))
ARITHMETIC = when("data.source", "arithmetic")
UNCOMPRESSED = When(
    "nothing is compressed",
    lambda config: not compresses(config),
    ("data.context_length", "objective.reconstruct_only"),
)
FORWARD = when("objective.reconstruct_only", False)
TOLD = When(
    "blotch.intensity_tokens is true, of blotch.p_max",
    lambda config: config.blotch.intensity_tokens and LEVELS.test(config),
    ("blotch.intensity_tokens", "blotch.p_max", "blotch.step"),
)

Weight = Annotated[float, Field(ge=0), WEIGHED]


class Objective(Section):
    """What is learnt. Each term is a mean over its own tokens, times its weight; where one is given, others are 0."""

    forward: Weight | None = None
    """Predict the text that follows a context from its compressed tokens. Unset: 1 where no other term is given."""
    reconstruction: Weight | None = None
    """Tell the context itself again from its compressed tokens."""
    plain: Weight | None = None
    """Predict context and text without any compression, as a language model does."""
    without: Weight | None = None
    """Predict the text without its context: trains the lower control that compression is measured against."""
    full: Weight | None = None
    """Predict the text after the whole context: trains the upper control, and what `distillation` teaches."""
    distillation: Weight | None = None
    """Make the predictions after a compressed context those after the whole one, from the same weights (divergence of
    Kullback and Leibler; no gradient flows into the teacher)."""
    temperature: Annotated[float, DISTILS] = Field(default=1.0, gt=0)
    """Both sides' logits are divided by it for `distillation`, whose loss is times its square."""
    reconstruct_only: bool = False
    """Only tell contexts again: `data.forward_length` is how long they are, and `data.context_length` is ignored."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of a target's probability that is spread over the vocabulary, in training."""
    initial_problem: Annotated[bool, ARITHMETIC, UNCOMPRESSED] = False
    """Predict the initial problem too, which nobody can know."""


class CompressionEvaluate(Evaluate):
    """When and how the model is evaluated during training; never changes training."""

    first: Annotated[int, COMPRESSING, FORWARD] = Field(default=8, ge=1)
    """Predicted positions over which the share of the gap that compression closes is reported besides all of them: what
    a context gives is felt there first."""
    generate: Annotated[int, ARITHMETIC, FORWARD] = Field(default=256, ge=0)
    """Examples of each split that are solved by generating, token by token, to judge whole answers; 0: none."""
    blotch_p: Annotated[float, TOLD] = Field(default=0.0, ge=0, le=1)
    """Intensity, of `blotch.intensity_tokens`, that evaluation asks for, the nearest of the levels: how much a
    generated solution is to leave out."""


class CompressionRun(Run):
    """The run's folder."""

    root: Annotated[str, when("run.dir", None)] | None = Field(default=None, min_length=1)
    """Where the run's folder is made, as `<root>/<name>/<name>-<number>`. Unset: `runs/<name>-<number>`."""
