"""The report of whole, young, interrupted and damaged runs, read back as a browser would."""

from __future__ import annotations

import math
import re
import struct
import subprocess
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from quincunx.errors import RunError
from quincunx.metrics.record import Evaluation, Table
from quincunx.report import collect, write_report
from quincunx.runs import RunFolder
from quincunx.track import open_trackers

NASTY = "<script>alert('x')</script>\"&amp;"
VOID = {"meta", "br", "line", "circle", "polyline", "polygon"}


class Page(HTMLParser):
    """Collects elements, attributes and text, and checks that every element is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def full_run(path: Path, **summary: Any) -> RunFolder:
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.write_text(
        "config.yaml",
        f"recipe: long_range\ntask: listops\nseed: 7\nrun:\n  note: |-\n    {NASTY}\nencoder:\n  num_layers: 2\n"
        "optimizer:\n  learning_rate: 0.002\n  betas: [0.9, 0.999]\n",
    )
    folder.write_json(
        "origins.json",
        [
            {
                "path": "seed",
                "value": 7,
                "from": "command line: seed=7",
                "overrode": [{"value": 1, "from": "my.yaml:1:1"}],
            },
            {"path": "encoder.num_layers", "value": 2, "from": "my.yaml:3:5", "overrode": []},
            {"path": "optimizer.learning_rate", "value": 0.002, "from": "default", "overrode": []},
        ],
    )
    folder.write_json("plan.json", {"stop_at": 60, "train_examples": 96000, "memory": {"total": 67371488}})
    folder.write_json("environment.json", {"working_folder": str(path.parent), "python": "3.11.7", "host": NASTY})
    trackers = open_trackers([])
    trackers.start(path, {})
    for update in range(1, 61):
        trackers.log(update, "train", {"loss": 2 / update + update % 3, "learning_rate": 0.001, NASTY: 1.0})
        if update % 20 == 0:
            scalars = {"accuracy": update / 100, "accuracy_se": 0.0112, "root_oracle": 0.4, "loss": 1.5}
            trackers.log(update, "dev", scalars)
            save(folder, "dev", update, scalars)
    trackers.finish()
    save(folder, "test", 40, {"loss": math.nan, "accuracy": 0.59512, "accuracy_se": 0.01098})
    with folder.open_lines("timings.jsonl") as lines:
        for speed in (100.0, 300.0, 200.0):
            lines.append({"update": 1, "seconds": 50.0, "examples_per_second": speed})
    best = {"metric": "dev/accuracy", "value": 0.4, "update": 40}
    folder.write_json("summary.json", {"state": "finished", "update": 60, "updates": 60, "best": best, **summary})
    return folder


def save(folder: RunFolder, split: str, update: int, scalars: Mapping[str, float], **more: Any) -> None:
    evaluation = Evaluation(
        scalars,
        [Table(f"by {NASTY}", ("group", "count"), [[NASTY, 3], ["b", None], ["c"]])],
        [{"source": NASTY, "answer": 4}, {"source": "long " * 100, "other": [1, {"a": NASTY}]}],
        [f"{split} is above the oracle at {update}"],
    )
    folder.write_json(
        f"evaluations/{split}-{update}.json", {**evaluation.to_json(), "split": split, "update": update, **more}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    made = full_run(tmp_path_factory.mktemp("report") / "runs" / "toy-3")
    write_report(made.path)
    return made


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures out where a test is about the page: drawing them takes most of the time."""
    monkeypatch.setattr("quincunx.report.to_png", lambda chart: b"")


def test_result_comes_with_its_error_and_the_comparison(folder: RunFolder) -> None:
    text = read(folder.path).text
    assert "test accuracy at update 40 0.595 ± 0.011" in text
    assert "test is above the oracle at 40" in text
    assert "dev accuracy: 0.400 ± 0.011 at update 40" in text, "dev is shown at the best checkpoint, not the last"
    assert "dev is above the oracle at 60" not in text


