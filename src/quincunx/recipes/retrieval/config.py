"""The config of the `retrieval` recipe: its own sections round the shared ones.

Sections are declared by theme in `config_data`, `config_model` and `config_objective`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, Tag

from quincunx.config.schema import RecipeSchema, TargetNode, target_or, unless
from quincunx.config.sections.peft import Peft
from quincunx.config.sections.run import Common, Debug, Log
from quincunx.config.sections.training import Budget, RateSchedule, Schedule, Update
from quincunx.recipes.retrieval.config_data import Data
from quincunx.recipes.retrieval.config_model import Cross, Document, Encoder, Poly, Query
from quincunx.recipes.retrieval.config_objective import (
    Memory,
    Objective,
    RetrievalAdamW,
    RetrievalCheckpoint,
    RetrievalChunking,
    RetrievalCompute,
    RetrievalEvaluate,
    RetrievalLoading,
    RetrievalRun,
)
from quincunx.recipes.retrieval.defaults import prepare
from quincunx.recipes.retrieval.measured import metrics_of
from quincunx.recipes.retrieval.names import GUIDE_ROOTS, NAMES, spelled
from quincunx.recipes.retrieval.rules import RULES
from quincunx.recipes.retrieval.starter import STARTER

EMBEDS = unless("mode", "cross-encoder")
RetrievalOptimizer = Annotated[Annotated[RetrievalAdamW, Tag("adamw")] | TargetNode, target_or("adamw")]


class RetrievalConfig(Common):
    """A retrieval experiment."""

    recipe: Literal["retrieval"] = "retrieval"  # pyright: ignore[reportIncompatibleVariableOverride] - frozen
    """`retrieval`."""
    mode: Annotated[Literal["bi-encoder", "poly-encoder", "cross-encoder"], BeforeValidator(spelled)] = "bi-encoder"
    """`bi-encoder`: one vector for a text, compared by similarity; `poly-encoder`: several for a query;
    `cross-encoder`: query and document read together, to put candidates in order."""
    data: Data = Field(default_factory=Data)
    """What is trained and measured on."""
    encoder: Encoder = Field(default_factory=Encoder)
    """The encoder."""
    query: Query = Field(default_factory=Query)
    """How queries are encoded."""
    document: Document = Field(default_factory=Document)
    """How documents are encoded."""
    poly: Poly = Field(default_factory=Poly)
    """The poly-encoder."""
    cross: Cross = Field(default_factory=Cross)
    """The cross-encoder."""
    objective: Annotated[Objective, EMBEDS] = Field(default_factory=Objective)
    """What is learnt; for the cross-encoder see `cross.loss`."""
    memory: Memory = Field(default_factory=Memory)
    """Negatives from earlier batches."""
    peft: Peft = Field(default_factory=Peft)
    """Train adapters in a frozen encoder, or only some of its parameters; of each encoder there is."""
    update: Update = Field(default_factory=Update)
    """What one update is. A logical batch is the pool of negatives."""
    chunking: RetrievalChunking = Field(default_factory=RetrievalChunking)
    """How a logical batch is cut. Never changes a gradient, nor a negative."""
    loading: RetrievalLoading = Field(default_factory=RetrievalLoading)
    """How examples reach the engine."""
    budget: Budget = Field(default_factory=Budget)
    """How long training goes on."""
    optimizer: RetrievalOptimizer = Field(default_factory=RetrievalAdamW)
    """The optimizer: ours (`kind`), or any `torch.optim.Optimizer` by `_target_`."""
    schedule: RateSchedule = Field(default_factory=Schedule)
    """The learning rate over time: ours (`kind`), or a scheduler by `_target_`."""
    evaluate: RetrievalEvaluate = Field(default_factory=RetrievalEvaluate)
    """Evaluation during training."""
    checkpoint: RetrievalCheckpoint = Field(default_factory=RetrievalCheckpoint)
    """Saving."""
    log: Log = Field(default_factory=Log)
    """Printing and tracking."""
    run: RetrievalRun = Field(default_factory=RetrievalRun)  # pyright: ignore[reportIncompatibleVariableOverride] - frozen
    """The run's folder."""
    compute: RetrievalCompute = Field(default_factory=RetrievalCompute)
    """Hardware, precision, compilation."""
    debug: Debug = Field(default_factory=Debug)
    """Short looks at a run."""


SCHEMA = RecipeSchema(
    name="retrieval",
    summary="Dense retrieval: bi-, poly- and cross-encoders trained by contrast, searched and measured over a corpus",
    config=RetrievalConfig,
    names=NAMES,
    rules=RULES,
    guide_roots=GUIDE_ROOTS,
    starter=STARTER,
    prepare=prepare,
    metrics=metrics_of,
)
