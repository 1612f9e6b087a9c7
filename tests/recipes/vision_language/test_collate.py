"""Batches: no cut changes the gradient, whatever tasks, adapters and heads; what is drawn follows the address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.data.batch import Batch
from quincunx.engine.experiment import Experiment
from quincunx.engine.step import Step
from quincunx.recipes.vision_language.collate import NONE, UNTRAINED, region_number
from quincunx.recipes.vision_language.data.record import TASKS
from toys import cpu, plan
from vision_language_runs import batch_of, experiment_of

PER_TASK = {"adapt.bottleneck": True, "adapt.reduction_factor": 4, "adapt.lora": True, "adapt.encoder_prompts": 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "t5": {},
    "bart": {"model.build.architecture": "bart"},
    "adapters of each task": {**PER_TASK, "adapt.prompt_width": 8},
    "hyperformer": {"adapt.hyperformer": True, "adapt.efficient": True, "adapt.projection": 4},
    "regularised adapters": {"adapt.bottleneck": True, "adapt.reduction_factor": 4, "adapt.track_z": True},
    "pointer and accuracy": {"data.refcoco.pointer": True, "log.train_accuracy": True},
    "pointer and prompts": {
        "data.refcoco.pointer": True,
        "adapt.encoder_prompts": 3,
        "adapt.decoder_prompts": 2,
        "adapt.prompt_width": 8,
    },
    "pointer and regularised adapters": {
        "data.refcoco.pointer": True,
        "adapt.bottleneck": True,
        "adapt.track_z": True,
    },
    "regularised classifier": {
        "data.tasks": ["vqa"],
        "model.classifier": True,
        "adapt.bottleneck": True,
        "adapt.track_z": True,
    },
    "bart with a pointer": {"data.refcoco.pointer": True, "model.build.architecture": "bart"},
    "pegasus with a pointer": {"data.refcoco.pointer": True, "model.build.architecture": "pegasus"},
    "classifier": {"data.tasks": ["vqa"], "model.classifier": True},
    "classifier of one answer": {"data.tasks": ["cls"], "model.classifier": True},
    "checkpointing": {"model.gradient_checkpointing": True, **PER_TASK},
    "no pictures": {"pictures.use": False, "data.tasks": ["vqa", "caption", "mmt"]},
}


@pytest.fixture(scope="module")
def made(world: Path) -> Callable[[str], Experiment]:
    found: dict[str, Experiment] = {}

    def make(name: str) -> Experiment:
        if name not in found:
            found[name] = experiment_of(world, SETTINGS[name])
        return found[name]

    return make


def rows_of_all(made: Experiment, count: int = 1) -> list[int]:
    """Return the places of the first rows of every part."""
    sizes = made.source.sizes  # pyright: ignore[reportAttributeAccessIssue]
    return [sum(sizes[:number]) + i for number, size in enumerate(sizes) for i in range(min(count, size))]


def mixed(made: Experiment, numbers: list[int]) -> Batch:
    return made.collate([made.source[number] for number in numbers], numbers, range(len(numbers)), 7)


def gradient(made: Experiment, batches: list[Batch], **changes: object) -> Tensor:
    model = made.parts.model.double().train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):  # that of LoRA has no setting
            module.p = 0.0
    for parameter in model.parameters():
        parameter.grad = None
    Step(model, made.parts.objective.train(), cpu(), plan(**changes), seed=5).gradient(0, list(batches))
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", SETTINGS)
def test_no_cut_of_a_batch_changes_the_gradient(name: str, made: Callable[[str], Experiment]) -> None:
    experiment = made(name)
    batch = mixed(experiment, rows_of_all(experiment, 2))
    double = {key: each.double() if each.is_floating_point() else each for key, each in batch.tensors.items()}
    batch = replace(batch, tensors=double)
    whole = gradient(experiment, [batch])
    assert float(whole.norm()) > 0
    for changes in ({"chunk_samples": 1}, {"chunk_samples": 2}, {"chunk_samples": 3}, {"chunk_tokens": 60}):
        cut = gradient(experiment, [batch], **changes)
        assert float((cut - whole).norm() / whole.norm()) <= 1e-12, changes


def test_a_chunk_is_trimmed_to_what_its_rows_need(made: Callable[[str], Experiment]) -> None:
    experiment = made("t5")
    batch = mixed(experiment, rows_of_all(experiment))
    for row in range(len(batch)):
        alone = batch.select([row])
        assert bool(alone["attention_mask"].all()) and bool(alone["visual_mask"].all())
        assert alone["features"].shape[1] == alone["boxes"].shape[1] == alone["object_ids"].shape[1]
        assert alone["labels"].shape[1] == int((alone["labels"] != UNTRAINED).sum())


def test_a_batch_says_of_each_row_its_task_and_what_its_loss_is_a_mean_over(
    made: Callable[[str], Experiment],
) -> None:
    experiment = made("t5")
    numbers = rows_of_all(experiment)
    batch = mixed(experiment, numbers)
    names = [experiment.source[number].task.name for number in numbers]
    assert tuple(names) == TASKS and batch["tasks"].tolist() == [*range(len(TASKS))]
    assert batch["by"].tolist() == [int(name in ("caption", "mmt")) for name in names]
    assert (batch["boxes"] <= 1).all() and (batch["boxes"][..., 2:] >= batch["boxes"][..., :2]).all()
    nlvr = names.index("nlvr")
    assert set(batch["image_ids"][nlvr][batch["visual_mask"][nlvr] == 1].tolist()) == {0, 1}


def test_what_is_drawn_follows_the_seed_and_the_row(made: Callable[[str], Experiment]) -> None:
    experiment = made("t5")
    numbers = rows_of_all(experiment, 8)
    items = [experiment.source[number] for number in numbers]
    rows = range(len(numbers))
    first, again = (experiment.collate(items, numbers, rows, 1) for _ in range(2))
    other = experiment.collate(items, numbers, rows, 2)
    assert torch.equal(first["labels"], again["labels"])
    assert first["labels"].shape != other["labels"].shape or not torch.equal(first["labels"], other["labels"])
    half = experiment.collate(items[4:], numbers[4:], range(4, len(numbers)), 1)
    kept = half["labels"].shape[1]
    assert torch.equal(half["labels"], first["labels"][4:, :kept])


def test_shuffled_regions_keep_their_features_and_their_name(world: Path) -> None:
    settings = {"data.tasks": ["refcoco"], "data.refcoco.pointer": True}
    plain, shuffled = (experiment_of(world, {**settings, "data.refcoco.shuffle": on}) for on in (False, True))
    first, second = batch_of(plain), batch_of(shuffled)
    assert not torch.equal(first["points"], second["points"])
    for row in range(len(first)):
        one, other = int(first["points"][row]), int(second["points"][row])
        assert torch.equal(first["features"][row, one], second["features"][row, other])
        assert torch.equal(first["boxes"][row, one], second["boxes"][row, other])


def test_heads_are_told_what_is_right(made: Callable[[str], Experiment]) -> None:
    pointing = made("pointer and accuracy")
    numbers = rows_of_all(pointing)
    batch = mixed(pointing, numbers)
    for row, number in enumerate(numbers):
        item = pointing.source[number]
        if item.task.name != "refcoco":
            assert int(batch["points"][row]) == NONE
        if item.task.name not in ("refcoco", "vcr"):
            assert set(batch["choices"][row].tolist()) == {NONE}
        if item.task.name == "refcoco":
            asked = item.task.ask(item.example, pointing.collate.wording, item.pictures)  # pyright: ignore
            assert int(batch["points"][row]) == region_number(asked.target or "")
    choosing = made("classifier")
    batch = batch_of(choosing)
    answers = [*choosing.collate.answers]  # pyright: ignore[reportAttributeAccessIssue]
    for row, number in enumerate(batch.ids):
        example = choosing.source[int(number)].example
        wanted = {answer.text: answer.weight for answer in example.answers}
        found = {answers[i]: float(score) for i, score in enumerate(batch["scores"][row]) if score > 0}
        assert found == pytest.approx(wanted)


RAW = {"data.tasks": ["vqa", "nlvr"], "pictures.features": "raw_RN50", "pictures.image_size": [32, 32]}


def test_pictures_of_several_numbers_may_be_cut_where_norms_keep_their_statistics(world: Path) -> None:
    held = {"unfreeze.vision_last_layer": True, "unfreeze.hold_batch_norms": True}
    experiment = experiment_of(world, {**RAW, **held})
    batch = mixed(experiment, rows_of_all(experiment, 2))
    assert batch["visual_mask"].sum(1).tolist() == [1, 1, 2, 2] and batch["pixels"].shape[1:] == (2, 3, 32, 32)
    assert batch.select([0, 1])["pixels"].shape[1] == 1
    double = {key: each.double() if each.is_floating_point() else each for key, each in batch.tensors.items()}
    batch = replace(batch, tensors=double)
    whole, cut = (gradient(experiment, [batch], chunk_samples=samples) for samples in (None, 1))
    assert float((cut - whole).norm() / whole.norm()) <= 1e-12