def test_everything_that_belongs_in_it_is_there(folder: RunFolder) -> None:
    text = read(folder.path).text
    assert "toy-3" in text
    assert "the best checkpoint of 3 evaluations of this split" in text
    assert "train examples 96,000" in text
    assert "memory · total 64.3 MiB" in text
    assert "python 3.11.7" in text
    assert "200 examples a second, median" in text
    assert "2 min 30 s time training" in text
    assert "learning_rate: 0.002" in text, "the whole config, as it stands"


def test_given_settings_come_first_and_defaults_do_not(folder: RunFolder) -> None:
    given = collect(folder.path).given()
    assert [(setting.path, setting.value, setting.origin) for setting in given] == [
        ("seed", 7, "command line: seed=7, in place of 1 from my.yaml:1:1"),
        ("encoder.num_layers", 2, "my.yaml:3:5"),
    ]
    text = read(folder.path).text
    assert text.index("encoder.num_layers 2 my.yaml:3:5") < text.index("The whole config")


def test_commands_are_those_of_the_working_folder(folder: RunFolder) -> None:
    text = read(folder.path).text
    assert "Repeat it in a new folder quincunx train toy-3 Go on" in text
    assert "quincunx train toy-3 --resume" in text
    assert "quincunx evaluate toy-3" in text


def test_a_run_with_a_folder_of_its_own_is_repeated_elsewhere(tmp_path: Path) -> None:
    RunFolder(tmp_path / "a b").write_text("config.yaml", "run:\n  dir: a b\n")
    write_report(tmp_path / "a b")
    assert re.search(r"quincunx train '\S+a b' run\.dir=null", read(tmp_path / "a b").text)


def test_nothing_from_a_run_becomes_markup(folder: RunFolder) -> None:
    page = read(folder.path)
    assert "script" not in {tag for tag, _ in page.elements}
    assert page.text.count(NASTY) >= 6, "note, metric, table title, cell, sample, environment: all there, as text"


def test_the_page_needs_nothing_from_elsewhere(folder: RunFolder) -> None:
    page = read(folder.path)
    source = folder.report.read_text(encoding="utf-8")
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint({tag for tag, _ in page.elements})
    assert all((attributes.get("href") or "#").startswith("#") for _, attributes in page.elements)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert "@import" not in source
    assert "url(" not in source
    assert "prefers-color-scheme: dark" in source
    anchors = {attributes["href"] for tag, attributes in page.elements if tag == "a"}
    assert {f"#{attributes['id']}" for _, attributes in page.elements if "id" in attributes} == anchors


def test_pictures_are_real_and_named_after_their_metrics(folder: RunFolder) -> None:
    found = {path.name: path.read_bytes() for path in (folder.path / "report").iterdir()}
    assert {"loss.png", "learning_rate.png", "accuracy.png"} < set(found)
    assert "accuracy_se.png" not in found
    assert "root_oracle.png" not in found, "a level to compare with is a line in the accuracy's picture"
    for content in found.values():
        assert content.startswith(b"\x89PNG")
        assert struct.unpack(">II", content[16:24]) == (1050, 600)


@pytest.mark.usefixtures("no_pictures")
def test_writing_it_again_replaces_it_and_touches_nothing_else(tmp_path: Path) -> None:
    folder = full_run(tmp_path / "x")
    write_report(folder.path)
    before = {
        path: path.stat().st_mtime_ns
        for path in folder.path.rglob("*")
        if "report" not in str(path.relative_to(tmp_path))
    }
    (folder.path / "report.html").write_text("old")
    assert write_report(folder.path) == folder.report
    assert folder.report.stat().st_size > 5000
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.usefixtures("no_pictures")
def test_an_interrupted_run_says_so_and_how_to_go_on(tmp_path: Path) -> None:
    folder = full_run(tmp_path / "x", state="running", update=30, updates=90)
    write_report(folder.path)
    text = read(folder.path).text
    assert "This run was interrupted at update 60 of 90. Go on with: quincunx train x --resume" in text


