"""What a config reads of a collection: tasks, splits, shares of them, and what is said of texts that are cut."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.read import Splits, read, wording_of
from quincunx.recipes.vision_language.tasks import Wording
from vision_language_runs import decided, experiment_of


def found(world: Path, **settings: Any) -> Splits:
    return read(decided(world, {name.replace("__", "."): value for name, value in settings.items()}))


@pytest.fixture
def changed(world: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a world whose file of a task has other rows."""

    def write(task: str, split: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(world, folder, dirs_exist_ok=True)
        source = world / task / ("dev.jsonl" if split not in ("train", "dev", "test") else f"{split}.jsonl")
        rows = [change(json.loads(line)) for line in source.read_text().splitlines()]
        (folder / task / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    return write


def test_unset_tasks_are_those_of_the_folder_in_the_order_of_the_table(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    shutil.copytree(world, folder)
    for task in ("gqa", "nlvr", "refcoco", "vcr", "caption", "mmt"):
        shutil.rmtree(folder / task)
    assert found(folder).tasks == ("vqa", "cls")
    assert found(folder, data__tasks=["cls", "vqa"]).tasks == ("cls", "vqa")
    shutil.rmtree(folder / "vqa")
    shutil.rmtree(folder / "cls")
    with pytest.raises(DataError, match="has no task"):
        found(folder)


@pytest.mark.parametrize(("top", "count"), [(-1, 32), (0.25, 8), (0.001, 1), (1, 32), (5, 5)])
def test_a_share_or_a_number_of_examples(top: float, count: int, world: Path) -> None:
    assert len(found(world, data__tasks=["vqa"], data__train_top=top).train) == count


def test_a_share_is_drawn_by_the_seed_and_a_number_is_the_first(world: Path) -> None:
    def places(seed: int, top: float) -> list[int]:
        return found(world, data__tasks=["vqa"], data__train_top=top, seed=seed).train.parts[0].chosen.tolist()

    assert places(1, 0.25) == places(1, 0.25) != places(2, 0.25)
    assert places(1, 4) == places(2, 4) == [0, 1, 2, 3]
    with pytest.raises(UsageError, match=r"found 2.5"):
        places(1, 2.5)


def test_splits_have_their_names_and_dev_has_three(world: Path) -> None:
    assert len(found(world, data__tasks=["vqa"], data__train=["train", "dev"], data__dev=["valid"]).train) == 48
    with pytest.raises(
        DataError, match=r"no split other of vqa; it has: dev, test, train\. Name one of these in data\.train"
    ):
        found(world, data__tasks=["vqa"], data__test=["other"])


def test_validation_is_a_name_of_dev_too(changed: Callable[..., Path]) -> None:
    folder = changed("gqa", "validation", lambda row: row)
    (folder / "gqa/dev.jsonl").unlink()
    for word in ("dev", "val", "validation"):
        assert len(found(folder, data__tasks=["gqa"], data__dev=[word]).dev) == 16
    shutil.rmtree(folder / "vqa")
    with pytest.raises(DataError, match=r"none of this task\. Leave the task out of data\.tasks"):
        found(folder, data__tasks=["vqa"])


def test_an_empty_split_is_said_to_be_empty(world: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(world, tmp_path / "own"))
    (folder / "gqa/dev.jsonl").write_text("")
    with pytest.raises(DataError, match=r"gqa.dev\.jsonl is empty: expected one example a line"):
        found(folder, data__tasks=["gqa"])


def test_what_a_classifier_cannot_be_right_about_is_counted(changed: Callable[..., Path], world: Path) -> None:
    folder = changed("gqa", "dev", lambda row: {**row, "answers": ["never said"]})
    settings = {"data.tasks": ["gqa"], "model.classifier": True, "data.test": ["test"]}
    known = set(read(decided(world, settings)).answers(Wording()))
    tested = [json.loads(line)["answers"] for line in (world / "gqa/test.jsonl").read_text().splitlines()]
    notes = [note for note in experiment_of(folder, settings).notes if "cannot be right" in note]
    assert "gqa/dev.jsonl: 16 of 16 examples" in notes[0] and "data.vqa.answerable" in notes[0]
    unknown = sum(not known & set(answers) for answers in tested)
    assert [f"test.jsonl: {unknown} of {len(tested)}" in note for note in notes[1:]] == [True] * (unknown > 0)
    assert not any("cannot be right" in note for note in experiment_of(folder, {"data.tasks": ["gqa"]}).notes)


def test_examples_that_say_nothing_are_left_out_and_counted(changed: Callable[..., Path]) -> None:
    first = True

    def forget(row: dict[str, Any]) -> dict[str, Any]:
        nonlocal first
        row = {**row, "answers": []} if first else row
        first = False
        return row

    splits = found(changed("gqa", "train", forget), data__tasks=["gqa"])
    assert len(splits.train) == 31
    assert any("1 of 32 examples say nothing to learn" in note for note in splits.notes)


def test_an_expression_that_no_region_is_near_is_not_trained_and_is_measured(changed: Callable[..., Path]) -> None:
    far = {"box": [0.0, 0.0, 1.0, 1.0]}
    folder = changed("refcoco", "train", lambda row: {**row, **(far if row["uid"].endswith("-0") else {})})
    settings = {"data__tasks": ["refcoco"], "data__dev": ["train"]}
    splits = found(folder, **settings)
    assert 0 < len(splits.train) < len(splits.dev) == 32
    with pytest.raises(DataError, match="no example says what is right"):
        found(changed("refcoco", "train", lambda row: {**row, **far}), **settings)


def test_hidden_examples_are_those_without_answers(changed: Callable[..., Path], world: Path) -> None:
    folder = changed("gqa", "hidden", lambda row: {**row, "answers": []})
    splits = found(folder, data__tasks=["gqa"], data__hidden=True, data__test=["hidden"], data__dev=["dev"])
    assert splits.hidden is not None and len(splits.hidden) == 16
    with pytest.raises(DataError, match=r"data\.hidden asks for examples without answers"):
        found(world, data__tasks=["gqa"], data__hidden=True)


def test_questions_that_training_cannot_answer_are_left_out_of_measures(changed: Callable[..., Path]) -> None:
    folder = changed("gqa", "dev", lambda row: {**row, "answers": ["never said"]} if "0-" in row["uid"] else row)
    every = len(found(folder, data__tasks=["gqa"]).dev)
    assert 0 < len(found(folder, data__tasks=["gqa"], data__vqa__answerable=True).dev) < every


def test_answers_are_sorted_by_how_often_they_are_right(world: Path) -> None:
    config = decided(world, {"data.tasks": ["cls"]})
    answers = read(config).answers(wording_of(config, None))
    rows = [json.loads(line)["answers"][0] for line in (world / "cls" / "train.jsonl").read_text().splitlines()]
    assert answers == sorted(set(rows), key=lambda text: (-rows.count(text), text))


def test_texts_that_are_cut_are_said(world: Path) -> None:
    notes = experiment_of(world, {"data.tasks": ["gqa"], "text.max_length": 6}).notes
    assert any("gqa: 32 of 32 texts looked at are longer than 6 tokens" in note for note in notes)
    assert not any("are cut" in note for note in experiment_of(world, {"text.max_length": 80}).notes)


def test_what_is_missing_is_said(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(world, folder)
    shutil.rmtree(folder / "features")
    with pytest.raises(DataError, match=r"there are no stored features .*butd.arrow; the collection has: none"):
        found(folder)
    with pytest.raises(DataError, match=r"no classification set .*cls-birds"):
        found(world, data__tasks=["cls"], data__classification="birds")
