"""The verb score: what is chosen or judged of pictures, in the files of GQA, NLVR, RefCOCO and VCR and of our runs."""

from __future__ import annotations

import csv
import json
import os
import pickle
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Said

Cli = Callable[..., Said]

QUESTIONS = {
    "1": {"answer": "red", "types": {"structural": "query", "semantic": "attr"}, "entailed": ["1", "2", "4"]},
    "2": {"answer": "yes", "types": {"structural": "verify", "semantic": "attr"}, "entailed": []},
    "3": {"answer": "dog", "types": {"structural": "query", "semantic": "obj"}, "entailed": ["2"]},
    "4": {"answer": "no", "types": {"structural": "verify", "semantic": "rel"}, "entailed": ["2"], "isBalanced": False},
}
SAID = {"1": "red", "2": "yes", "3": "cat", "4": "yes"}
CHOICES = {name: {"valid": ["red", "yes", "cat"], "plausible": ["red", "blue"]} for name in QUESTIONS}


def put(path: str, content: Any) -> str:
    """Write text as it is, lists of rows with `.jsonl` as lines, anything else as JSON; return the path."""
    if not isinstance(content, str):
        lines = path.endswith(".jsonl")
        content = "".join(json.dumps(row) + "\n" for row in content) if lines else json.dumps(content)
    Path(path).write_text(content, encoding="utf-8")
    return path


def score(cli: Cli, what: str, annotations: Any, predictions: Any, *more: object) -> Any:
    """Return what a verb measures, as JSON; annotations and predictions are paths."""
    said = cli("score", what, "--annotations", annotations, "--predictions", predictions, "--json", *more)
    assert said.code == 0, said.text
    return json.loads(said.out)


def test_gqa(cli: Cli):
    rows = [{"questionId": name, "prediction": text} for name, text in SAID.items()]
    files = put("questions.json", QUESTIONS), put("gqa.json", rows)
    found = score(cli, "gqa", *files, "--consistency", "--choices", put("choices.json", CHOICES))
    assert found == {
        "accuracy": pytest.approx(2 / 3),
        "validity": 1.0,
        "plausibility": pytest.approx(1 / 3),
        "consistency": pytest.approx(0.5),  # of 1, answered rightly: 2 is right, 4 is not
        "by_structural_type": {"query": 0.5, "verify": 1.0},
        "by_semantic_type": {"attr": 1.0, "obj": 0.0},
    }
    plain = score(cli, "gqa", files[0], put("map.json", SAID))
    assert plain == {name: value for name, value in found.items() if name in plain}
    assert list(plain) == ["accuracy", "by_structural_type", "by_semantic_type"]


def test_gqa_of_a_collection(cli: Cli):
    rows = [
        {"uid": "a", "text": "?", "answers": ["red"], "valid": ["red", "blue"]},
        {"uid": "b", "text": "?", "answers": [{"text": "dog", "weight": 1.0}], "types": {"structural": "query"}},
    ]
    found = score(cli, "gqa", put("dev.jsonl", rows), put("said.json", {"a": "blue", "b": "dog"}))
    assert found == {"accuracy": 0.5, "validity": 1.0, "by_structural_type": {"query": 1.0}, "by_semantic_type": {}}


NLVR2 = [
    {"identifier": f"dev-7-{pair}-{sentence}", "label": label, "sentence": "s"}
    for pair, sentence, label in [(0, 0, "True"), (1, 0, "False"), (0, 1, "True"), (1, 1, "True")]
]


def test_nlvr_of_two_photographs(cli: Cli):
    """As NLVR2's own script: lines `identifier,True`; a sentence counts where all its pairs are right."""
    judged = "dev-7-0-0,True\ndev-7-1-0,True\ndev-7-0-1,True\ndev-7-1-1,true\n"
    for path in (put("dev.json", "\n".join(map(json.dumps, NLVR2))), put("dev.jsonl", NLVR2)):
        assert score(cli, "nlvr", path, put("nlvr.csv", judged)) == {"accuracy": 0.75, "consistency": 0.5}


