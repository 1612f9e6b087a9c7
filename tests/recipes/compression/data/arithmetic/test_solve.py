import doctest
from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.recipes.compression.data.arithmetic import judge, solve
from quincunx.recipes.compression.data.arithmetic.judge import value_of

# Worked by hand from the rules.
WORKED = {
    "12+7": "7+12|r 2+7+10|d 9+10|s 19|c",
    "27+75+4": "4+27+75|r 7+4+20+75|d 5+7+4+20+70|d 5+11+20+70|s 5+1+10+20+70|d 6+10+20+70|s 6+10+90|s 6+100|s 106|c",
    "5*3": "3*5|r 2*5+5|d 5+5+5|d 5+10|s 15|c",
    "2*3*4": "3*4+3*4|d 2*4+3*4+4|d 3*4+4+4+4|d 2*4+4+4+4+4|d 4+4+4+4+4+4|d 4+4+4+4+8|s 4+4+4+12|s 4+4+4+2+10|d "
    "4+4+6+10|s 4+10+10|s 4+20|s 24|c",
    "0+0": "0|s",
    "7+5": "12|s",
    "2+109": "9+2+100|d 11+100|s 111|c",
    "11+500": "511|c",
    "500+11": "11+500|r 511|c",
    "7+5+20": "12+20|s 2+10+20|d 2+30|s 32|c",
    "1*5": "5|d",
    "0*7": "0|d",
    "12*0+3": "0*12+3|r 0+3|d 3|s",
    "45+0": "0+45|r 5+0+40|d 5+40|s 45|c",
    "99999+1": "1+99999|r 9+1+99990|d 9+1+90+99900|d 9+1+90+900+99000|d 9+1+90+900+9000+90000|d 10+90+900+9000+90000|s "
    "100+900+9000+90000|s 1000+9000+90000|s 10000+90000|s 100000|s",
    "1200+34": "34+1200|r 4+30+1200|d 4+30+200+1000|d 34+200+1000|c 234+1000|c 1234|c",
}


@pytest.mark.parametrize("problem", WORKED)
def test_solutions_worked_by_hand(problem: str):
    assert " ".join(f"{step.statement}|{step.kind[0]}" for step in solve(problem)) == WORKED[problem]


@st.composite
def written_problems(draw: st.DrawFn) -> str:
    """Sums of numbers of up to 7 digits, with products of a digit and a number between them."""
    number = st.one_of(st.integers(0, 9), st.integers(0, 9_999_999)).map(str)
    product = st.tuples(st.integers(0, 9).map(str), number).flatmap(st.permutations).map("*".join)
    terms = draw(st.lists(st.one_of(number, product), min_size=1, max_size=4))
    return "+".join(terms) if len(terms) > 1 or "*" in terms[0] else terms[0] + "+1"


@settings(max_examples=300, deadline=None)
@given(written_problems())
def test_every_statement_is_new_and_worth_the_problem_at_any_magnitude(problem: str):
    steps = solve(problem)
    statements = [step.statement for step in steps]
    assert {value_of(statement) for statement in statements} == {value_of(problem)}
    assert len({problem, *statements}) == len(statements) + 1
    assert statements[-1] == str(value_of(problem))
    # the judge names the same kinds from the text alone
    verdict = judge(problem + "=" + "=".join(statements) + "E")
    assert [step.kind for step in verdict.steps] == [step.kind for step in steps]


def test_examples_in_docstrings_hold():
    for name in ("", ".problems", ".solve"):
        outcome = doctest.testmod(import_module("quincunx.recipes.compression.data.arithmetic" + name))
        assert outcome.failed == 0
        assert outcome.attempted > 0
