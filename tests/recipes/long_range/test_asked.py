"""Rows that a user asks a trained model about: every task's form, and what is said of rows that have another."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from quincunx import Run, train
from quincunx.errors import DataError, UsageError
from quincunx.recipes.long_range.asked import KEYS, read_rows
from quincunx.recipes.long_range.config import LongRangeConfig
from quincunx.recipes.long_range.data.listops import language as listops
from quincunx.recipes.long_range.model import LongRangeClassifier, LongRangeDenoiser
from quincunx.recipes.long_range.recipe import RECIPE
from quincunx.recipes.long_range.tasks import TASKS
from runner import tiny
from text_files import class_folders
from toys import cpu


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quincunx.report.to_png", lambda chart: b"")


GOOD: dict[str, list[dict[str, Any]]] = {
    "listops": [{"source": "[MAX 1 2 ]"}, {"source": "( ( [SM 3 ) 4 ) ]", "id": 7}, {"source": "5"}],
    "text": [{"text": "grüße\n"}, {"text": "a"}, {"text": "\ud800", "label": 1}],
    "retrieval": [{"text1": "abc", "text2": "é"}, {"text2": "first", "text1": "second"}],
    "image": [{"pixels": [0, 255, 7]}, {"pixels": [3]}],
    "pathfinder": [{"pixels": [0, 255]}],
}


def test_every_task_has_rows_and_examples_of_them():
    assert KEYS.keys() == TASKS.keys() == GOOD.keys()
    assert all(len(keys) == TASKS[task].parts for task, keys in KEYS.items())


@pytest.mark.parametrize("task", TASKS)
def test_rows_are_read_in_their_order_without_labels(task):
    examples = read_rows(task, GOOD[task])
    assert len(examples) == len(GOOD[task])
    assert examples.parts == TASKS[task].parts
    assert examples.labels.tolist() == [0] * len(GOOD[task])
    assert len(read_rows(task, [])) == 0


def test_symbols_and_ids_are_those_of_training():
    source = read_rows("listops", GOOD["listops"])
    assert source.symbols(0).tobytes() == listops.tokenize(b"[MAX 1 2 ]")
    assert source.symbols(1).tobytes() == listops.tokenize(b"[SM 3 4 ]")
    assert source.tokens(0).tolist() == list(listops.tokenize(b"[MAX 1 2 ]")), "ids begin at 1 as they are"
    text = read_rows("text", GOOD["text"])
    assert text.tokens(0).tolist() == [byte + 1 for byte in "grüße\n".encode()]
    assert text.symbols(2).tobytes() == b"\xed\xa0\x80", "half a character is still three bytes"
    pair = read_rows("retrieval", GOOD["retrieval"])
    assert [pair.symbols(1, part).tobytes() for part in (0, 1)] == [b"second", b"first"]
    assert pair.tokens(0, 1).tolist() == [byte + 1 for byte in "é".encode()]
    assert read_rows("image", GOOD["image"]).tokens(0).tolist() == [1, 256, 8]
    assert read_rows("pathfinder", [{"pixels": [9] * 4}], 4).tokens(0).tolist() == [10] * 4


BAD: list[tuple[str, Any, str]] = [
    ("listops", {"sauce": "1"}, 'row 2: under "source", expected a text, found null'),
    ("listops", {"source": 12}, 'row 2: under "source", expected a text, found 12'),
    ("listops", {"source": ""}, 'row 2: under "source", not a ListOps expression: an empty expression'),
    ("listops", {"source": "[MAX 1 2"}, 'row 2: under "source", not a ListOps expression: brackets that do not match'),
    ("listops", {"source": "1 2"}, "more than one expression"),
    ("listops", {"source": "[MAX ]"}, "an operator without arguments"),
    ("listops", {"source": "[MEAN 1 ]"}, "row 2: under \"source\", unknown token '[MEAN'"),
    ("listops", {"source": "ü"}, 'row 2: under "source", unknown token'),
    ("listops", "[MAX 1 2 ]", 'row 2: expected a mapping, {"source": ...}, found "[MAX 1 2 ]"'),
    ("text", {"text": ""}, 'row 2: under "text", expected a text, found an empty one'),
    ("text", {"text": None}, 'row 2: under "text", expected a text, found null'),
    ("text", {"text": ["a"]}, 'row 2: under "text", expected a text, found a list of 1'),
    ("retrieval", {"text1": "a"}, 'row 2: under "text2", expected a text, found null'),
    ("retrieval", {"text1": "", "text2": "b"}, 'row 2: under "text1", expected a text, found an empty one'),
    ("retrieval", ["a", "b"], 'row 2: expected a mapping, {"text1": ..., "text2": ...}, found a list of 2'),
    ("image", {"pixels": "0 1"}, 'row 2: under "pixels", expected a list of grey values, found "0 1"'),
    ("image", {"pixels": []}, 'row 2: under "pixels", expected a list of grey values, found an empty list'),
    ("image", {"pixels": [0, 256]}, "expected whole numbers from 0 to 255, found 256 at place 1"),
    ("image", {"pixels": [-1]}, "expected whole numbers from 0 to 255, found -1 at place 0"),
    ("image", {"pixels": [0, 1, 0.5]}, "expected whole numbers from 0 to 255, found 0.5 at place 2"),
    ("pathfinder", {"pixels": [True]}, "expected whole numbers from 0 to 255, found true at place 0"),
    ("pathfinder", {"pixels": [None]}, "expected whole numbers from 0 to 255, found null at place 0"),
]


@pytest.mark.parametrize(("task", "row", "message"), BAD)
def test_a_row_that_is_none_is_named(task, row, message):
    with pytest.raises(DataError) as error:
        read_rows(task, [GOOD[task][0], row])
    assert message in str(error.value)


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(DataError, match=r'row 2: under "pixels", expected 4 grey values, as in training, found 3'):
        read_rows("pathfinder", [{"pixels": [1] * 4}, {"pixels": [1] * 3}], 4)


def asked(task: str, rows: list[dict[str, Any]], **changes: Any) -> list[dict[str, Any]]:
    encoder = {"embedding_dim": 8, "hidden_dim": 8, "head_dim": 4, "num_heads": 2} | changes
    config = LongRangeConfig.model_validate(
        {"task": task, "encoder": encoder, "data": {"resolution": 16} if task == "pathfinder" else {}}
    )
    config = RECIPE.decide(config)[0]
    torch.manual_seed(0)
    return RECIPE.predict(config, LongRangeClassifier(config).eval(), cpu(), rows)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_predicts_and_no_row_depends_on_the_others(task):
    rows = GOOD[task]
    if "pixels" in rows[0]:
        side = 32 if task == "image" else 16
        rows = [{"pixels": [(shift + i) % 256 for i in range(side * side)]} for shift in range(3)]
    found = asked(task, rows)
    assert len(found) == len(rows)
    for row, answer in zip(rows, found, strict=True):
        chances = answer["probabilities"]
        assert len(chances) == TASKS[task].classes
        assert sum(chances) == pytest.approx(1, abs=1e-4)
        assert answer["prediction"] == max(range(len(chances)), key=chances.__getitem__)
        [alone] = asked(task, [row])
        assert alone["probabilities"] == pytest.approx(chances, abs=2e-6)
    assert len({tuple(answer["probabilities"]) for answer in found}) == len(found), "they differ"
    assert asked(task, []) == []


@pytest.mark.parametrize(("task", "side"), [("image", 32), ("pathfinder", 16)])
def test_predicting_refuses_pictures_of_another_size(task, side):
    with pytest.raises(DataError, match=f"row 1: .*expected {side * side:,} grey values, as in training, found 9"):
        asked(task, [{"pixels": [1] * 9}])


def test_rows_longer_than_the_model_takes_are_cut_and_said_to_be(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "quincunx"):
        rows = [{"text": "abcdefgh"}, {"text": "abcde"}, {"text": "abc"}]
        long, cut, short = asked("text", rows, max_seq_len=5)
    assert "1 of 3 rows are cut to encoder.max_seq_len (5)" in caplog.text
    assert long["probabilities"] == cut["probabilities"] != short["probabilities"]
    with caplog.at_level(logging.WARNING, "quincunx"):
        caplog.clear()
        asked("retrieval", [{"text1": "a", "text2": "abcdefgh"}], max_seq_len=5)
    assert "1 of 1 rows are cut" in caplog.text, "either side counts"


def test_a_denoiser_has_no_classes():
    config, _ = RECIPE.decide(LongRangeConfig.model_validate({"objective": "denoising"}))
    with pytest.raises(UsageError, match="this run denoises, it has no classes to predict"):
        RECIPE.predict(config, LongRangeDenoiser(config), cpu(), [{"source": "1"}])


def test_a_run_on_texts_answers_rows(work: Path):
    changes = {"task": "text", "data": {"path": str(class_folders(work / "texts"))}, "run.dir": "r"}
    train(tiny({**changes, "encoder.vocab_size": None, "budget.epochs": 1, "schedule.warmup": 0}))
    found = Run("r").predict([{"text": "a word"}, {"text": "x" * 100}])
    assert [len(answer["probabilities"]) for answer in found] == [2, 2]
    with pytest.raises(DataError, match='row 1: under "text"'):
        Run("r").predict([{"txt": "a word"}])
