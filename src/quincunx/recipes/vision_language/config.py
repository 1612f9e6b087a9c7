"""The config of the `vision_language` recipe: its own sections round the shared ones.

Sections are declared by theme in `config_data`, `config_model`, `config_adapt` and `config_training`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from quincunx.config.schema import AnyCase, RecipeSchema, TargetNode, target_or
from quincunx.config.sections.peft import Peft
from quincunx.config.sections.run import Checkpoint, Common, Debug
from quincunx.config.sections.training import Budget, SummedChunking
from quincunx.recipes.vision_language.config_adapt import Adapt, Unfreeze
from quincunx.recipes.vision_language.config_data import Data, Mixing, Pretraining, Text
from quincunx.recipes.vision_language.config_model import Model, Pictures
from quincunx.recipes.vision_language.config_training import (
    Generate,
    VisionLanguageCompute,
    VisionLanguageEvaluate,
    VisionLanguageLoading,
    VisionLanguageLog,
    VisionLanguageOptimizer,
    VisionLanguageSchedule,
    VisionLanguageUpdate,
)
from quincunx.recipes.vision_language.defaults import prepare
from quincunx.recipes.vision_language.kinds import routes_of
from quincunx.recipes.vision_language.measured import metrics_of
from quincunx.recipes.vision_language.names import GUIDE_ROOTS, NAMES
from quincunx.recipes.vision_language.rules import RULES
from quincunx.recipes.vision_language.starter import STARTER

ChosenOptimizer = Annotated[Annotated[VisionLanguageOptimizer, Tag("adamw")] | TargetNode, target_or("adamw")]
ChosenSchedule = Annotated[Annotated[VisionLanguageSchedule, Tag("schedule")] | TargetNode, target_or("schedule")]


class VisionLanguageConfig(Common):
    """A vision-language experiment."""

    recipe: Literal["vision_language"] = "vision_language"  # pyright: ignore[reportIncompatibleVariableOverride] - frozen
    """`vision_language`."""
    objective: Annotated[Literal["tasks", "pretraining"], AnyCase] = "tasks"
    """`tasks`: learn to answer; `pretraining`: learn from pictures and texts by `pretraining.losses`."""
    data: Data = Field(default_factory=Data)
    """The collection."""
    text: Text = Field(default_factory=Text)
    """What the model reads."""
    mixing: Mixing = Field(default_factory=Mixing)
    """Which task each batch is of."""
    pretraining: Pretraining = Field(default_factory=Pretraining)
    """The losses of pretraining."""
    model: Model = Field(default_factory=Model)
    """The backbone."""
    pictures: Pictures = Field(default_factory=Pictures)
    """What it is given of a picture."""
    adapt: Adapt = Field(default_factory=Adapt)
    """Adapters, by switches."""
    unfreeze: Unfreeze = Field(default_factory=Unfreeze)
    """What is trained of the backbone itself."""
    peft: Peft = Field(default_factory=Peft)
    """Adapters by any method of docs/tuners.md or of the library peft, in place of `adapt`."""
    update: VisionLanguageUpdate = Field(default_factory=VisionLanguageUpdate)
    """What one update is."""
    chunking: SummedChunking = Field(default_factory=SummedChunking)
    """How a logical batch is cut."""
    loading: VisionLanguageLoading = Field(default_factory=VisionLanguageLoading)
    """How examples reach the engine."""
    budget: Budget = Field(default_factory=Budget)
    """How long training goes on."""
    optimizer: ChosenOptimizer = Field(default_factory=VisionLanguageOptimizer)
    """The optimizer: ours (`kind`), or any `torch.optim.Optimizer` by `_target_`."""
    schedule: ChosenSchedule = Field(default_factory=VisionLanguageSchedule)
    """The learning rate over time: ours (`kind`), or a scheduler by `_target_`."""
    generate: Generate = Field(default_factory=Generate)
    """How answers are generated."""
    evaluate: VisionLanguageEvaluate = Field(default_factory=VisionLanguageEvaluate)
    """Evaluation during training."""
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    """Saving."""
    log: VisionLanguageLog = Field(default_factory=VisionLanguageLog)
    """Printing and tracking."""
    compute: VisionLanguageCompute = Field(default_factory=VisionLanguageCompute)
    """Hardware, precision, compilation."""
    debug: Debug = Field(default_factory=Debug)
    """Short looks at a run."""


SCHEMA = RecipeSchema(
    name="vision_language",
    summary="Pictures and texts: multi-task models on frozen encoder-decoders, adapted by small trained parts",
    config=VisionLanguageConfig,
    names=NAMES,
    rules=RULES,
    guide_roots=GUIDE_ROOTS,
    starter=STARTER,
    prepare=prepare,
    tasks_of=routes_of,
    metrics=metrics_of,
)
