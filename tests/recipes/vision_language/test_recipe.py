"""Runs of the recipe: they learn, go on where they stopped, and are not changed by being looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx import Run, evaluate
from quincunx.errors import QuincunxError
from quincunx.recipes.vision_language import assemble
from quincunx.recipes.vision_language.data.record import TASKS
from quincunx.recipes.vision_language.measured import MEASURES
from quincunx.recipes.vision_language.recipe import RECIPE
from vision_language_runs import batch_of, experiment_of, run_of

ADAPTED: dict[str, Any] = {
    "adapt.bottleneck": True,
    "adapt.reduction_factor": 4,
    "adapt.lora": True,
    "model.dropout": 0.1,
    "mixing.mixed": True,
    "log.train_accuracy": True,
}
"""Everything random that there is, and weights of each task's own."""


def weights(run: Run) -> dict[str, torch.Tensor]:
    return dict(run.model("last").state_dict())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def train_lines(run: Run) -> list[dict[str, Any]]:
    lines: Any = run.metrics()
    return [line for line in lines if line["split"] == "train"]


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of six updates that is never evaluated before its end."""
    return run_of(world, tmp_path_factory.mktemp("whole") / "run", {**ADAPTED, "budget.updates": 6})


def test_a_run_that_was_stopped_ends_as_one_that_was_not(world: Path, tmp_path: Path, whole: Run) -> None:
    settings = {**ADAPTED, "budget.updates": 6, "checkpoint.every": 2}
    run_of(world, tmp_path / "run", {**settings, "budget.stop_at": 3})
    assert Run(tmp_path / "run").summary.get("update") == 3
    again = run_of(world, tmp_path / "run", settings, resume=True)
    assert same(weights(again), weights(whole))
    assert train_lines(again) == train_lines(whole)


def test_evaluating_changes_nothing_that_is_trained(world: Path, tmp_path: Path, whole: Run) -> None:
    settings = {**ADAPTED, "budget.updates": 6, "evaluate.every": 2, "evaluate.at_start": True, "data.test": ["test"]}
    looked = run_of(world, tmp_path / "run", {**settings, "generate.beams": 2})
    assert same(weights(looked), weights(whole))
    assert train_lines(looked) == train_lines(whole)
    updates = {line["update"] for line in looked.metrics() if line["split"] == "dev"}  # pyright: ignore
    assert updates == {0, 2, 4, 6}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_trained_and_measured_by_its_measures(task: str, world: Path, tmp_path: Path) -> None:
    settings = {"data.tasks": [task], "evaluate.at_start": True, "data.test": ["test"], "budget.updates": 1}
    run = run_of(world, tmp_path / "run", {**settings, "data.dev_top": 4, "evaluate.max_batches": 1})
    names = {line["name"] for line in run.metrics() if line["split"] == "test"}  # pyright: ignore
    wanted = {f"{task}/{name}" for name in MEASURES[task]}
    if task == "gqa":  # the further ones need what is not rendered
        assert f"{task}/accuracy" in names
        wanted = {name for name in wanted if name in names}
    assert names == {"score", *wanted}
    again = evaluate(run, "test")
    found = {line["name"]: line["value"] for line in run.metrics() if line["split"] == "test"}  # pyright: ignore
    assert dict(again.scalars) == pytest.approx(found, nan_ok=True)


LEARNT: dict[str, Any] = {
    "data.dev": ["train"],
    "data.train_top": 2,
    "data.dev_top": 2,
    "text.max_length": 60,
    "model.build.width": 32,
    "model.build.hidden": 64,
    "generate.max_length": 20,
    "update.batch_size": 16,
    "optimizer.learning_rate": 0.005,
    "schedule.kind": "fixed",
    "log.every": 50,
}
"""Two examples of each task, by heart: inputs, labels and decoding belong together, so what was learnt is said."""


def learnt(world: Path, folder: Path, **settings: Any) -> tuple[Run, dict[str, float]]:
    run = run_of(world, folder, {**LEARNT, **{name.replace("__", "."): each for name, each in settings.items()}})
    lines: Any = run.metrics()
    return run, {line["name"]: line["value"] for line in lines if line["split"] == "dev"}


def test_few_examples_of_every_task_are_learnt_by_heart(world: Path, tmp_path: Path) -> None:
    tasks = [task for task in TASKS if task != "vcr"]
    mixing = {"mixing__mixed": True, "mixing__sampling": "balanced"}
    run, found = learnt(world, tmp_path / "run", data__tasks=tasks, budget__updates=150, **mixing)
    for name in ("vqa/accuracy", "gqa/accuracy", "nlvr/accuracy", "refcoco/accuracy", "cls/exact"):
        assert found[name] == 1.0, name
    assert found["mmt/bleu"] > 0.6
    assert found["caption/cider"] > 2.0
    [translated] = run.predict([{"task": "mmt", **_row(world, "mmt")}])
    [captioned] = run.predict([{"task": "caption", **_row(world, "caption")}])
    assert translated["answer"] in _answers(world, "mmt")
    assert captioned["answer"] in _answers(world, "caption")


@pytest.mark.parametrize(
    ("settings", "measure"),
    [
        ({"data__tasks": ["vcr"], "budget__updates": 150, "schedule__kind": "cos"}, "vcr/both"),
        ({"data__tasks": ["refcoco"], "data__refcoco__pointer": True, "budget__updates": 30}, "refcoco/accuracy"),
        ({"data__tasks": ["vqa"], "model__classifier": True, "budget__updates": 40}, "vqa/accuracy"),
        ({"data__tasks": ["cls"], "model__classifier": True, "budget__updates": 30}, "cls/exact"),
    ],
    ids=str,
)
def test_choosing_is_learnt_by_heart_too(settings: dict[str, Any], measure: str, world: Path, tmp_path: Path) -> None:
    _, found = learnt(world, tmp_path / "run", **settings)
    assert found[measure] == 1.0


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_a_backbone_from_a_folder_says_its_first_special_token_first(
    architecture: str, world: Path, tmp_path: Path
) -> None:
    """BART's own models say `<s>` before the first word; so does any whose tokenizer puts one there."""
    size = {"model.build.architecture": architecture, "model.build.width": 32, "model.build.hidden": 64}
    built = experiment_of(world, {**size, "pictures.use": False, "data.tasks": ["vqa", "gqa", "mmt"]})
    model, asking = cast(Any, built.parts.model), cast(Any, built.collate)
    folder = tmp_path / "saved"
    model.language_model.save_pretrained(folder)
    asking.texts.tokenizer.save_pretrained(folder)
    settings = {"model__path": str(folder), "log__train_accuracy": True, "mixing__mixed": True}
    settings |= {"data__tasks": ["gqa", "refcoco"], "budget__updates": 80, "schedule__kind": "cos"}
    run, found = learnt(world, tmp_path / "run", **settings)
    assert found["gqa/accuracy"] == found["refcoco/accuracy"] == 1.0
    assert [line["value"] for line in train_lines(run) if line["name"] == "refcoco_accuracy"][-1] > 0.9
    made = RECIPE.build(run.config, home=run.path)
    asking = cast(Any, made.collate)
    assert asking.texts.begins and not cast(Any, built.collate).texts.begins
    batch = batch_of(made)
    assert set(batch["labels"][:, 0].tolist()) == {asking.texts.tokenizer.cls_token_id}


