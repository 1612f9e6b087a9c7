"""Runs that are pretrained: resumed, looked at, counted and begun from like those of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx import Run, evaluate
from quincunx.config.load import load
from quincunx.errors import CheckpointError, UsageError
from quincunx.preview import count
from quincunx.recipes import schemas
from quincunx.recipes.vision_language.pretraining.measured import measures_of
from quincunx.recipes.vision_language.unread import ATTRIBUTES, CLASSES
from vision_language_runs import config_of, run_of

LOSSES = ["lm", "qa", "itm", "caption", "ground_caption", "refer", "obj", "attr", "feat"]
SETTINGS: dict[str, Any] = {
    "objective": "pretraining",
    "pretraining.losses": LOSSES,
    "model.dropout": 0.1,
    "budget.updates": 5,
    "data.test": ["test"],
}


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(world, tmp_path_factory.mktemp("pretrained") / "run", SETTINGS)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return dict(run.model("last").state_dict())


def test_stopped_and_looked_at_it_ends_as_one_that_was_not(world: Path, tmp_path: Path, whole: Run) -> None:
    settings = {**SETTINGS, "evaluate.every": 1, "checkpoint.every": 2}
    run_of(world, tmp_path / "run", {**settings, "budget.stop_at": 3})
    again = run_of(world, tmp_path / "run", settings, resume=True)
    mine, theirs = weights(again), weights(whole)
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_every_loss_is_measured_and_measured_alike_afterwards(whole: Run) -> None:
    lines: Any = whole.metrics()
    found = {line["name"]: line["value"] for line in lines if line["split"] == "test"}
    assert found.keys() == {*measures_of(LOSSES)}
    assert dict(evaluate(whole, "test").scalars) == pytest.approx(found)


def test_it_answers_nothing_and_a_run_of_tasks_begins_from_it(world: Path, tmp_path: Path, whole: Run) -> None:
    with pytest.raises(UsageError, match="begin one of tasks from it, by init_from"):
        whole.predict([{"task": "vqa", "picture": "dev-000000", "text": "what?"}])
    settings = {"init_from": str(whole.path), "budget.updates": 1, "optimizer.learning_rate": 0.0}
    settings |= {"model.tokenizer": str(whole.path / "language")}
    with pytest.raises(CheckpointError, match="unexpected: region_heads"):
        run_of(world, tmp_path / "refused", settings)
    begun = run_of(world, tmp_path / "begun", {**settings, "init_partial": True})
    found, wanted = weights(begun), weights(whole)
    assert found.keys() == {name for name in wanted if not name.startswith("region_heads")}
    assert all(torch.equal(found[name], wanted[name]) for name in found)


def test_heads_of_regions_are_counted_without_data(world: Path) -> None:
    first, notes = count(load(config_of(world, SETTINGS), schemas=schemas()))
    other = {**SETTINGS, "pretraining.losses": ["lm"]}
    plain, _ = count(load(config_of(world, other), schemas=schemas()))
    width, features = 16, 8
    heads = width * width + width + 2 * width + features
    outputs = (width + 1) * (CLASSES + ATTRIBUTES + features)
    assert first.total - plain.total == heads + outputs
    assert any(f"{CLASSES:,} classes" in note for note in notes)