def test_nlvr_in_its_other_forms(cli: Cli):
    said = {"9-0": True, "9-1": "false", "8-0": 1}
    boxes = [{"identifier": name, "label": label} for name, label in (("9-0", "true"), ("9-1", "true"), ("8-0", True))]
    ours = [
        {"uid": row["identifier"], "identifier": row["identifier"][0], "answers": [str(row["label"]).lower()]}
        for row in boxes
    ]
    lxmert = [{"uid": row["identifier"], "identifier": row["identifier"], "label": 1} for row in boxes]
    short = [{"id": row["identifier"], "label": True} for row in boxes]
    for rows in (boxes, ours, lxmert, short):
        found = score(cli, "nlvr", put("dev.jsonl", rows), put("said.json", said))
        assert found == {"accuracy": pytest.approx(2 / 3), "consistency": 0.5}


@pytest.mark.skipif("QUINCUNX_DATA" not in os.environ, reason="QUINCUNX_DATA names no data folder")
def test_nlvr_as_it_is_published(cli: Cli):
    path = Path(os.environ["QUINCUNX_DATA"]) / "nlvr" / "dev.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    draw = random.Random(3)
    judged = {row["id"]: draw.random() < 0.9 for row in rows}
    put("nlvr.csv", "".join(f"{name},{value}\n" for name, value in judged.items()))
    right = {row["id"]: judged[row["id"]] == row["label"] for row in rows}
    sentences: dict[str, list[bool]] = {}
    for name, value in right.items():
        sentences.setdefault(name.split("-")[0], []).append(value)
    assert score(cli, "nlvr", path, "nlvr.csv") == {
        "accuracy": pytest.approx(sum(right.values()) / len(right)),
        "consistency": pytest.approx(sum(all(values) for values in sentences.values()) / len(sentences)),
    }


def refer(folder: Path) -> list[str]:
    """Write REFER's references and COCO's instances: sentences 10 (train), 20 and 21 (val)."""
    box = {"category_id": 1, "image_id": 5}
    instances = {
        "images": [{"id": 5, "file_name": "a_5.jpg", "width": 40, "height": 30}],
        "annotations": [
            {**box, "id": 70, "bbox": [1.0, 2.0, 10.0, 20.0]},
            {**box, "id": 71, "bbox": [20.0, 0, 20, 30]},
        ],
        "categories": [{"id": 1, "name": "dog"}],
    }
    refs = [
        {"ref_id": ref, "ann_id": ann, "image_id": 5, "split": split, "sentences": [{"sent_id": each} for each in ids]}
        for ref, ann, split, ids in ((1, 70, "train", [10]), (2, 71, "val", [20, 21]))
    ]
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    return ["refs(unc).p", put("instances.json", instances)]


def test_refcoco(cli: Cli, work: Path):
    boxes = {"20": [20, 0, 40, 16], "21": [0, 0, 20, 30]}
    found = put("refcoco.json", [{"uid": name, "box": box} for name, box in boxes.items()])
    official = refer(work)
    said = cli("score", "refcoco", "--annotations", *official, "--split", "val", "--predictions", found, "--json")
    assert json.loads(said.out) == {"accuracy": 0.5, "iou": pytest.approx((16 / 30 + 0) / 2)}
    lines = put("dev.jsonl", [{"uid": name, "text": "t", "box": [20, 0, 40, 30]} for name in boxes])
    assert score(cli, "refcoco", lines, found) == json.loads(said.out)
    target = put("one.json", {name: [20, 0, 40, 30] for name in boxes})
    assert score(cli, "refcoco", target, put("map.json", boxes)) == json.loads(said.out)
    strict = score(cli, "refcoco", target, found, "--threshold", 0.6, "--inclusive")
    # with x2 and y2 as pixels, the second shares its last column
    assert strict == {"accuracy": 0.0, "iou": pytest.approx((17 / 31 + 31 / (2 * 21 * 31 - 31)) / 2)}


