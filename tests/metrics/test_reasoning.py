"""GQA, NLVR and VCR: figures by hand, and consistency against counting by sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.errors import DataError
from quincunx.metrics.reasoning import GqaQuestion, gqa_scores, nlvr2_sentence, statement_scores, vcr_scores


def test_gqa_by_hand():
    questions = {
        "1": GqaQuestion("red", "query", ["1", "2", "3"], ["red", "blue"], ["red"]),
        "2": GqaQuestion("yes", "verify", ["1"], ["yes", "no"], ["yes", "no"]),
        "3": GqaQuestion("no", "verify", ["2"]),
    }
    found, types = gqa_scores(questions, {"1": "red", "2": "no", "3": "no"})
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        # of the right ones, 1 entails 2 (wrong) and 3 (right), 3 entails 2 (wrong)
        {"accuracy": 2 / 3, "consistency": (1 / 2 + 0) / 2, "validity": 1, "plausibility": 1}
    )
    assert found["consistency"].by_name == {"1": 0.5, "3": 0}
    assert {kind: one.value for kind, one in types.items()} == {"query": 1, "verify": 0.5}
    found, _ = gqa_scores(questions, {"1": "blue", "2": "cat", "3": "yes"})
    assert (found["accuracy"].value, found["validity"].value, found["plausibility"].value) == (0, 0.5, 0)
    assert "consistency" not in found, "no right answer entails anything"


def test_gqa_without_more_than_answers():
    found, types = gqa_scores({"1": GqaQuestion("a"), "2": GqaQuestion("b")}, {"1": "a", "2": "B"})
    assert list(found) == ["accuracy"] and found["accuracy"].value == 0.5 and types == {}


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 3)), min_size=1))
def test_a_sentence_is_right_when_all_its_examples_are(rows):
    names = [f"e{number}" for number in range(len(rows))]
    truth = {name: row[0] for name, row in zip(names, rows, strict=True)}
    told = {name: row[1] for name, row in zip(names, rows, strict=True)}
    found = statement_scores(truth, told, {name: row[2] for name, row in zip(names, rows, strict=True)})
    assert found["accuracy"].value == pytest.approx(sum(row[0] == row[1] for row in rows) / len(rows))
    groups = {row[2] for row in rows}
    right = [all(row[0] == row[1] for row in rows if row[2] == group) for group in groups]
    assert found["consistency"].value == pytest.approx(sum(right) / len(groups))
    assert len(found["consistency"].names) == len(groups)
    assert found["consistency"].value <= 1 and list(statement_scores(truth, told)) == ["accuracy"]


def test_sentences_of_nlvr2():
    assert nlvr2_sentence("dev-850-0-1") == nlvr2_sentence("dev-850-3-1") == "dev-850-1"
    with pytest.raises(DataError, match="'dev-850' is no identifier of NLVR2"):
        nlvr2_sentence("dev-850")


def test_vcr_counts_answers_rationales_and_both():
    found = vcr_scores({"1": (0, 1), "2": (2, 3), "3": (1, 1)}, {"1": (0, 1), "2": (2, 0), "3": (0, 1)})
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        {"answer": 2 / 3, "rationale": 2 / 3, "both": 1 / 3}
    )


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: gqa_scores({"1": GqaQuestion("a", entailed=["9"])}, {"1": "a"}), "'1' entails '9'"),
        (lambda: gqa_scores({"1": GqaQuestion("a")}, {}), "predictions: 1 of 1 questions have none: '1'"),
        (lambda: statement_scores({"1": True}, {"1": "true"}), "predictions, statement '1': found 'true'"),
        (lambda: statement_scores({"1": 1}, {"1": True}), "truth, statement '1': found 1"),
        (lambda: statement_scores({"1": True}, {"1": True}, {}), "statement '1' has no sentence"),
        (lambda: vcr_scores({"1": (0, 1)}, {"1": (0,)}), "predictions, question '1': found \\(0,\\)"),
        (lambda: vcr_scores({"1": (0, -1)}, {"1": (0, 1)}), "truth, question '1'"),
        (lambda: vcr_scores({"1": (0, True)}, {"1": (0, 1)}), "truth, question '1'"),
    ],
)
def test_errors_name_the_id(call, said):
    with pytest.raises(DataError, match=said):
        call()
