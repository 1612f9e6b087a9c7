"""Pictures that are asked about and not to be had are told before a run begins, all of them at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx import train
from quincunx.errors import DataError
from quincunx.recipes.vision_language.data.features import Features
from quincunx.recipes.vision_language.data.features.writing import write_features
from quincunx.recipes.vision_language.data.folder import Collection
from quincunx.recipes.vision_language.model.downsample import GridPool, LinePool, SparseSample
from quincunx.recipes.vision_language.model.rows import Rows
from quincunx.recipes.vision_language.presence import check_maker, fewer_is_more
from vision_language_runs import config_of, experiment_of, run_of

RAW: dict[str, Any] = {"pictures.features": "raw_RN50", "pictures.image_size": [32, 32]}
TASKS = ["vqa", "nlvr"]


@pytest.fixture
def own(world: Path, tmp_path: Path) -> Path:
    """A world that may be changed."""
    return Path(shutil.copytree(world, tmp_path / "own"))


def asked(world: Path, splits: Mapping[str, int | None]) -> set[str]:
    """The pictures of some tasks' splits, of so many examples of each, as a plain reader finds them."""
    found = set[str]()
    for task in TASKS:
        for split, count in splits.items():
            lines = (world / task / f"{split}.jsonl").read_text().splitlines()[:count]
            found.update(name for line in lines for name in json.loads(line)["pictures"])
    return found


def remove(world: Path, names: set[str]) -> None:
    for name in names:
        Collection(world).file_of(name).unlink()


@settings(max_examples=12)
@given(draw=st.data())
def test_files_are_missed_that_are_asked_about(draw: st.DataObject, world: Path, tmp_path_factory: Any) -> None:
    folder = Path(shutil.copytree(world, tmp_path_factory.mktemp("worlds") / "own"))
    wanted = asked(world, {"train": 6, "dev": None})
    every = sorted(Collection(world).pictures)
    gone = draw.draw(st.sets(st.sampled_from(every), min_size=1, max_size=9))
    remove(folder, gone)
    changes = {**RAW, "data.tasks": TASKS, "data.train_top": 6}
    if not gone & wanted:
        changes["model.path"] = "nowhere"  # where building would go on
        with pytest.raises(Exception, match="nowhere"):
            experiment_of(folder, changes)
        return
    expected = f"of {len(gone & wanted)} of the {len(wanted)} pictures that are asked about the file is not there"
    with pytest.raises(DataError, match=expected) as said:
        experiment_of(folder, changes)
    assert sum(f"{name} (" in str(said.value) for name in wanted & gone) == min(5, len(gone & wanted))
    assert ("more. Put" in str(said.value)) == (len(gone & wanted) > 5)


def test_features_are_missed_that_are_asked_about_in_the_last_split_too(own: Path) -> None:
    path = own / "features/butd.arrow"
    stored, gone = Features(path), max(asked(own, {"test": None}) - asked(own, {"train": None, "dev": None}))
    rows = {name: np.array(stored[name]) for name in stored if name != gone}
    path.unlink()
    write_features(path, rows.items(), width=stored.width, model=stored.model)
    assert len(experiment_of(own, {"data.tasks": TASKS}).source)
    count = len(asked(own, {"train": None, "dev": None, "test": None}))
    with pytest.raises(DataError, match=rf"no features of 1 of the {count} pictures .*: {gone}\. `quincunx features`"):
        experiment_of(own, {"data.tasks": TASKS, "data.test": ["test"]})


def test_nothing_is_written_before_it_is_known(own: Path, tmp_path: Path) -> None:
    remove(own, asked(own, {"dev": None}))
    with pytest.raises(DataError, match="is not there"):
        train({**config_of(own, {**RAW, "data.tasks": TASKS}), "run": {"dir": str(tmp_path / "run")}})
    assert not (tmp_path / "run").exists()


def test_pictures_without_a_file_are_named(own: Path) -> None:
    path = own / "pictures.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({key: row[key] for key in row if key != "file"}) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"\(no file is named\)"):
        experiment_of(own, {**RAW, "data.tasks": TASKS})
    assert len(experiment_of(own, {"data.tasks": TASKS}).source)  # whose features are stored


def test_a_run_is_measured_where_pictures_of_its_training_are_gone(own: Path, tmp_path: Path) -> None:
    few = {**RAW, "data.tasks": ["cls"], "data.train_top": 2, "data.dev_top": 2, "budget.updates": 1}
    run = run_of(own, tmp_path / "run", {**few, "update.batch_size": 2})
    lines = (own / "cls/train.jsonl").read_text().splitlines()[:2]
    remove(own, {json.loads(line)["pictures"][0] for line in lines})
    from quincunx import evaluate

    assert "cls/accuracy" in evaluate(run, split="dev").scalars


@pytest.mark.parametrize(
    ("word", "about", "why"),
    [
        ("RN101", {"encoder": "RN50", "rows": "7x7"}, "was made by the encoder RN50, and pictures.features is RN101"),
        ("ViT", {"encoder": "RN50", "rows": "pooled"}, "set it to RN50"),
        ("butd", {"encoder": "RN50", "rows": "7x7"}, "a row for each region: set pictures.features"),
        ("butd", {"encoder": "RN50", "rows": "regions, pooled"}, None),
        ("RN50", {"encoder": "RN50", "rows": "7x7"}, None),
        ("RN50", {"encoder": "my_model", "rows": "7x7"}, None),
        ("RN50", {}, None),
        ("butd", {"encoder": "a detector"}, None),
    ],
)
def test_features_of_another_encoder_are_refused(
    word: str, about: dict[str, str], why: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.arrow"
    write_features(path, [("p", np.zeros((4, 3)))], width=3, model="m", about=about)
    if why is None:
        check_maker(Features(path), word)
        return
    with pytest.raises(DataError, match=why):
        check_maker(Features(path), word)


@given(way=st.sampled_from(["grid", "line", "sparse"]), count=st.integers(1, 40), side=st.integers(1, 6))
def test_more_tokens_are_said_to_be_more(way: str, count: int, side: int) -> None:
    """Held to what the modules leave."""
    import torch

    most = side * side
    module = {"grid": GridPool, "line": LinePool, "sparse": SparseSample}[way](count).eval()
    there = torch.ones(1, most, dtype=torch.bool)
    numbers = torch.arange(most)[None]
    rows = Rows(torch.rand(1, most, 2), torch.rand(1, most, 4), there, torch.zeros_like(numbers), numbers)
    left = int(module(rows).mask.sum())
    said = fewer_is_more([way], count, most)
    if way == "sparse":
        assert bool(said) == (count > most) and left == min(count, most)
    else:
        assert bool(said) == (left > most)
        assert not said or f"makes {left} visual tokens of a picture's {most}" in said[0]
    assert fewer_is_more([], count, most) == []


def test_a_run_says_it_of_stored_features_and_of_pictures(world: Path) -> None:
    stored = experiment_of(world, {"data.tasks": ["cls"], "pictures.line": True, "pictures.boxes": 200})
    assert any("pictures.line makes 200 visual tokens" in note for note in stored.notes)
    seen = experiment_of(world, {**RAW, "data.tasks": ["cls"], "pictures.grid": True, "pictures.boxes": 4})
    assert any("pictures.grid makes 4 visual tokens of a picture's 1," in note for note in seen.parts.notes)
    right = experiment_of(world, {"data.tasks": ["cls"], "pictures.line": True, "pictures.boxes": 1})
    assert not any("visual tokens" in note for note in (*right.notes, *right.parts.notes))