VCR = [
    {"annot_id": "val-0", "answer_label": 2, "rationale_label": 1},
    {"annot_id": "val-1", "answer_label": 0, "rationale_label": 3},
    {"annot_id": "val-2", "answer_label": 1, "rationale_label": 0},
]


def test_vcr_in_the_leaderboard_s_table(cli: Cli):
    """Rationales are those after the right answer, whichever was chosen."""
    draw = random.Random(5)
    head = ["annot_id", *(f"answer_{i}" for i in range(4))]
    head += [f"rationale_conditioned_on_a{a}_{i}" for a in range(4) for i in range(4)]
    rows = [[row["annot_id"], *(draw.random() for _ in head[1:])] for row in VCR]
    with Path("vcr.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    right: list[tuple[bool, bool]] = []
    for row, truth in zip(rows, VCR, strict=True):
        answers, label = row[1:5], truth["answer_label"]
        rationales = row[5 + 4 * label : 9 + 4 * label]
        right.append((answers[label] == max(answers), rationales[truth["rationale_label"]] == max(rationales)))
    assert score(cli, "vcr", put("val.jsonl", VCR), "vcr.csv") == {
        "answer": pytest.approx(sum(one for one, _ in right) / 3),
        "rationale": pytest.approx(sum(other for _, other in right) / 3),
        "both": pytest.approx(sum(one and other for one, other in right) / 3),
    }


def test_vcr_in_its_other_forms(cli: Cli):
    ours = [
        {"uid": row["annot_id"], "label": row["answer_label"], "rationale_label": row["rationale_label"]} for row in VCR
    ]
    both = put("both.json", {"val-0": [2, 0], "val-1": [1, 3], "val-2": [1, 0]})
    third = pytest.approx(1 / 3)
    assert score(cli, "vcr", put("dev.jsonl", ours), both) == {
        "answer": 2 * third.expected,
        "rationale": 2 / 3,
        "both": third,
    }
    assert score(cli, "vcr", "dev.jsonl", put("one.json", {"val-0": 2, "val-1": 1, "val-2": 2})) == {"answer": third}


def test_what_runs_hand_in_is_measured_as_the_run_measures_it(cli: Cli):
    from quincunx.recipes.vision_language.data.record import Answer, Example, Picture, Region
    from quincunx.recipes.vision_language.tasks.asking import Answered
    from quincunx.recipes.vision_language.tasks.choices import Vcr
    from quincunx.recipes.vision_language.tasks.expressions import Refcoco
    from quincunx.recipes.vision_language.tasks.questions import Gqa
    from quincunx.recipes.vision_language.tasks.statements import Nlvr

    draw = random.Random(11)
    regions = tuple(Region((4.0 * i, 0.0, 4.0 * i + 10, 20.0)) for i in range(6))
    picture = Picture("p", 40, 30, None, regions)

    def example(task: str, number: int, answers: tuple[Answer, ...] = (), **more: Any) -> Example:
        return Example(f"{task}-{number}", task, ("p",), "text", answers, more)

    def word(words: str) -> str:
        return draw.choice(words.split())

    def labels() -> dict[str, Any]:
        return {"choices": list("abcd"), "label": draw.randrange(4), "rationale_label": draw.randrange(4)}

    def made(task: str, i: int) -> Answered:
        if task == "gqa":
            return Answered(example(task, i, (Answer(word("a b")),), types={"structural": word("x y")}), word("a b"))
        if task == "nlvr":
            truth = (Answer(word("true false")),)
            return Answered(example(task, i, truth, identifier=f"s{i // 2}"), word("true false"))
        if task == "refcoco":
            region = f"<vis_extra_id_{draw.randrange(6)}>"
            return Answered(example(task, i, box=list(draw.choice(regions).box)), region, picture=picture)
        scores = tuple(draw.gauss(0, 3) for _ in range(8))
        return Answered(example(task, i, rationales=list("efgh"), **labels()), scores=scores)

    for task in (Gqa(), Nlvr(), Refcoco(), Vcr()):
        answers = [made(task.name, i) for i in range(20)]
        name, text = task.submission(answers)
        put(name, text)
        rows = [
            {
                "uid": each.example.uid,
                "text": each.example.text,
                "answers": [answer.text for answer in each.example.answers],
                **each.example.more,
            }
            for each in answers
        ]
        found = score(cli, task.name, put("dev.jsonl", rows), name)
        scalars = {key: value for key, value in found.items() if not key.startswith("by_")}
        assert scalars == pytest.approx(dict(task.measure(answers).scalars)), task.name
        assert 0 < found[task.main] < 1


def test_tables_and_samples(cli: Cli, work: Path):
    files = ["--annotations", put("q.json", QUESTIONS), "--predictions", put("p.json", SAID)]
    lines = cli("score", "gqa", *files, "--samples", "samples.json").out.splitlines()
    assert lines[0].startswith("3 samples") and lines[3].split()[:3] == ["accuracy", "3", "0.6667"]
    assert json.loads((work / "samples.json").read_text()) == {"accuracy": {"1": 1.0, "2": 1.0, "3": 0.0}}


@pytest.mark.parametrize(
    ("what", "annotations", "predictions", "more", "code", "answer"),
    [
        ("gqa", QUESTIONS, {"1": "a"}, "", 1, "p.json: 3 of 4 questions have none: '2'"),
        ("gqa", QUESTIONS, {"1": 3}, "", 1, "p.json: id '1': found 3, expected an answer"),
        ("gqa", QUESTIONS, [{"questionId": "1"}], "", 1, "p.json: item 0, questionId 1: found nothing, expected a pre"),
        ("gqa", {"1": "red"}, SAID, "", 1, "a.json: id '1': found \"red\", expected an object"),
        (
            "gqa",
            {"1": {"question": "?"}},
            SAID,
            "",
            1,
            "a.json: id '1': answers: found nothing, expected a list of one",
        ),
        ("gqa", {"1": {"answer": "a", "types": 3}}, {"1": "a"}, "", 1, "types: found 3, expected an object"),
        (
            "gqa",
            {"1": {"answer": "a", "entailed": ["9"]}},
            {"1": "a"},
            "--consistency",
            1,
            "a.json: .*entails '9', which",
        ),
        ("gqa", {"1": {"answer": "a"}}, {"1": "a"}, "--consistency", 1, "a.json: .*leave --consistency out"),
        ("gqa", {"1": {"answer": "a", "isBalanced": False}}, {"1": "a"}, "", 1, "no question has isBalanced"),
        ("gqa", QUESTIONS, SAID, "--choices p.json", 1, "p.json: id '1': found \"red\", expected an object"),
        ("nlvr", NLVR2, "dev-7-0-0;True\n", "", 1, "p.json:1: 1 fields, expected identifier,True"),
        ("nlvr", NLVR2, "dev-7-0-0,maybe\n", "", 1, 'p.json:1: found "maybe", expected true or false'),
        ("nlvr", NLVR2, "dev-7-0-0,True\n", "", 1, "p.json: 3 of 4 statements have none: 'dev-7-1-0'"),
        ("nlvr", NLVR2, "a,True\na,True\n", "", 1, "p.json:2: the id 'a' stands twice"),
        ("nlvr", [{"identifier": "a-1"}], "a-1,True\n", "", 1, "a.json: item 0, a-1: found nothing, expected true or"),
        ("nlvr", NLVR2, [1], "", 1, "p.json: found \\[1\\], expected lines"),
        ("refcoco", {"1": [0, 0, 1, 1]}, {"1": [0, 0, -1, 1]}, "", 1, "p.json: id '1': found .*expected a box"),
        ("refcoco", {"1": [0, 0, 1, 1]}, {"1": [0, 0, 1]}, "", 1, "p.json: id '1': found .*expected a box"),
        ("refcoco", {"1": [0, 0, 1, 1]}, {"2": [0, 0, 1, 1]}, "", 1, "p.json: 1 of 1 expressions have none: '1'"),
        ("refcoco", {"1": [0, 0, 1, 1]}, {"1": [0, 0, 1, 1]}, "--threshold 0", 2, "--threshold is 0"),
        ("refcoco", {"1": [0, 0, 1, 1]}, {"1": [0, 0, 1, 1]}, "--split val", 2, "a.json is of one split already"),
        ("vcr", VCR, "annot_id,answer_0\n", "", 1, "p.json:1: answer_1 is not a column once"),
        (
            "vcr",
            VCR,
            "annot_id,answer_0,answer_1,answer_2,answer_3\nval-0,1,2,x,4\n",
            "",
            1,
            "p.json:2: answer_2: .*'x'",
        ),
        (
            "vcr",
            VCR,
            "annot_id,answer_0,answer_1,answer_2,answer_3\nval-0,1,2\n",
            "",
            1,
            "p.json:2: 3 fields, expected 5",
        ),
        ("vcr", VCR, {"val-0": [1, 2, 3]}, "", 1, "found .*expected numbers of an answer and a rationale"),
        ("vcr", VCR, {"val-0": 4}, "", 1, "id 'val-0': found 4, expected a whole number, 0 to 3"),
        ("vcr", VCR[:2], {"val-0": [1, 2], "val-1": 1}, "", 1, "p.json: question 'val-1' has no rationale"),
        ("vcr", [{"annot_id": "a", "answer_label": 1}], {"a": [1, 2]}, "", 1, "a.json: question 'a' has no rationale"),
        ("vcr", [{"annot_id": "a"}], {"a": [1, 2]}, "", 1, "a.json: item 0, a, answer_label: found nothing, expected"),
        ("gqa", QUESTIONS, None, "", 2, "p.json cannot be read"),
        ("nlvr", " ", "a,True", "", 1, "a.json: empty"),
    ],
)
def test_errors_are_one_line_that_says_where(
    cli: Cli, what: str, annotations: Any, predictions: Any, more: str, code: int, answer: str
):
    put("a.json", annotations)
    if predictions is not None:
        put("p.json", predictions)
    said = cli("score", what, "--annotations", "a.json", "--predictions", "p.json", *more.split())
    assert said.code == code, said.text
    assert re.search(answer, said.err) and said.err.count("\n") == 1 and said.out == "", said.text


def test_files_of_refer_are_checked(cli: Cli, work: Path):
    files = refer(work)
    found = put("p.json", {"20": [0, 0, 1, 1]})
    said = cli("score", "refcoco", "--annotations", *files, "--split", "testA", "--predictions", found)
    assert said.code == 1 and "no sentences of testA; its splits are train, dev" in said.err
    said = cli("score", "refcoco", "--annotations", *files, "more.json", "--predictions", found)
    assert said.code == 2 and "found 3" in said.err
    whole = json.loads(Path(files[1]).read_text())
    put(files[1], {**whole, "annotations": whole["annotations"][:1]})
    said = cli("score", "refcoco", "--annotations", *files, "--predictions", found)
    assert said.code == 1 and "ann_id: 71 of picture 5 is not in instances.json" in said.err


def test_torch_is_not_loaded(work: Path):
    refer(work)
    put("q.json", QUESTIONS)
    put("s.json", SAID)
    put("b.json", {"20": [0, 0, 1, 1], "21": [0, 0, 1, 1]})
    script = (
        "import sys; from quincunx.cli import run; "
        "code = run('score gqa --annotations q.json --predictions s.json'.split()) or "
        "run(['score', 'refcoco', '--annotations', 'refs(unc).p', 'instances.json', '--split', 'val', "
        "'--predictions', 'b.json']); sys.exit(code or ('torch' in sys.modules) * 3)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0
