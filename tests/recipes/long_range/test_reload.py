"""A run that is opened again is the run that was trained: the same numbers, from the same data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quincunx import Run, evaluate, train
from quincunx.recipes import recipe_of
from quincunx.recipes.long_range.data.retrieval import FILE_NAMES
from runner import tiny
from text_files import class_folders, json_lines, rows_of


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quincunx.report.to_png", lambda chart: b"")


def trained(**changes: Any) -> Run:
    base = {"run.dir": "r", "budget.epochs": 2, "encoder.vocab_size": None}
    return train(tiny(base | {name.replace("__", "."): value for name, value in changes.items()}))


def written(run: Run, split: str, update: int) -> dict[str, float]:
    return json.loads((run.path / f"evaluations/{split}-{update:08d}.json").read_text())["scalars"]


def logged(run: Run, split: str, update: int) -> dict[str, float]:
    lines: Any = run.metrics()
    return {line["name"]: line["value"] for line in lines if (line["split"], line["update"]) == (split, update)}


KINDS = [
    ("softmax", {}),
    ("hrr-bundled", {}),
    ("hrr-bundled", {"form": "spectral", "gate": "mean_preserving", "read": True}),
    ("tpr", {"mode": "retrieval"}),
]


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=["softmax", "bundled", "spectral", "tpr"])
def test_the_best_checkpoints_test_accuracy_is_the_same_after_reload(work: Path, kind: str, options: dict[str, Any]):
    """Exactly: what is evaluated in process are the best weights as they were saved."""
    extra = {f"attention.options.{kind}.{name}": value for name, value in options.items()}
    run = trained(attention__kind=kind, evaluate__every=1, **extra)
    best = run.summary["best"]
    assert best is not None
    [file] = (run.path / "evaluations").glob("test-*.json")
    assert file.name == f"test-{best['update']:08d}.json", "once, on the best weights"
    again = evaluate(Run("r"), "test").scalars
    assert again == written(run, "test", best["update"]) == logged(run, "test", best["update"])
    assert best["value"] == evaluate("r", "dev").scalars["accuracy"] == logged(run, "dev", best["update"])["accuracy"]
    last = evaluate("r", "dev", which="last").scalars
    assert last == logged(run, "dev", 16)
    assert last["loss"] != evaluate("r", "dev").scalars["loss"] or best["update"] == 16


def test_a_run_after_pretraining_is_the_same_after_reload(work: Path):
    run = trained(pretraining__updates=5)
    best = run.summary["best"]
    assert best is not None
    assert evaluate("r", "test").scalars == written(run, "test", best["update"])


def fingerprints(run: Path | str) -> dict[str, str]:
    """Return those of the data that the run's own config leads to now."""
    config = Run(run).config
    return dict(recipe_of(config.recipe).build(config, (), None).fingerprints)


def kept(run: Path | str) -> dict[str, str]:
    return json.loads((Path(run) / "data.json").read_text())["fingerprints"]


def test_a_run_rebuilt_from_its_folder_sees_the_same_splits(work: Path):
    trained(budget__epochs=1)
    assert fingerprints("r") == kept("r")
    assert len(set(kept("r").values())) == 3


def texts(folder: Path) -> dict[str, Any]:
    """Sorted by class, without a development and a test split."""
    json_lines(folder / "train.jsonl", rows_of("train", 30))
    return {"task": "text", "data": {"path": str(folder)}, "schedule.warmup": 0, "budget.epochs": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data.dev": 7},
        {"data.train": 11, "data.test": 4},
        {"data.dev_from": "test"},
        {"data.seed": 3},
        {"debug.limit": 3},
        {"debug.limit": 20, "data.dev": 4},
        {"data.dev_from": "test", "debug.limit": 2},
    ],
    ids=lambda changes: ", ".join(f"{name}={value}" for name, value in changes.items()) or "as it stands",
)
def test_splits_that_were_carved_are_carved_alike(work: Path, changes: dict[str, Any]):
    run = train(tiny({"run.dir": "r", "encoder.vocab_size": None, **texts(work / "d"), **changes}))
    assert fingerprints("r") == kept("r")
    plan = json.loads((run.path / "plan.json").read_text())
    best = run.summary["best"]
    assert best is not None
    assert evaluate("r", "test").scalars == written(run, "test", best["update"])
    train("r", resume=True)
    assert fingerprints("r") == kept("r")
    if "debug.limit" in changes:
        assert plan["train_examples"] == min(changes["debug.limit"], 48)


def test_limited_data_is_the_beginning_of_all_of_it(work: Path):
    """The limit is not taken for the size of the splits that are set apart."""
    whole = train(tiny({"run.dir": "whole", "encoder.vocab_size": None, **texts(work / "d")}))
    limited = train(tiny({"run.dir": "limited", "encoder.vocab_size": None, **texts(work / "d"), "debug.limit": 4}))
    assert (whole.config.data.train, whole.config.data.dev, whole.config.data.test) == (48, 6, 6)
    assert limited.config.debug.limit == 4
    for split in ("dev", "test"):
        assert kept("limited")[split] != kept("whole")[split]
    config = whole.config.model_copy(update={"debug": whole.config.debug.model_copy(update={"limit": 4})})
    assert dict(recipe_of("long_range").build(config, (), None).fingerprints) == kept("limited")


@pytest.mark.parametrize("task", ["text", "retrieval", "pathfinder"])
def test_every_task_is_the_same_after_reload(work: Path, task: str):
    changes: dict[str, Any] = {"task": task, "encoder.max_seq_len": None}
    if task == "text":
        changes["data"] = {"path": str(class_folders(work / "d"))}
    elif task == "retrieval":
        (work / "d").mkdir()
        for name, count in zip(FILE_NAMES.values(), (40, 12, 12), strict=True):
            rows = [f"{n % 2}\t{n}\t{n}\tfirst {n}\tsecond {n % 3}\n" for n in range(count)]
            (work / "d" / name).write_text("".join(rows))
        changes["data"] = {"path": str(work / "d")}
    else:
        changes["data"] = {"train": 24, "dev": 8, "test": 8, "resolution": 16}
    run = train(tiny({"run.dir": "r", "encoder.vocab_size": None, "budget.epochs": 2, "schedule.warmup": 1, **changes}))
    best = run.summary["best"]
    assert best is not None
    assert fingerprints("r") == kept("r")
    assert evaluate("r", "test").scalars == written(run, "test", best["update"]) == logged(run, "test", best["update"])
    assert 0 < evaluate("r", "test").scalars["bag_of_tokens_oracle"] <= 1
