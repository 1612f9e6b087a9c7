"""Plans of recipes whose data alone tells how much there is to train on: it is read, and nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import quincunx.preview
from quincunx import train
from quincunx.config.document import ConfigError
from quincunx.config.load import load
from quincunx.preview import measure, preview
from quincunx.recipes import schemas
from recipes.compression.runs_made import config_of as compression_config
from recipes.retrieval.collections_made import config_of as retrieval_config
from recipes.retrieval.collections_made import write_collection
from runner import tiny


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


@pytest.mark.parametrize("reads", [False, True])
def test_what_adapters_train_is_said_once(tmp_path: Path, reads: bool) -> None:
    pytest.importorskip("peft")
    peft = {"method": "bottleneck", "options": {"reduction_factor": 4}}
    if reads:
        data = write_collection(tmp_path / "data", train=48, test=12)
        source = {**retrieval_config(data, tmp_path / "run", tmp_path / "cache", budget__epochs=1), "peft": peft}
    else:
        source = tiny({"run.dir": str(tmp_path / "run"), "pretraining": {"updates": 6}, "peft": peft})
    _, notes = preview(load(source, schemas=schemas()))
    said = [note for note in notes if "parameters are trained (" in note and "bottleneck in" in note]
    assert len(said) == 1


@pytest.mark.parametrize(
    ("optimizer", "states"),
    [
        ({}, 2),
        ({"_target_": "torch.optim.SGD", "lr": 0.1}, 0),
        ({"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}, 1),
        ({"_target_": "torch.optim.RMSprop", "lr": 0.1}, 1),
        ({"_target_": "torch.optim.RMSprop", "lr": 0.1, "momentum": 0.9, "centered": True}, 3),
    ],
    ids=str,
)
def test_memory_counts_what_the_configs_optimizer_keeps(tmp_path: Path, optimizer: dict[str, Any], states: int) -> None:
    source = {**tiny({"run.dir": str(tmp_path / "run"), "pretraining": {"updates": 6}}), "optimizer": optimizer}
    plan, _ = preview(load(source, schemas=schemas()))
    assert plan.memory is not None
    assert plan.memory["optimizer"] == states * plan.memory["gradients"]


def test_what_does_not_fit_the_data_is_told_without_training(tmp_path: Path) -> None:
    source = compression_config(tmp_path, "run", {"schedule": {"kind": "cos", "warmup": 4}})
    with pytest.raises(ConfigError, match="warmup"):
        preview(load(source, schemas=schemas()))


def test_a_run_is_timed_by_its_own_updates_or_by_a_part_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_collection(tmp_path / "data", train=48, test=12)
    sources = [
        retrieval_config(data, tmp_path / "run", tmp_path / "cache", budget__epochs=3),
        compression_config(tmp_path, "run", {"budget.updates": 7, "update.accumulation": 2}),
    ]
    for source in sources:
        loaded = load(source, schemas=schemas())
        plan, _ = preview(loaded)
        seen: list[int] = []
        gradient = quincunx.preview.Step.gradient

        def counting(self: object, update: int, batches: list, gradient=gradient, seen=seen) -> object:
            seen.append(sum(len(batch) for batch in batches))
            return gradient(self, update, batches)  # pyright: ignore

        monkeypatch.setattr(quincunx.preview.Step, "gradient", counting)
        whole = measure(loaded)
        # an update has all of its examples, and of those that were timed the made-up ones came first
        assert max(seen) == plan.batch_size * plan.accumulation and seen[0] == 2
        assert whole.update is not None and whole.training == pytest.approx(whole.update * plan.total_updates)
        assert whole.plan.to_json() == {**plan.to_json(), "memory": None}
        seen.clear()
        monkeypatch.setattr(quincunx.preview, "AFFORDABLE", 0.0)
        part = measure(loaded)
        assert seen == [2, 2] and part.update is not None
        monkeypatch.undo()
    assert not (tmp_path / "run").exists()
