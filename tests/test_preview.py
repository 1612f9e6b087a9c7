"""Plans of recipes whose data alone tells how much there is to train on: it is read, and nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quincunx import train
from quincunx.config.document import ConfigError
from quincunx.config.load import load
from quincunx.preview import preview
from quincunx.recipes import schemas
from recipes.compression.runs_made import config_of as compression_config
from recipes.retrieval.collections_made import config_of as retrieval_config
from recipes.retrieval.collections_made import write_collection


def test_texts_are_counted(tmp_path: Path) -> None:
    loaded = load(compression_config(tmp_path, "run", {"budget.updates": None, "budget.epochs": 2}), schemas=schemas())
    plan, notes = preview(loaded)
    examples = plan.train_examples
    assert any(f"train: {examples:,} examples" in note for note in notes)
    assert plan.total_updates == 2 * -(-examples // 8)
    assert plan.memory is not None and plan.memory["activations"] > 0
    assert plan.parameters is not None
    assert not (tmp_path / "run").exists()


def test_a_collection_is_counted(tmp_path: Path) -> None:
    data = write_collection(tmp_path / "data", train=48, test=12)
    source = retrieval_config(data, tmp_path / "run", tmp_path / "cache", budget__epochs=3)
    loaded = load(source, schemas=schemas())
    plan, _ = preview(loaded)
    assert not (tmp_path / "run").exists()
    trained = json.loads((train(source).path / "plan.json").read_text())
    assert trained["train_examples"] > 1
    for name in ("train_examples", "total_updates", "updates_per_epoch", "parameters"):
        assert plan.to_json()[name] == trained[name]


def test_what_does_not_fit_the_data_is_told_without_training(tmp_path: Path) -> None:
    source = compression_config(tmp_path, "run", {"schedule": {"kind": "cos", "warmup": 4}})
    with pytest.raises(ConfigError, match="warmup"):
        preview(load(source, schemas=schemas()))
