"""Runs of the recipe `vision_language` small enough for tests: a rendered world of a few pictures, a tiny model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from quincunx.config.load import explicit_paths, load
from quincunx.config.plan import Plan, make_plan
from quincunx.data.batch import Batch
from quincunx.data.loader import Updates
from quincunx.engine.experiment import Experiment, order_of
from quincunx.recipes.vision_language.config import SCHEMA
from quincunx.recipes.vision_language.data.world.generate import generate
from quincunx.recipes.vision_language.recipe import RECIPE
from settings_looked_at import no_pictures

COUNTS = {"train": 16, "dev": 8, "test": 8}
SMALL: dict[str, Any] = {
    "recipe": "vision_language",
    "seed": 3,
    "model": {"build": {"width": 16, "num_layers": 1, "num_heads": 2, "hidden": 24, "vocab_size": 400}, "dropout": 0.0},
    "text": {"task_prompts": True},
    "update": {"batch_size": 8},
    "budget": {"updates": 4},
    "optimizer": {"learning_rate": 0.01},
    "generate": {"max_length": 4},
    "evaluate": {"every": None},
    "checkpoint": {"every": None},
    "log": {"every": 1},
    "compute": {"threads": 1, "device": "cpu"},
}


def make_world(folder: Path) -> Path:
    """Render a world with examples of every task and return its folder."""
    generate(folder, seed=1, counts=COUNTS, size=64, feature_width=8)
    return folder


def config_of(world: Path, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the small config over a world, with dotted changes."""
    tree = copy.deepcopy(SMALL)
    for dotted, value in {"data.path": str(world), **(changes or {})}.items():
        *parents, last = dotted.split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def decided(world: Path, changes: Mapping[str, Any] | None = None) -> Any:
    """Return the small config, checked and decided."""
    return RECIPE.decide(load(config_of(world, changes), schemas=[SCHEMA]).config)[0]


def experiment_of(world: Path, changes: Mapping[str, Any] | None = None) -> Experiment:
    """Return the experiment of the small config, its weights the same each time."""
    loaded = load(config_of(world, changes), schemas=[SCHEMA])
    config = RECIPE.decide(loaded.config)[0]
    torch.manual_seed(5)
    return RECIPE.build(config, explicit_paths(loaded))


def plan_of(made: Experiment) -> Plan:
    """Return the plan of an experiment."""
    return make_plan(made.config, made.sizes, made.chunk_samples)


def updates_of(made: Experiment) -> Updates:
    """Return the logical batches of an experiment, update by update."""
    order = order_of(made.config, made.sizes.train, made.source.lengths, made.config.seed, made.arrangement)
    return Updates(made.source, made.collate, order, made.config.seed)


def batch_of(made: Experiment, update: int = 0) -> Batch:
    """Return the logical batch of an update."""
    batch = updates_of(made)[update][0]
    assert batch is not None
    return batch


def run_of(world: Path, folder: Path, changes: Mapping[str, Any] | None = None, **options: Any) -> Any:
    """Return the finished run of the small config in a folder."""
    from quincunx import train

    with no_pictures():
        return train(config_of(world, {"run.dir": str(folder), **(changes or {})}), **options)
