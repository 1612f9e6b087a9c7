import ast
from pathlib import Path

import pytest

from quincunx.errors import DataError
from quincunx.recipes.compression.data.arithmetic import judge, tally


def kinds(text: str) -> str:
    """Kinds by their first letter, wrong steps in capitals; `several` is `v`."""
    letters = [("v" if step.kind == "several" else step.kind[0], step.right) for step in judge(text).steps]
    return "".join(letter if right else letter.upper() for letter, right in letters)


def test_a_whole_solution_is_sound():
    verdict = judge("12+7PPP=7+12=2+7+10=9+10=19E")
    assert (verdict.problem, verdict.value, verdict.answer) == ("12+7", 19, 19)
    assert verdict.correct
    assert verdict.sound
    assert verdict.finished
    assert verdict.failing == {}
    assert verdict.length == len("7+12=2+7+10=9+10=19")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12+7=7+12=2+7+10=9+10=19E", "rdsc"),
        ("12+7=7+12=2+7+10=8+10=18E", "rdSc"),  # an error counts where it was made, not where it is carried on
        ("12+7=7+12=2+7+10=8+10=19E", "rdSC"),
        ("12+7=7+13=3+7+10=10+10=20E", "Vdss"),
        ("12+7=2+7+20=9+20=29E", "Dsc"),
        ("12+7=9+10=19E", "vc"),  # a shortcut
        ("12+7=19E", "c"),
        ("7+5+20+30=19+43E", "v"),  # neither a sum of two nor one apart
        ("12+7==19E", "Mc"),
        ("12+7=7+=19E", "Mc"),
        ("12+7=07+12=19E", "Mc"),
        ("12+7=7+1P2=19E", "Mc"),
        ("12+7=E", "M"),
        ("3*4=3*4=2*4+4=4+4+4=4+8=12E", "rddss"),
        ("0+5=5E", "s"),
        ("0+20=20E", "c"),
        ("5+20=20E", "V"),  # only a 0 may go without a trace
        ("0*3+4=0+4=4E", "ds"),
        ("2*3*4=6*4=24E", "dd"),
    ],
)
def test_kinds_of_steps_and_which_are_wrong(text: str, expected: str):
    assert kinds(text) == expected


def test_the_answer_is_what_stands_after_the_last_separator_before_the_end():
    assert judge("1+1=2E=3").correct
    assert not judge("1+1=3E2").correct
    assert judge("1+1=1+1E").answer is None
    assert not judge("1+1=1+1E").correct
    unfinished = judge("1+1=2")
    assert unfinished.answer == 2
    assert not unfinished.finished
    assert not unfinished.correct
    assert not judge("1+1=02E").correct


def test_a_right_answer_by_wrong_steps_is_correct_but_not_sound():
    verdict = judge("12+7=9+11=19E")
    assert verdict.correct
    assert not verdict.sound
    assert verdict.failing == {"several": 1, "combine": 1}


@pytest.mark.parametrize("text", ["12+7", "=19E", "12+=19E", "a=1E", "", "PP=1E"])
def test_what_is_no_problem_is_refused(text: str):
    with pytest.raises(DataError, match="expected numbers joined by"):
        judge(text)


def test_endless_numbers_are_no_answers():
    assert judge("1+1=" + "9" * 5000 + "E").steps[0].kind == "malformed"


def test_a_tally_sums_up():
    texts = ["1+1=2E", "12+7=7+12=2+7+10=8+10=18E", "12+7=9+11=19E", "1+1=2"]
    found = tally([judge(text) for text in texts])
    assert (found.count, found.accuracy, found.soundness, found.finished) == (4, 0.5, 0.25, 0.75)
    assert found.length == (1 + 19 + 7 + 1) / 4
    assert found.steps == (1 + 4 + 2 + 1) / 4
    assert found.kinds == {"rearrange": 1, "decompose": 1, "sum": 3, "combine": 2, "several": 1, "malformed": 0}
    assert {kind: count for kind, count in found.failures.items() if count} == {"sum": 1, "combine": 1, "several": 1}
    with pytest.raises(DataError, match="no solutions"):
        tally([])


def test_the_judge_shares_no_code_with_the_generator():
    import quincunx.recipes.compression.data.arithmetic as package

    source = (Path(package.__file__).parent / "judge.py").read_text(encoding="utf-8")
    imported = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert not any("compression" in (name or "") for name in imported)
