"""The config of the `compression` recipe: its own sections round the shared ones.

Sections are declared by theme in `config_data`, `config_generated`, `config_model`, `config_positions`, `config_blotch`
and `config_objective`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from quincunx.config.schema import RecipeSchema, TargetNode, target_or, when
from quincunx.config.sections.peft import Peft
from quincunx.config.sections.run import Checkpoint, Common, Compute, Debug, Log
from quincunx.config.sections.training import (
    AdamW,
    Budget,
    Loading,
    RateSchedule,
    Schedule,
    SummedChunking,
    Update,
)
from quincunx.recipes.compression.config_blotch import Blotch
from quincunx.recipes.compression.config_data import Data, Tokenizer
from quincunx.recipes.compression.config_generated import DRAWN, Arithmetic, Tasks
from quincunx.recipes.compression.config_model import Compress, Model
from quincunx.recipes.compression.config_objective import COMPRESSING, CompressionEvaluate, CompressionRun, Objective
from quincunx.recipes.compression.config_positions import Positions
from quincunx.recipes.compression.measured import metrics_of
from quincunx.recipes.compression.names import GUIDE_ROOTS, NAMES
from quincunx.recipes.compression.rules import RULES
from quincunx.recipes.compression.starter import STARTER

CompressionOptimizer = Annotated[Annotated[AdamW, Tag("adamw")] | TargetNode, target_or("adamw")]


class CompressionConfig(Common):
    """An experiment with a language model: compressed contexts, blotched texts, positions, arithmetic."""

    recipe: Literal["compression"] = "compression"  # pyright: ignore[reportIncompatibleVariableOverride] - frozen
    """`compression`."""
    data: Data = Field(default_factory=Data)
    """What is trained and measured on."""
    arithmetic: Annotated[Arithmetic, when("data.source", "arithmetic"), DRAWN] = Field(default_factory=Arithmetic)
    """Sums and products solved step by step, made by rule."""
    tasks: Annotated[Tasks, when("data.source", "tasks")] = Field(default_factory=Tasks)
    """Tasks on formal languages, made by rule, to measure generalisation in length."""
    tokenizer: Tokenizer = Field(default_factory=Tokenizer)
    """The tokenizer of a model that is built."""
    model: Model = Field(default_factory=Model)
    """The language model."""
    compress: Annotated[Compress, COMPRESSING] = Field(default_factory=Compress)
    """How contexts are compressed."""
    positions: Positions = Field(default_factory=Positions)
    """What tells a token its place."""
    blotch: Blotch = Field(default_factory=Blotch)
    """What is left out of texts in training."""
    objective: Objective = Field(default_factory=Objective)
    """What is learnt."""
    peft: Peft = Field(default_factory=Peft)
    """Options of the adapters, where `model.train` has lora."""
    update: Update = Field(default_factory=Update)
    """What one update is."""
    chunking: SummedChunking = Field(default_factory=SummedChunking)
    """How a logical batch is cut."""
    loading: Loading = Field(default_factory=Loading)
    """How examples reach the engine."""
    budget: Budget = Field(default_factory=Budget)
    """How long training goes on."""
    optimizer: CompressionOptimizer = Field(default_factory=AdamW)
    """The optimizer: ours (`kind`), or any `torch.optim.Optimizer` by `_target_`."""
    schedule: RateSchedule = Field(default_factory=Schedule)
    """The learning rate over time: ours (`kind`), or a scheduler by `_target_`."""
    evaluate: CompressionEvaluate = Field(default_factory=CompressionEvaluate)
    """Evaluation during training."""
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    """Saving."""
    log: Log = Field(default_factory=Log)
    """Printing and tracking."""
    run: CompressionRun = Field(default_factory=CompressionRun)  # pyright: ignore[reportIncompatibleVariableOverride] - frozen
    """The run's folder."""
    compute: Compute = Field(default_factory=Compute)
    """Hardware, precision, compilation."""
    debug: Debug = Field(default_factory=Debug)
    """Short looks at a run."""


SCHEMA = RecipeSchema(
    name="compression",
    summary="Language models that compress contexts, learn to skip steps (blotching) and generalise in length",
    config=CompressionConfig,
    names=NAMES,
    rules=RULES,
    guide_roots=GUIDE_ROOTS,
    starter=STARTER,
    comments="_",
    metrics=metrics_of,
)
