"""Runs that train nothing, and runs that hand in what they predict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from vision_language_runs import experiment_of, run_of


def test_a_run_that_only_evaluates_has_the_weights_it_starts_from(world: Path, tmp_path: Path) -> None:
    first = run_of(world, tmp_path / "first", {"budget.updates": 2, "data.test": ["test"]})
    settings = {"evaluate.only": True, "init_from": str(first.path), "data.test": ["test"], "budget.updates": 2}
    second = run_of(world, tmp_path / "second", settings)
    assert second.summary["state"] == "finished" and second.summary["update"] == 0
    lines: Any = second.metrics()
    assert not any(line["split"] == "train" for line in lines)
    wanted: Any = first.metrics()
    for split in ("dev", "test"):
        mine, theirs = (
            {line["name"]: line["value"] for line in each if line["split"] == split} for each in (lines, wanted)
        )
        assert mine == theirs and mine
    assert second.report.is_file()
    one, other = first.model("best").state_dict(), second.model("best").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_predictions_lie_in_the_run_s_folder_in_the_form_of_each_leaderboard(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "world"
    shutil.copytree(world, folder)
    for task in ("vqa", "gqa"):
        rows = [json.loads(line) for line in (folder / task / "test.jsonl").read_text().splitlines()]
        bare = [{key: row[key] for key in ("uid", "pictures", "text")} for row in rows]
        (folder / task / "secret.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    settings: dict[str, Any] = {"data.tasks": ["vqa", "gqa"], "data.hidden": True, "budget.updates": 1}
    settings |= {"data.test": ["test", "secret"], "evaluate.submit": True}
    run = run_of(folder, tmp_path / "run", settings)
    found = sorted(str(path.relative_to(run.path)) for path in (run.path / "submissions").rglob("*.json"))
    assert found == [
        f"submissions/{split}/{task}.json" for split in ("dev", "hidden", "test") for task in ("gqa", "vqa")
    ]
    handed = json.loads((run.path / "submissions" / "hidden" / "gqa.json").read_text())
    uids = [json.loads(line)["uid"] for line in (folder / "gqa" / "secret.jsonl").read_text().splitlines()]
    assert [row["questionId"] for row in handed] == uids
    lines: Any = run.metrics()
    assert {line["value"] for line in lines if line["name"] == "gqa/predicted"} == {16.0}


def test_nothing_is_handed_in_unasked(world: Path, tmp_path: Path) -> None:
    run = run_of(world, tmp_path / "run", {"data.tasks": ["gqa"], "budget.updates": 1})
    assert not (run.path / "submissions").exists()
    made = experiment_of(world, {"data.tasks": ["gqa"]})
    assert [*made.final_evaluators] == []
