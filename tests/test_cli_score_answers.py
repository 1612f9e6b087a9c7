"""The verb score: captions, answers to visual questions, translations."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Said

Cli = Callable[..., Said]

REFERENCES = {"1": ["A cat sits.", "the cat is sitting"], "2": ["A dog runs by the red house."]}
CANDIDATES = {"1": "a cat sits", "2": "a dog runs by a house"}
QUESTIONS = [
    {"question_id": 1, "question_type": "is the", "answer_type": "yes/no", "answers": ["yes"] * 7 + ["no"] * 3},
    {"question_id": 2, "question_type": "what", "answer_type": "other", "answers": ["red"] * 10},
]
PREDICTIONS = [{"question_id": 2, "answer": "Red"}, {"question_id": 1, "answer": "no"}]


@pytest.fixture
def captions(work: Path) -> list[str]:
    """The options that name references and candidates."""
    (work / "references.json").write_text(json.dumps(REFERENCES))
    (work / "candidates.json").write_text(json.dumps(CANDIDATES))
    return ["--references", "references.json", "--candidates", "candidates.json"]


@pytest.fixture
def answers(work: Path) -> list[str]:
    """The options that name annotations and predictions."""
    people = [{**row, "answers": [{"answer": text} for text in row["answers"]]} for row in QUESTIONS]
    (work / "annotations.json").write_text(json.dumps({"annotations": people}))
    (work / "predictions.json").write_text(json.dumps(PREDICTIONS))
    return ["--annotations", "annotations.json", "--predictions", "predictions.json"]


def test_captions_as_flat_json(cli: Cli, captions: list[str]):
    from quincunx.metrics.caption import score_captions

    said = cli("score", "caption", *captions, "--json")
    assert said.code == 0 and said.err == ""
    found = json.loads(said.out)
    assert list(found) == [
        *("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider", "cider_d", "cider_plain", "meteor_lite")
    ]
    assert found == {name: one.value for name, one in score_captions(REFERENCES, CANDIDATES).items()}
    assert 1 < found["cider"] < 10, "not scaled"


def test_captions_as_a_table_with_intervals(cli: Cli, captions: list[str]):
    said = cli("score", "caption", *captions, "--measures", "rouge_l, cider")
    lines = said.out.splitlines()
    assert lines[0] == "2 samples; 95 % intervals by resampling them"
    assert [line.split()[0] for line in lines[2:]] == ["measure", "rouge_l", "cider", "cider_d", "cider_plain"]
    low, high = json.loads(
        cli("score", "caption", *captions, "--measures", "rouge_l", "--json", "--intervals").out,
        object_hook=lambda found: (found["rouge_l_low"], found["rouge_l_high"]),
    )
    assert f"{low:.4f} to {high:.4f}" in lines[3]


def test_samples_are_written_beside(cli: Cli, captions: list[str], work: Path):
    cli("score", "caption", *captions, "--measures", "rouge_l", "--samples", "deep/samples.json", "--json")
    found = json.loads((work / "deep" / "samples.json").read_text())
    assert list(found) == ["rouge_l"] and list(found["rouge_l"]) == ["1", "2"]


def test_texts_that_are_cut_already_are_split_at_spaces(cli: Cli, captions: list[str], work: Path):
    (work / "candidates.json").write_text(json.dumps({"1": "A cat sits.", "2": "a dog runs by a house"}))
    cut = json.loads(cli("score", "caption", *captions, "--json", "--tokenizer", "split").out)
    assert cut["bleu_1"] == pytest.approx((3 + 3) / 9 * math.exp(1 - 10 / 9), abs=1e-6)


def test_vqa_in_both_modes(cli: Cli, answers: list[str]):
    said = cli("score", "vqa", *answers, "--json")
    assert said.code == 0
    assert json.loads(said.out) == {
        "accuracy": pytest.approx(0.45),
        "by_question_type": {"is the": pytest.approx(0.9), "what": 0.0},
        "by_answer_type": {"other": 0.0, "yes/no": pytest.approx(0.9)},
    }
    fixed = json.loads(cli("score", "vqa", *answers, "--json", "--mode", "fixed").out)
    assert fixed["accuracy"] == pytest.approx(0.95)


def test_vqa_by_the_weights_of_a_collection(cli: Cli, answers: list[str], work: Path):
    rows = [{"uid": "1", "answers": [{"text": "no", "weight": 0.6}]}, {"uid": "2", "answers": ["red"]}]
    (work / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = cli("score", "vqa", "--annotations", "dev.jsonl", *answers[2:], "--mode", "soft", "--json")
    assert json.loads(said.out) == {"accuracy": pytest.approx(0.8)}
    lines = [{"uid": row["uid"], "task": "vqa", "answer": "red"} for row in rows]
    (work / "said.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = cli("score", "vqa", "--annotations", "dev.jsonl", "--predictions", "said.jsonl", "--mode", "soft", "--json")
    assert json.loads(own.out) == {"accuracy": pytest.approx(0.5)}
    people = cli("score", "vqa", *answers, "--mode", "soft", "--json")
    assert json.loads(people.out) == {"accuracy": pytest.approx((0.9 + 1) / 2)}


def test_vqa_as_tables(cli: Cli, answers: list[str]):
    lines = cli("score", "vqa", *answers).out.splitlines()
    assert lines[2].split() == ["measure", "samples", "value", "interval"]
    assert lines[3].split()[:3] == ["accuracy", "2", "0.4500"]
    assert [line.split("  ")[0] for line in lines if line[:1].isalpha()][2:] == [
        *("question type", "is the", "what", "answer type", "other", "yes/no")
    ]


def test_translations(cli: Cli, captions: list[str]):
    options = ["--references", captions[1], "--translations", captions[3]]
    found = json.loads(cli("score", "translation", *options, "--json").out)
    lower = json.loads(cli("score", "translation", *options, "--json", "--lowercase").out)
    assert list(found) == ["bleu", "chrf"] and 0 < found["bleu"] < lower["bleu"] < 1


@pytest.mark.parametrize(
    ("what", "file", "content", "code", "said"),
    [
        ("caption", "candidates.json", {"1": "a"}, 1, "candidates.json: 1 of 2 captions have none: '2'"),
        ("caption", "candidates.json", {**CANDIDATES, "x": "a"}, 1, "candidates.json: 1 belong to no caption: 'x'"),
        (
            "caption",
            "references.json",
            {"1": ["!"], "2": ["a"]},
            1,
            "references.json: references, id '1', number 0: no words",
        ),
        ("caption", "references.json", None, 2, "references.json cannot be read"),
        ("vqa", "predictions.json", PREDICTIONS[:1], 1, "predictions.json: 1 of 2 questions have none: '1'"),
        ("vqa", "predictions.json", PREDICTIONS * 2, 1, "predictions.json: item 2: the id '2' stands twice"),
        (
            "vqa",
            "annotations.json",
            [{**QUESTIONS[0], "answers": ["a"]}, QUESTIONS[1]],
            1,
            "annotations.json: question '1': 1",
        ),
    ],
)
def test_errors_are_one_line_that_says_where(cli: Cli, captions, answers, work: Path, what, file, content, code, said):
    (work / file).unlink()
    if content is not None:
        (work / file).write_text(json.dumps(content))
    found = cli("score", what, *(captions if what == "caption" else answers))
    assert found.code == code
    assert said in found.err and found.err.count("\n") == 1 and found.out == ""


def test_unknown_measures_and_modes_are_refused(cli: Cli, captions: list[str], answers: list[str]):
    said = cli("score", "caption", *captions, "--measures", "bleu,spice")
    assert said.code == 2 and "'spice' is no measure of captions; there are: bleu, rouge_l" in said.err
    assert cli("score", "vqa", *answers, "--mode", "other").code == 2


def test_torch_is_not_loaded(captions: list[str], answers: list[str]):
    script = (
        "import sys; from quincunx.cli import run; "
        f"code = run(['score', 'caption', *{captions!r}]) or run(['score', 'vqa', *{answers!r}]); "
        "sys.exit(code or ('torch' in sys.modules) * 3)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0
