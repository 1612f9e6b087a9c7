"""Answers to visual questions: equal to the challenge's rules step by step, oversights on request, errors with ids."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.errors import DataError, UsageError
from quincunx.metrics.vqa import Question, agreement, soft_accuracy, soft_scores, vqa_accuracy
from quincunx.metrics.vqa_words import contractions, normalised
from reference import vqa as reference

PIECES = [
    "red",
    "Red",
    "2",
    "two",
    "a",
    "the",
    "dont",
    "im",
    " ",
    ",",
    "1,5",
    ".",
    "-",
    "?",
    "/",
    "\n",
    "none",
    "couldnt've",
]
ANSWERS = st.lists(st.sampled_from(PIECES), max_size=5).map("".join)


@settings(max_examples=300, deadline=None)
@given(ANSWERS, st.lists(ANSWERS, min_size=2, max_size=10))
def test_official_is_the_reference(answer, people):
    assert agreement(answer, people) == pytest.approx(reference.accuracy(answer, people))
    assert agreement(people[0], people) == pytest.approx(reference.accuracy(people[0], people))


@given(st.text(alphabet="ab 1,.;-\n!?'", max_size=60))
def test_texts_are_normalised_as_the_reference_does(text):
    assert normalised(text) == reference.words(reference.punctuation(reference.clean(text)))


@given(ANSWERS)
def test_what_is_fixed_is_normal_already(text):
    once = normalised(text, "fixed")
    assert once == once.lower() == " ".join(once.split())


def test_an_answer_is_right_as_far_as_people_gave_it():
    people = ["cat"] * 2 + ["dog"] * 8
    # two persons said cat and have one fellow who did; eight have two
    assert agreement("cat", people) == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10)
    assert agreement("dog", people) == 1
    assert agreement("mouse", people) == 0
    assert [round(agreement("cat", ["cat"] * n + ["dog"] * (10 - n)), 9) for n in range(6)] == [0, 0.3, 0.6, 0.9, 1, 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Red Cube.", "red cube"),
        ("two dogs", "2 dogs"),
        ("none", "0"),
        ("10,000", "10000"),
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("t-shirt", "t shirt"),
        ("3.5 m.", "3.5 m"),
        ("dont know", "don't know"),
        ("shes", "shes"),
        ("youre 'ow'sat", "you're 'ow's'at"),
        (" a \n b\tan ", "b"),
        ("", ""),
    ],
)
def test_how_answers_are_compared(text, expected):
    assert normalised(text) == expected


def test_official_has_the_scripts_oversights_and_fixed_has_not():
    dots = "x." * 40
    assert normalised(dots) == "x" * 32 + "x." * 7 + "x."
    assert normalised(dots, "fixed") == "x" * 40
    assert agreement("Yes", ["yes"] * 10) == 0 and agreement("Yes", ["yes"] * 10, "fixed") == 1
    assert agreement("Yes", ["yes"] * 9 + ["no"]) == 1
    assert normalised("im here") == "im here" and normalised("im here", "fixed") == "i'm here"
    assert normalised("somebody'd") == "somebodyd" and normalised("somebodyd", "fixed") == "somebody'd"


def test_contractions_get_only_apostrophes_back():
    for mode in ("official", "fixed"):
        table = contractions(mode)
        assert all(written.replace("'", "") == meant.replace("'", "") for written, meant in table.items())
        assert all(written != meant and written == written.lower() for written, meant in table.items())
    assert len(contractions("official")) == 114
    assert contractions("fixed")["y'alld've"] == contractions("fixed")["yall'd've"] == "y'all'd've"


def test_values_are_also_given_by_type_and_truth_stays_as_it_is():
    questions = {
        "1": Question(["Yes"] * 9 + ["no."], "is the", "yes/no"),
        "2": Question(["two"] * 10, "how many", "number"),
        "3": Question(["red"] * 5 + ["blue"] * 5),
    }
    before = copy.deepcopy(questions)
    predictions = {"3": "green", "2": "two", "1": "no"}
    found = vqa_accuracy(questions, predictions)
    assert found.overall.by_name == pytest.approx({"1": 0.3, "2": 1, "3": 0})
    assert found.overall.value == pytest.approx(1.3 / 3)
    assert {kind: one.value for kind, one in found.by_answer_type.items()} == pytest.approx(
        {"number": 1, "yes/no": 0.3}
    )
    assert {kind: one.value for kind, one in found.by_question_type.items()} == pytest.approx(
        {"how many": 1, "is the": 0.3}
    )
    assert questions == before
    again = vqa_accuracy(questions, predictions)
    assert again.overall.by_name == found.overall.by_name


def test_soft_scores_are_what_training_uses():
    people = ["Red"] * 5 + ["blue"] * 3 + ["the green"] * 2
    assert soft_scores(people) == pytest.approx({"red": 1, "blue": 0.9, "green": 0.6})
    weights = {"1": soft_scores(people), "2": {"yes": 1.0}}
    found = soft_accuracy(weights, {"1": "blue", "2": "no"})
    assert found.by_name == pytest.approx({"1": 0.9, "2": 0}) and found.value == pytest.approx(0.45)
    for answer, weight in soft_scores(people).items():
        assert agreement(answer, people) == pytest.approx(weight)
    with pytest.raises(DataError, match="question '1': the weight of 'red' is 2"):
        soft_accuracy({"1": {"red": 2.0}}, {"1": "red"})


def test_people_agree_with_people_in_real_answers():
    if "QUINCUNX_DATA" not in os.environ:
        pytest.skip("QUINCUNX_DATA names no data folder")
    text = (Path(os.environ["QUINCUNX_DATA"]) / "vqa2_text" / "valid.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    questions = {str(row["question_id"]): Question(row["answers"], answer_type=row["answer_type"]) for row in rows}
    best = {str(row["question_id"]): row["multiple_choice_answer"] for row in rows}
    official, fixed = (vqa_accuracy(questions, best, mode) for mode in ("official", "fixed"))
    expected = [reference.accuracy(best[name], question.answers) for name, question in questions.items()]
    assert official.overall.samples == pytest.approx(expected)
    # what most people said is nearly always what three or more said
    assert 0.93 < official.overall.value < 1 and official.by_answer_type["yes/no"].value > 0.99
    assert fixed.overall.value == pytest.approx(official.overall.value, abs=0.005)


@pytest.mark.parametrize(
    ("questions", "predictions", "said"),
    [
        ({}, {}, "no question to measure"),
        ({"1": Question(["a", "b"])}, {}, "predictions: 1 of 1 questions have none: '1'"),
        ({"1": Question(["a", "b"])}, {"1": "a", "2": "b"}, "belong to no question: '2'"),
        ({"1": Question(["a"])}, {"1": "a"}, "question '1': 1 people answered, expected two or more"),
        ({"1": Question(["a", "b"])}, {"1": 3}, "question '1': the answer is 3, expected a text"),
        ({"1": Question(["a", None])}, {"1": "a"}, "question '1': the true answer None is no text"),
    ],
)
def test_errors_name_the_question(questions, predictions, said):
    with pytest.raises(DataError, match=said):
        vqa_accuracy(questions, predictions)


def test_another_mode_is_refused():
    with pytest.raises(UsageError, match="'strict' is no way to compare answers; there are: official, fixed"):
        vqa_accuracy({"1": Question(["a", "b"])}, {"1": "a"}, "strict")
