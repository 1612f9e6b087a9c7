"""Numbers of parameters, without weights and without data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.config.load import load
from quincunx.engine.footprint import count_parameters
from quincunx.preview import count
from quincunx.recipes import schemas
from quincunx.recipes.vision_language.unread import ANSWERS
from vision_language_runs import config_of, experiment_of

SETTINGS: list[dict[str, Any]] = [
    {},
    {"model.build.architecture": "bart", "unfreeze.language_model": False},
    {"adapt.bottleneck": True, "adapt.lora": True, "adapt.encoder_prompts": 2},
    {"adapt.compacter": True, "adapt.division": 2, "adapt.reduction_factor": 4, "data.refcoco.pointer": True},
    {"pictures.use": False, "data.tasks": ["vqa", "mmt", "caption"], "data.train": ["train", "dev", "test"]},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_parameters_are_counted_without_weights(settings: dict[str, Any], world: Path) -> None:
    made = experiment_of(world, settings)
    model: Any = made.parts.model
    size = model.language_model.config.vocab_size
    words = size - (200 if settings.get("pictures.use", True) else 0)  # those for regions and for spans
    counted, notes = count(load(config_of(world, {**settings, "model.build.vocab_size": words}), schemas=schemas()))
    assert {"trainable": counted.trainable, "total": counted.total} == count_parameters(made.parts)
    assert any("a tokenizer of" in note for note in notes)


def test_a_classifier_is_as_large_as_is_usual_where_nothing_is_read(world: Path) -> None:
    tree = config_of(world, {"data.tasks": ["vqa"], "model.classifier": True})
    counted, notes = count(load(tree, schemas=schemas()))
    plain, _ = count(load(config_of(world, {"data.tasks": ["vqa"]}), schemas=schemas()))
    assert counted.total - plain.total == (16 * 32 + 32) + 2 * 32 + (32 * ANSWERS + ANSWERS)
    assert any(f"{ANSWERS:,} answers" in note for note in notes)
