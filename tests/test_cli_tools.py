"""The verbs beside training: presets, generated data, comparison of runs, capacity."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Said
from quincunx import load

Cli = Callable[..., Said]


def test_a_preset_is_written_and_checks(cli: Cli, work: Path):
    said = cli("init", "long_range", "--preset", "lra-base", "--task", "pathfinder", "--out", "base.yaml")
    assert said.code == 0, said.err
    assert "quincunx train base.yaml" in (work / "base.yaml").read_text(encoding="utf-8")
    assert cli("check", "base.yaml", "--strict").code == 0
    config = load(work / "base.yaml").config
    assert (config.task, config.encoder.num_layers) == ("pathfinder", 4)
    assert cli("init", "long_range", "--preset", "guide").out.startswith("# Preset guide, listops")


def test_drawn_images_are_a_task_that_trains(cli: Cli, work: Path):
    options = ["--resolution", "16", "--train", "24", "--dev", "8", "--test", "8", "--seed", "3"]
    first = cli("data", "pathfinder", "--out", "drawn", *options)
    assert first.code == 0, first.err
    assert cli("data", "pathfinder", "--out", "drawn", *options).out.splitlines()[-1] == first.out.splitlines()[-1]
    other = cli("data", "pathfinder", "--out", "other", *options, "--distractors", "0")
    assert other.out.splitlines()[-1].split()[-1] != first.out.splitlines()[-1].split()[-1]
    (work / "config.yaml").write_text(
        json.dumps(
            {
                "task": "pathfinder",
                "recipe": "long_range",
                "seed": 1,
                "data": {"path": "drawn", "resolution": 16},
                "encoder": {"embedding_dim": 8, "hidden_dim": 8, "head_dim": 4, "num_heads": 2},
                "compute": {"threads": 1, "device": "cpu"},
            }
        )
    )
    said = cli("train", "config.yaml", "run.dir=run")
    assert said.code == 0, said.err
    assert "bag-of-tokens oracle" in said.out
    row = {"pixels": [0] * 256}
    (work / "rows.jsonl").write_text(json.dumps(row))
    predicted = cli("predict", "run", "rows.jsonl")
    assert predicted.code == 0 and set(json.loads(predicted.out)) == {"prediction", "probabilities"}


@pytest.fixture
def three(finished: Path, work: Path) -> Path:
    """Runs of two seeds, and one of another kind, made from one by changing what its files say."""
    for number, (seed, kind, accuracy) in enumerate(((1, "softmax", 0.5), (2, "softmax", 0.7), (1, "none", 0.3))):
        folder = Path(shutil.copytree(finished, work / f"all/run-{number}"))
        text = (folder / "config.yaml").read_text(encoding="utf-8")
        text = text.replace("seed: 11", f"seed: {seed}").replace("kind: softmax", f"kind: {kind}")
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        (file,) = (folder / "evaluations").glob("test-*.json")
        evaluation = json.loads(file.read_text())
        evaluation["scalars"]["accuracy"] = accuracy
        file.write_text(json.dumps(evaluation))
    return work / "all"


def test_runs_are_compared_by_what_differs(cli: Cli, three: Path):
    said = cli("runs", "compare", three)
    assert said.code == 0, said.err
    assert said.out.startswith("test/accuracy by attention.kind")
    groups = {group["label"]: group for group in json.loads(cli("runs", "compare", three, "--json").out)["groups"]}
    assert groups["softmax"]["estimate"]["value"] == pytest.approx(0.6)
    assert groups["none"]["estimate"]["value"] == pytest.approx(0.3)
    markdown = cli("runs", "compare", three, "--markdown", "--by", "attention.kind", "--against", "none", "--tables")
    assert markdown.code == 0, markdown.err
    assert "| softmax |" in markdown.out and "outermost operator" in markdown.out
    assert cli("runs", "compare", three, "--metric", "test/acuracy").code == 1
    assert cli("runs", "compare", three, "--against", "tpr").code == 2


def test_capacity_is_shown(cli: Cli):
    options = ["--widths", "16", "--pairs", "1", "4", "--repetitions", "8", "--seed", "2"]
    rows = json.loads(cli("bench", "capacity", *options, "--json").out)
    assert {(row["width"], row["pairs"]) for row in rows} == {(16, 1), (16, 4)}
    unitary = next(row for row in rows if "unitary" in row["memory"] and row["pairs"] == 1)
    assert unitary["cosine"] == pytest.approx(1, abs=1e-5)
    assert "unitary keys" in cli("bench", "capacity", *options).out
