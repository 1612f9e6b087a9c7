"""Files of answers: every form of them, and errors that name file, line and id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quincunx.errors import DataError, UsageError
from quincunx.metrics.answer_files import (
    read_candidates,
    read_predictions,
    read_questions,
    read_references,
    read_weights,
)
from quincunx.metrics.vqa import Question


@pytest.fixture
def write(tmp_path: Path):
    """Return a function that writes a text, or a value as JSON, and returns the path."""

    def made(content, name: str = "file.json") -> Path:
        path = tmp_path / name
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        path.write_bytes(text.encode("utf-8"))
        return path

    return made


def test_references_in_three_forms(write):
    expected = {"7": ["a cat", "the cat"], "8": ["a\u2028dog"]}
    coco = [
        {"image_id": 7, "id": 1, "caption": "a cat"},
        {"image_id": 8, "id": 2, "caption": "a\u2028dog"},
        {"image_id": 7, "id": 3, "caption": "the cat"},
    ]
    lines = "\n".join(
        json.dumps({"uid": name, "references": texts}, ensure_ascii=False) for name, texts in expected.items()
    )
    assert read_references(write(expected)) == expected
    assert read_references(write(json.dumps(expected, indent=1))) == expected
    assert read_references(write({"annotations": coco, "images": []})) == expected
    assert read_references(write(lines + "\n\n")) == expected
    assert read_references(write("\ufeff" + lines.split("\n")[0] + "\r\n", "one.jsonl")) == {"7": expected["7"]}


def test_candidates_and_predictions_in_two_forms(write):
    assert read_candidates(write({"7": "a cat", "8": ""})) == {"7": "a cat", "8": ""}
    assert read_candidates(write([{"image_id": 7, "caption": "a cat"}])) == {"7": "a cat"}
    assert read_predictions(write([{"question_id": 7, "answer": "red"}])) == {"7": "red"}
    assert read_predictions(write({"7": "red"})) == {"7": "red"}
    said = [{"uid": "7", "task": "vqa", "answer": "red"}, {"uid": 8, "answer": ""}]
    assert read_predictions(write("\n".join(map(json.dumps, said)), "said.jsonl")) == {"7": "red", "8": ""}
    assert read_predictions(write([{"question_id": 7, "uid": "row", "answer": "red"}])) == {"7": "red"}


def test_questions_in_three_forms(write):
    vqa = {
        "annotations": [
            {"question_id": 1, "answers": [{"answer": "a", "answer_id": 1}, {"answer": "b"}], "question_type": "is"},
        ]
    }
    assert read_questions(write(vqa)) == {"1": Question(["a", "b"], "is")}
    ours = {"uid": "q1", "annotations": ["a", "b"], "answers": ["a"], "answer_type": "other"}
    assert read_questions(write(json.dumps(ours), "dev.jsonl")) == {"q1": Question(["a", "b"], "", "other")}
    kept = [{"question_id": 1, "answers": ["a", "b"]}, {"question_id": 2, "answers": ["c", "c"]}]
    found = read_questions(write("\n".join(map(json.dumps, kept))))
    assert found == {"1": Question(["a", "b"]), "2": Question(["c", "c"])}


def test_weights_are_given_or_follow_from_what_people_said(write):
    lines = [
        {"uid": "q1", "answers": ["Red", {"text": "blue.", "weight": 0.3}, {"text": "the blue", "weight": 0.6}]},
        {"uid": "q2", "answers": []},
    ]
    expected = {"q1": {"red": 1.0, "blue": 0.6}, "q2": {}}
    assert read_weights(write("\n".join(map(json.dumps, lines)))) == expected
    people = [{"question_id": 1, "answers": [{"answer": "Two"}] * 2 + [{"answer": "3"}] * 8}]
    assert read_weights(write({"annotations": people})) == {"1": {"2": pytest.approx(0.6), "3": 1.0}}


@pytest.mark.parametrize(
    ("read", "content", "said"),
    [
        (read_references, "", "empty; expected JSON"),
        (read_references, "{}", "no references in it"),
        (read_references, '{"1": ["a"], "1": ["b"]}', "file.json: '1' stands twice in one object"),
        (read_references, '{"1": []}', "file.json: id '1': found \\[\\], expected a list"),
        (read_references, '{"1": "a"}', "file.json: id '1': found \"a\", expected a list"),
        (read_references, '{"1": ["a", " "]}', "file.json: id '1', number 1: found \" \", expected a reference"),
        (read_references, '{"1": ["a", 3]}', "id '1', number 1: found 3"),
        (read_references, '[{"uid": "1"}]', "file.json: item 0, uid '1': found nothing, expected a list"),
        (
            read_references,
            '{"annotations": [{"image_id": 1}]}',
            "item 0, image_id 1: found nothing, expected a caption",
        ),
        (read_references, "3", "file.json: found 3, expected an object or a list"),
        (read_references, '{"1": [', "file.json:1:\\d+: not JSON"),
        (read_references, '{"uid": "1", "references": ["a"]}\n{"uid": 2]}', "file.json:2:10: not JSON"),
        (
            read_references,
            '{"uid": "1", "references": ["a"]}\n{"uid": 1, "references": ["b"]}',
            ":2: the id '1' stands",
        ),
        (read_references, "[" * 100_000, "file.json"),
        (read_candidates, '{"1": ["a"]}', "id '1': found \\[\"a\"\\], expected one caption"),
        (read_candidates, '[{"caption": "a"}]', "item 0: no image_id among caption; expected image_id"),
        (read_candidates, '[{"image_id": true, "caption": "a"}]', "item 0: image_id true; expected image_id"),
        (read_candidates, '[["a"]]', 'item 0: found \\["a"\\], expected an object'),
        (read_predictions, '[{"question_id": 1, "answer": 2}]', "item 0, question_id 1: found 2, expected an answer"),
        (
            read_predictions,
            '[{"question_id": 1, "answer": "a"}, {"question_id": "1", "answer": "b"}]',
            "item 1: the id '1'",
        ),
        (
            read_predictions,
            '[{"answer": "a"}]',
            "item 0: no question_id or uid among answer; expected question_id or uid, ",
        ),
        (
            read_predictions,
            '[{"uid": null, "answer": "a"}]',
            "item 0: uid nothing; expected uid, a text or a whole number",
        ),
        (read_predictions, '[{"uid": "1"}]', "item 0, uid 1: found nothing, expected an answer"),
        (read_predictions, '{"1": ' + "9" * 5000 + "}", "file.json: not readable as JSON|found 9"),
        (read_questions, '{"questions": []}', 'no list "annotations"'),
        (read_questions, '[{"question_id": 1}]', 'question_id 1: found nothing, expected "answers", a list'),
        (read_questions, '[{"uid": "1", "answers": ["a"]}]', 'uid 1: found nothing, expected "annotations"'),
        (read_weights, '[{"uid": "1"}]', 'uid 1: found nothing, expected "answers"'),
        (read_weights, '[{"uid": "1", "answers": [{"text": "a", "weight": 2}]}]', "uid 1: the weight is 2, expected"),
        (read_weights, '[{"uid": "1", "answers": [{"text": "a", "weight": true}]}]', "the weight is true"),
        (read_weights, '[{"uid": "1", "answers": [3]}]', "uid 1: found 3, expected an answer"),
        (read_weights, '[{"question_id": "1", "answers": []}]', "question_id 1: found \\[\\], expected"),
        (
            read_questions,
            '[{"question_id": 1, "answers": [{"text": "a"}]}]',
            "question_id 1: found nothing, expected an",
        ),
        (
            read_questions,
            '[{"question_id": 1, "answers": ["a"], "answer_type": 3}]',
            "found 3, expected an answer_type",
        ),
    ],
)
def test_errors_name_file_line_and_id(write, read, content, said):
    with pytest.raises(DataError, match=said) as raised:
        read(write(content))
    assert "file.json" in str(raised.value) and len(str(raised.value)) < 400


def test_files_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(UsageError, match="nowhere cannot be read"):
        read_references(tmp_path / "nowhere")
    (tmp_path / "latin").write_bytes(b'{"1": ["caf\xe9"]}')
    with pytest.raises(DataError, match=r"latin: not UTF-8: .* at byte 11"):
        read_references(tmp_path / "latin")
