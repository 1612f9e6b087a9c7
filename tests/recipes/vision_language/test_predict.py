"""Rows that somebody writes are answered as the examples of a split are; what cannot be answered is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx import Run
from quincunx.errors import QuincunxError
from quincunx.recipes.vision_language.data.record import TASKS
from quincunx.recipes.vision_language.evaluate import answer_all
from toys import cpu
from vision_language_runs import experiment_of, run_of

PAIRS = (("vqa", "b"), ("gqa", "a"), ("vqa", "c"))
KEYS = ("pictures", "text", "choices", "rationales", "label")


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(world, tmp_path_factory.mktemp("predict") / "run", {"budget.updates": 3, "adapt.bottleneck": True})


def predict(run: Run, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    return run.predict(rows)


def rows_of(world: Path, task: str) -> list[dict[str, Any]]:
    lines = (world / task / "dev.jsonl").read_text().splitlines()[:3]
    return [{"task": task, **{key: row[key] for key in KEYS if key in row}} for row in map(json.loads, lines)]


def test_rows_are_answered_as_examples_are_in_their_order(world: Path, run: Run) -> None:
    made = experiment_of(world, {"adapt.bottleneck": True, "data.dev_top": 3})
    made.parts.model.load_state_dict(run.model().state_dict())
    evaluator: Any = made.evaluators["dev"]
    rows = [row for task in reversed(TASKS) for row in rows_of(world, task)]
    found = predict(run, *rows)
    assert [each["task"] for each in found] == [row["task"] for row in rows]
    for part in evaluator.rows.parts:
        alone = type(evaluator.rows)((part,), evaluator.rows.eyes, evaluator.rows.limits)
        wanted = answer_all(made.parts.model.eval(), alone, evaluator.asking, evaluator.speech, cpu(), 4)
        mine = [each for each in found if each["task"] == part.task.name]
        for each, answer in zip(mine, wanted, strict=True):
            if part.task.name == "vcr":
                assert [*each["scores"], *each["rationale_scores"]] == pytest.approx(answer.scores, rel=1e-4, abs=1e-5)
                assert each["answer"] == answer.example.more["choices"][each["choice"]]
            else:
                assert each["answer"] == answer.text
            if part.task.name == "refcoco":
                assert answer.picture is not None
                assert each["box"] == list(answer.picture.regions[each["region"]].box)


def test_a_question_is_a_text_and_a_picture_a_list_of_one(run: Run) -> None:
    short = {"task": "vqa", "picture": "dev-000000", "question": "what colour is it?"}
    long = {"task": "vqa", "pictures": ["dev-000000"], "text": "what colour is it?"}
    one, other = predict(run, short, long)
    assert one == other and set(one) == {"task", "answer"}
    assert predict(run) == []


def test_an_answer_has_the_uid_of_its_row(run: Run) -> None:
    rows = [{"task": task, "picture": "dev-000000", "text": "what?", "uid": uid} for task, uid in PAIRS]
    assert [each.get("uid") for each in predict(run, *rows)] == [uid for _, uid in PAIRS]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"picture": "dev-000000"}, "row 1: the run has several tasks; give task"),
        ({"task": "sing", "picture": "dev-000000"}, "row 1: the run has no task 'sing'"),
        ({"task": "vqa", "picture": "nowhere"}, "has no picture nowhere.*reads stored features.*raw_"),
        ({"task": "vqa", "text": "what?"}, "it names no picture"),
        ({"task": "vqa", "picture": "dev-000000", "pictures": []}, "picture and pictures"),
        ({"task": "vqa", "pictures": "dev-000000"}, "must be a list of ids or files"),
        ({"task": "vqa", "picture": "dev-000000", "text": 7}, "text must be a text"),
        ({"task": "vqa", "picture": "dev-000000", "txt": "a"}, "no key 'txt'"),
        ({"task": "vqa", "picture": "dev-000000", "text": "a", "answers": []}, "measured by `quincunx evaluate`"),
        ({"task": "vcr", "picture": "dev-000000", "text": "a"}, "choices, four texts"),
        ({"task": "vcr", "picture": "dev-000000", "text": "a", "choices": ["a", "b"]}, "row 1: choices"),
        ({"task": "refcoco", "pictures": ["dev-000000", "dev-000001"], "text": "a"}, "one picture, found 2"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_row_that_cannot_be_answered_is_refused(row: dict[str, Any], said: str, run: Run) -> None:
    with pytest.raises(QuincunxError, match=said):
        predict(run, row)


def test_the_command_line_answers_rows_of_a_file(run: Run, cli: Callable[..., Any]) -> None:
    row = {"task": "refcoco", "picture": "dev-000000", "text": "the thing"}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    said = cli("predict", run.path, "rows.jsonl")
    assert said.code == 0 and json.loads(said.out) == predict(run, row)[0]
    Path("rows.jsonl").write_text(json.dumps({**row, "picture": "mine.png"}) + "\n")
    said = cli("predict", run.path, "rows.jsonl")
    assert said.code == 1 and "has no picture mine.png" in said.err


def test_own_files_are_seen_by_an_encoder_in_the_model(world: Path, tmp_path: Path) -> None:
    settings = {"pictures.features": "raw_RN50", "pictures.image_size": [32, 32], "data.tasks": ["cls"]}
    few = {"data.train_top": 2, "data.dev_top": 2, "budget.updates": 1, "update.batch_size": 2}
    run = run_of(world, tmp_path / "run", {**settings, **few})
    own = tmp_path / "mine.png"
    own.write_bytes((world / "images" / "dev" / "000000.png").read_bytes())
    [known, given] = predict(run, {"picture": "dev-000000"}, {"picture": str(own)})
    assert known == given
    with pytest.raises(QuincunxError, match=r"neither a picture of .* nor a file"):
        predict(run, {"picture": str(tmp_path / "none.png")})
    own.write_bytes(own.read_bytes()[:300])
    with pytest.raises(QuincunxError, match=r"row 2: .*mine\.png is no picture that can be read"):
        predict(run, {"picture": "dev-000000"}, {"picture": str(own)})


def test_texts_alone_have_no_pictures(world: Path, tmp_path: Path) -> None:
    settings = {"pictures.use": False, "data.tasks": ["vqa"], "budget.updates": 1, "text.task_prompts": False}
    run = run_of(world, tmp_path / "run", settings)
    assert predict(run, {"text": "what?"})[0]["task"] == "vqa"
    with pytest.raises(QuincunxError, match="reads texts alone"):
        predict(run, {"text": "what?", "picture": "dev-000000"})
