"""What defines a run holds for the recipe `compression` too: interruption, evaluation, chunks and processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from properties.conftest import final_weights
from properties.test_invariance import closeness, torchrun
from quincunx import Run, evaluate, train
from recipes.compression.runs_made import config_of, metrics, write_texts
from runner import finish, quincunx, start

CHANGES: dict[str, Any] = {
    "budget.updates": 9,
    "update.accumulation": 2,
    "checkpoint.every": 2,
    "compress.slots": [1, 3],
    "positions.kind": "random",
    "positions.dropout": 0.1,
    "objective": {"forward": 1, "reconstruction": 0.5, "without": 0.3, "full": 0.3, "distillation": 0.5},
    "blotch": {"p": 0.4, "spans": "geometric", "span_length": 3, "targets": "keep", "curriculum": {"updates": 6}},
}
"""Everything that draws anything at once: levels of compression, positions, what is left out, dropout."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compression")
    write_texts(folder)
    return folder


def file_of(home: Path, name: str, **changes: Any) -> Path:
    path = home / f"{name}.json"
    dotted = {**CHANGES, **{key.replace("__", "."): value for key, value in changes.items()}}
    path.write_text(json.dumps(config_of(home, name, dotted)))
    return path


@pytest.fixture(scope="module")
def undisturbed(home: Path) -> Path:
    log = home / "undisturbed.log"
    assert quincunx("train", file_of(home, "undisturbed"), log=log) == 0, log.read_text()
    return home / "undisturbed"


def test_killed_in_the_middle_of_writing_and_resumed_it_is_the_same_run(home: Path, undisturbed: Path) -> None:
    log = home / "killed.log"
    file = file_of(home, "killed")
    codes = [finish(start("train", file, "--resume", log=log, die_at_sync=number)) for number in (60, 25, 40)]
    assert any(codes), "it was killed at least once"
    assert quincunx("train", file, "--resume", log=log) == 0, log.read_text()
    assert final_weights(home / "killed") == final_weights(undisturbed)
    assert (home / "killed/metrics.jsonl").read_bytes() == (undisturbed / "metrics.jsonl").read_bytes()


def test_evaluating_at_every_update_changes_nothing(home: Path, undisturbed: Path) -> None:
    log = home / "watched.log"
    file = file_of(home, "watched", evaluate__every=1, evaluate__at_start=True, loading__workers=1)
    assert quincunx("train", file, log=log) == 0, log.read_text()
    assert final_weights(home / "watched") == final_weights(undisturbed)


SMOOTH: dict[str, Any] = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.05}, "positions__dropout": 0.0}


def test_chunks_and_processes_change_nothing_but_the_order_of_additions(home: Path) -> None:
    log = home / "descents.log"
    assert quincunx("train", file_of(home, "descent", **SMOOTH), log=log) == 0, log.read_text()
    assert quincunx("train", file_of(home, "cut", **SMOOTH, chunking__samples=3), log=log) == 0, log.read_text()
    result = torchrun("train", file_of(home, "shared", **SMOOTH, chunking__samples=2))
    assert result.returncode == 0, result.stdout + result.stderr
    assert quincunx("train", file_of(home, "other", **SMOOTH, seed=4), log=log) == 0, log.read_text()
    assert closeness(home / "cut", home / "descent") < 1e-5
    assert closeness(home / "shared", home / "descent") < 1e-5
    assert closeness(home / "other", home / "descent") > 1e-3, "the distance must be able to tell runs apart"


def test_a_run_that_is_opened_again_has_the_positions_that_it_was_trained_with(home: Path) -> None:
    """The size of sinusoids follows the embeddings as they were before the first update."""
    trained = train(str(file_of(home, "sines", positions__kind="sinusoidal", positions__dropout=0.0, blotch={})))
    tables = [Run(trained.path).model("last").position_table for _ in range(2)]
    assert tables[0].scale.item() == tables[1].scale.item() != 1
    found = evaluate(trained, "test", "last").scalars["loss"]
    assert found == pytest.approx(metrics(trained.path)["test/loss"][-1], rel=1e-6)
