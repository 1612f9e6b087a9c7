"""States of runs and the list of them, damaged folders included."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from quincunx.errors import RunError
from quincunx.runs import RunFolder, RunSummary, as_table, list_runs, state_of


def make_run(
    path: Path, summary: dict[str, Any] | None = None, config: str = "recipe: long_range\ntask: listops\n"
) -> RunFolder:
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.write_text("config.yaml", config)
    if summary is not None:
        folder.write_json("summary.json", summary)
    return folder


FINISHED = {
    "recipe": "long_range",
    "task": "listops",
    "state": "finished",
    "update": 600,
    "updates": 600,
    "best": {"metric": "dev/accuracy", "value": 0.625, "update": 550},
}


def by_name(root: Path) -> dict[str, RunSummary]:
    return {run.name: run for run in list_runs(root)}


def test_states(tmp_path: Path) -> None:
    make_run(tmp_path / "done", FINISHED)
    make_run(tmp_path / "broken", {**FINISHED, "state": "failed", "reason": "loss was nan at update 3"})
    make_run(tmp_path / "killed", {**FINISHED, "state": "running", "update": 10})
    make_run(tmp_path / "young")
    with make_run(tmp_path / "busy", {**FINISHED, "state": "running", "update": 10}):
        runs = by_name(tmp_path)
    assert {name: run.state for name, run in runs.items()} == {
        "done": "finished",
        "broken": "failed",
        "killed": "interrupted",
        "young": "interrupted",
        "busy": "running",
    }
    assert runs["broken"].reason == "loss was nan at update 3"
    assert (runs["done"].update, runs["done"].updates, runs["done"].best) == (600, 600, FINISHED["best"])
    assert (runs["young"].recipe, runs["young"].task, runs["young"].updates) == ("long_range", "listops", None)


def test_own_word_counts_while_writing_the_report(tmp_path: Path) -> None:
    with make_run(tmp_path / "x") as folder:
        assert state_of(folder, {}) == "running"
        assert state_of(folder, {"state": "running"}) == "running"
        assert state_of(folder, {"state": "finished"}) == "finished"


def test_updates_come_from_the_metrics_where_the_summary_is_older(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "x", {**FINISHED, "state": "running", "update": 10})
    with folder.open_lines("metrics.jsonl") as lines:
        for update in range(5, 500, 5):
            lines.append({"update": update, "split": "train", "name": "loss", "value": 1.0})
    with folder.metrics.open("ab") as file:
        file.write(b'{"update": 500, "sp')
    folder.write_json("plan.json", {"stop_at": 600, "total_updates": 1200})
    assert list_runs(tmp_path)[0].update == 495


def test_planned_updates_where_there_is_no_summary(tmp_path: Path) -> None:
    make_run(tmp_path / "x").write_json("plan.json", {"stop_at": 600, "total_updates": 1200})
    assert list_runs(tmp_path)[0].updates == 600


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("summary.json", b"{", "cannot be read"),
        ("summary.json", b"[]", "expected a JSON object"),
        ("summary.json", b'{"update": "many"}', "update is 'many'"),
        ("summary.json", b'{"update": true}', "update is True"),
        ("summary.json", b'{"state": "sleeping"}', "sleeping"),
        ("summary.json", b'{"best": {"metric": "dev/a", "value": "high", "update": 1}}', "best is"),
        ("config.yaml", b"a: [", "config.yaml"),
        ("config.yaml", b"\xff\xfe\xff", "config.yaml"),
        ("config.yaml", b"- 1\n", "expected settings"),
        ("config.yaml", b"!!python/object:os.system {}\n", "config.yaml"),
        ("plan.json", b"{", "plan.json"),
    ],
)
def test_damage_is_listed_with_its_reason_and_hides_nobody(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    make_run(tmp_path / "good", FINISHED)
    make_run(tmp_path / "bad").write_bytes(name, content)
    runs = by_name(tmp_path)
    assert runs["good"].state == "finished"
    assert runs["bad"].state == "damaged"
    assert reason in runs["bad"].reason
    assert reason.split(maxsplit=1)[0] in as_table(list(runs.values()))


def test_a_lost_config_is_damage(tmp_path: Path) -> None:
    make_run(tmp_path / "x", FINISHED).config.unlink()
    assert list_runs(tmp_path)[0].reason == "config.yaml is missing"


def test_only_runs_are_listed_latest_first(tmp_path: Path) -> None:
    for age, name in ((50, "old"), (5, "new"), (500, "oldest")):
        folder = make_run(tmp_path / name, FINISHED)
        for path in (*folder.path.iterdir(), folder.path):
            stamp = path.stat().st_mtime - age
            os.utime(path, (stamp, stamp))
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").touch()
    assert [run.name for run in list_runs(tmp_path)] == ["new", "old", "oldest"]
    assert [run.name for run in list_runs(tmp_path / "old")] == ["old"], "a run's own folder is a list of one"
    assert list_runs(tmp_path / "nowhere") == []
    with pytest.raises(RunError, match="cannot be listed"):
        list_runs(tmp_path / "file")


def test_table(tmp_path: Path) -> None:
    rows = [
        RunSummary(tmp_path, "a\x1b[31m\n", "finished", "long_range", "listops", 600, 600, FINISHED["best"], 7300.0),
        RunSummary(tmp_path, "b", "damaged", age=200_000.0, reason="config.yaml is missing"),
    ]
    lines = as_table(rows).splitlines()
    assert len(lines) == 3, "nothing in a name may break a line or reach the terminal as a command"
    shown = " ".join(lines[1].split())
    assert shown == "a\\x1b[31m\\n finished long_range listops 600/600 dev/accuracy 0.625 at 550 2 h ago"
    assert "config.yaml is missing" in lines[2]
    assert "2 days ago" in lines[2]
    assert lines[0].index("state") == lines[1].index("finished") == lines[2].index("damaged")
    assert as_table([]) == "no runs"