@pytest.mark.usefixtures("no_pictures")
def test_a_failed_run_says_why(tmp_path: Path) -> None:
    folder = full_run(tmp_path / "x", state="failed", reason=f"loss was nan {NASTY}")
    write_report(folder.path)
    assert f"This run failed at update 60 of 60. loss was nan {NASTY}" in read(folder.path).text


def test_a_running_run_can_be_looked_at(tmp_path: Path) -> None:
    folder = full_run(tmp_path / "x", state="running")
    program = """
import sys
from pathlib import Path
from quincunx.report import write_report
write_report(Path(sys.argv[1]))
"""
    with folder:
        subprocess.run([sys.executable, "-c", program, str(folder.path)], check=True)
    assert "This run was at update 60 of 60 when the report was written." in read(folder.path).text


def test_an_empty_folder_gives_a_report_that_says_what_is_missing(tmp_path: Path) -> None:
    write_report(tmp_path)
    text = read(tmp_path).text
    for words in (
        "interrupted",
        "Nothing was evaluated yet",
        "No metrics were written yet",
        "no config.yaml",
        "no plan",
    ):
        assert words in text


@pytest.mark.usefixtures("no_pictures")
def test_damaged_parts_are_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    folder = full_run(tmp_path / "x")
    folder.write_bytes("plan.json", b"{")
    folder.write_bytes("origins.json", b"{}")
    folder.write_bytes("evaluations/dev-20.json", b'{"scalars": []}')
    folder.write_bytes("evaluations/dev-21.json", b'{"scalars": {}, "split": "dev", "update": 21, "notes": 5}')
    folder.write_bytes("evaluations/dev-22.json", b'{"scalars": {"a": "high"}, "split": "dev", "update": "now"}')
    lines = folder.metrics.read_bytes().splitlines(keepends=True)
    folder.metrics.write_bytes(b"".join([*lines[:30], b"oops\n", *lines[30:]]))
    write_report(folder.path)
    text = read(folder.path).text
    for name in ("plan.json", "origins.json", "dev-20.json", "dev-21.json", "dev-22.json", "metrics.jsonl:31"):
        assert name in text
    assert "test accuracy at update 40 0.595" in text
    assert collect(folder.path).series["train", "loss"].updates == list(range(1, 11)), "what stands before the damage"


@pytest.mark.usefixtures("no_pictures")
def test_a_config_that_cannot_be_read_is_shown_as_it_stands(tmp_path: Path) -> None:
    folder = full_run(tmp_path / "x")
    folder.write_bytes("config.yaml", b"recipe: [\n\xff <b>")
    write_report(folder.path)
    text = read(folder.path).text
    assert "config.yaml cannot be read" in text
    assert "recipe: [" in text


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(RunError, match="not a folder"):
        write_report(tmp_path / "x")


def test_a_full_disk_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def failing(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(RunError, match=r"report\.html cannot be written: No space left"):
        write_report(tmp_path)


def test_the_result_is_of_the_metric_that_chose_the_best(tmp_path: Path) -> None:
    data = collect(full_run(tmp_path / "x").path)
    result = data.result("test")
    assert result is not None
    assert (result.name, result.value, result.standard_error) == ("accuracy", 0.59512, 0.01098)
    data = collect(full_run(tmp_path / "y", best=None).path)
    result = data.result("dev")
    assert result is not None
    assert (result.name, result.update) == ("accuracy", 60), "without a best, the first metric of the latest evaluation"
    assert data.result("train") is None


def test_none_of_it_imports_torch_or_the_global_state_of_pyplot(tmp_path: Path) -> None:
    folder = full_run(tmp_path / "x")
    program = """
import sys
from pathlib import Path
from quincunx.report import write_report
early = {"matplotlib", "torch"} & set(sys.modules)
write_report(Path(sys.argv[1]))
sys.exit(f"{early} {sys.modules.keys() & {'torch', 'matplotlib.pyplot'}}" if early or "torch" in sys.modules
         or "matplotlib.pyplot" in sys.modules else 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder.path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