def _row(world: Path, task: str) -> dict[str, Any]:
    row = json.loads((world / task / "train.jsonl").read_text().splitlines()[0])
    return {name: row[name] for name in ("pictures", "text") if name in row}


def _answers(world: Path, task: str) -> list[str]:
    return json.loads((world / task / "train.jsonl").read_text().splitlines()[0])["answers"]


@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        ({"adapt.bottleneck": True}, "_bottleneck.down"),
        ({"data.refcoco.pointer": True, "adapt.bottleneck": True}, "pointer_head"),
        ({"data.tasks": ["vqa"], "model.classifier": True, "adapt.bottleneck": True}, "answer_head"),
        ({"unfreeze.language_model": False}, "visual_embedding"),
    ],
    ids=str,
)
def test_heads_and_the_embedding_of_pictures_are_always_trained(
    settings: dict[str, Any], trained: str, world: Path
) -> None:
    model = experiment_of(world, settings).parts.model
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert any(trained in name for name in names)
    assert any("visual_embedding" in name for name in names)
    assert not any("shared" in name.split(".") for name in names)


def test_what_a_model_was_built_for_is_kept_with_the_run(world: Path, tmp_path: Path) -> None:
    settings = {"data.tasks": ["gqa"], "model.classifier": True, "budget.updates": 1}
    run = run_of(world, tmp_path / "run", settings)
    kept = json.loads((run.path / "language" / "asked.json").read_text())
    assert kept["pictures"] == 2 and "star" in kept["answers"]
    assert run.model("last").answer_head[-1].out_features == len(kept["answers"])  # pyright: ignore
    (run.path / "language" / "asked.json").write_text('{"pictures": "two"}')
    with pytest.raises(QuincunxError, match=r"asked.json is damaged"):
        run.model("last")


def test_a_run_is_read_without_the_file_that_its_image_encoder_began_with(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    build = assemble.build_encoder

    def counted(kind: str, size: tuple[int, int], *, weights: Any, pooled: bool) -> Any:
        asked.append(weights)
        return build(kind, size, weights=None, pooled=pooled)

    monkeypatch.setattr(assemble, "build_encoder", counted)
    settings = {"pictures.features": "raw_RN50", "pictures.image_size": [32, 32], "pictures.encoder": "RN50.pt"}
    few = {"data.tasks": ["cls"], "data.train_top": 2, "data.dev_top": 2, "budget.updates": 1}
    run = run_of(world, tmp_path / "run", {**settings, **few})
    weights(run)
    assert asked == ["RN50.pt", None]


def test_the_accuracy_of_training_is_logged_and_not_learnt(world: Path, whole: Run, tmp_path: Path) -> None:
    plain = run_of(world, tmp_path / "run", {**ADAPTED, "budget.updates": 6, "log.train_accuracy": False})
    assert same(weights(plain), weights(whole))
    for task in ("refcoco", "vcr"):
        values = [line["value"] for line in train_lines(whole) if line["name"] == f"{task}_accuracy"]
        assert values and all(0 <= value <= 1 for value in values)
        assert not any(line["name"] == f"{task}_accuracy" for line in train_lines(plain))
