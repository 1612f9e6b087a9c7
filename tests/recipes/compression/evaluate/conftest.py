"""Experiments small enough to be learnt by heart within a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from quincunx import load
from quincunx.engine.experiment import Experiment
from quincunx.seeds import address

SMALL = {"model.build.num_layers": 2, "model.build.width": 32, "model.build.num_heads": 2}
Learnt = Callable[..., Experiment]


@pytest.fixture(scope="session")
def learnt() -> Learnt:
    """Return what makes an experiment of settings, and trains it for some updates on all training examples at once."""
    pytest.importorskip("transformers", reason="the transformers library is not installed")
    from quincunx.recipes.compression.recipe import RECIPE

    def make(settings: dict[str, Any], *, updates: int = 0, rate: float = 0.01) -> Experiment:
        changes = [f"{name}={value}" for name, value in {**SMALL, **settings}.items()]
        config, _ = RECIPE.decide(load({"recipe": "compression", "seed": 1}, *changes).config)
        torch.manual_seed(0)
        experiment = RECIPE.build(config)
        model, objective = experiment.parts.model, experiment.parts.objective
        optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], rate)
        ids = range(len(experiment.source))
        examples = [experiment.source[number] for number in ids]
        model.train()
        for update in range(updates):
            batch = experiment.collate(examples, ids, ids, address(0, "test", update))
            losses, weights = objective.loss(model, batch), objective.weights(batch)
            optimizer.zero_grad()
            torch.stack([losses[term] / weights[term] for term in losses]).sum().backward()
            optimizer.step()
        model.eval()
        return experiment

    return make
