from collections import Counter

import numpy as np
import pytest

from quincunx.errors import DataError, UsageError
from quincunx.recipes.compression.data.arithmetic import Parameters, judge, solve
from quincunx.recipes.compression.data.arithmetic.judge import value_of
from quincunx.recipes.compression.data.arithmetic.problems import canonical, deal, draw

WIDE = Parameters(
    99_999, 4, 0.3, 0.3, 9, space_multiplications=True, zipf_order=0.0, ood_max_num=999_999, ood_max_entities=6, seed=3
)
INSIDE = {"train": 200, "dev": 40, "test": 40}


def numbers(problem: str) -> list[int]:
    return [int(number) for term in problem.split("+") for number in term.split("*")]


@pytest.mark.parametrize("family", ["inside", "ood_magnitude"])
def test_ten_thousand_solutions_are_judged_right(family: str):
    """The independent evaluator, on numbers of up to six digits."""
    drawn = draw(WIDE, family, 0, 5_000)
    assert max(map(value_of, drawn)) > 99_999
    for problem in drawn:
        steps = solve(problem)
        verdict = judge(f"{problem}={'='.join(step.statement for step in steps)}E")
        assert verdict.sound, problem
        # Python's own arithmetic, as a third opinion
        assert verdict.value == sum(int(np.prod([int(n) for n in t.split("*")])) for t in problem.split("+"))
    if family == "inside":
        assert len(drawn) == 5_000


def test_draws_depend_on_their_address_alone():
    whole = draw(WIDE, "inside", 0, 300)
    assert whole[100:150] == draw(WIDE, "inside", 100, 50)
    other = Parameters(**{**WIDE.__dict__, "seed": 4})
    assert draw(other, "inside", 0, 300) != whole


def test_the_generator_never_drifts():
    assert draw(Parameters(seed=7), "inside", 0, 6) == ["67+40", "72+80+32", "12+31+76", "35+66", "71+23", "39+71+16"]
    drawn = draw(Parameters(multiply_probability=0.5, seed=7), "ood_entities", 0, 4)
    assert drawn == ["79+48+5*8", "4*3+2*6", "6*7+6*8", "3*6+38+92+38"]


def test_entities_appear_with_their_probability():
    drawn = draw(Parameters(9, 4, 0.25), "inside", 0, 20_000)
    counts = Counter(len(numbers(problem)) for problem in drawn)
    expected = {2: 0.5625, 3: 0.375, 4: 0.0625}  # binomial, two further numbers
    for entities, share in expected.items():
        assert abs(counts[entities] / 20_000 - share) < 0.012
    assert {len(numbers(problem)) for problem in draw(Parameters(9, 4, 1.0), "inside", 0, 500)} == {4}
    assert {len(numbers(problem)) for problem in draw(Parameters(9, 4, 0.0), "inside", 0, 500)} == {2}


def test_multiplications_come_with_their_probability_spaced_and_with_small_factors():
    spaced = draw(Parameters(50, 4, 1.0, 0.5, 7), "inside", 0, 4_000)
    assert max(problem.count("*") for problem in spaced) == 2
    assert all(term.count("*") <= 1 for problem in spaced for term in problem.split("+"))
    first = sum("*" in problem.split("+")[0] for problem in spaced) / 4_000
    assert abs(first - 0.5) < 0.03
    factors = {int(n) for problem in spaced for term in problem.split("+") if "*" in term for n in term.split("*")}
    alone = {int(term) for problem in spaced for term in problem.split("+") if "*" not in term}
    assert factors == set(range(8))
    assert alone == set(range(51))
    free = draw(Parameters(50, 3, 1.0, 0.5, 4, space_multiplications=False, ood_max_entities=4), "inside", 0, 2_000)
    assert max(term.count("*") for problem in free for term in problem.split("+")) == 2
    assert not any("*" in problem for problem in draw(Parameters(50, 4), "inside", 0, 500))


def test_zipf_prefers_small_numbers():
    drawn = [n for problem in draw(Parameters(9, 2, zipf_order=1.0), "inside", 0, 20_000) for n in numbers(problem)]
    shares = np.bincount(drawn, minlength=10) / len(drawn)
    weights = 1 / np.arange(1, 11)
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.01)
    even = [n for problem in draw(Parameters(9, 2), "inside", 0, 20_000) for n in numbers(problem)]
    np.testing.assert_allclose(np.bincount(even, minlength=10) / len(even), 0.1, atol=0.01)


def test_splits_share_no_problem_nor_a_rearrangement_of_one():
    # 11 numbers make 66 sums of two: at this size nearly all of them are dealt
    dealt = deal(Parameters(10, 2), {"train": 70, "dev": 6, "test": 6})
    forms = {split: {canonical(problem) for problem in problems} for split, problems in dealt.items()}
    assert not forms["train"] & forms["dev"]
    assert not forms["train"] & forms["test"]
    assert not forms["dev"] & forms["test"]
    every = [problem for problems in dealt.values() for problem in problems]
    assert len(set(every)) == len(every) == 82
    both = [problem for problem in dealt["train"] if "+".join(reversed(problem.split("+"))) in dealt["train"]]
    assert len(both) > 40


def test_splits_of_one_distribution_are_alike():
    dealt = deal(Parameters(9, 4, 0.5), {"train": 300, "dev": 300, "test": 300})
    short = {split: sum(len(numbers(problem)) == 2 for problem in problems) for split, problems in dealt.items()}
    # the hundred sums of two run out: each split must get its share of them
    assert min(short.values()) > 15


def test_splits_out_of_distribution_are_outside_it():
    dealt = deal(WIDE, {**INSIDE, "ood_magnitude": 100, "ood_entities": 100})
    assert [len(problems) for problems in dealt.values()] == [200, 40, 40, 100, 100]
    for split in ("train", "dev", "test"):
        assert all(max(numbers(problem)) <= 99_999 and len(numbers(problem)) <= 4 for problem in dealt[split])
    assert all(max(numbers(problem)) > 99_999 for problem in dealt["ood_magnitude"])
    assert all(2 <= len(numbers(problem)) <= 4 for problem in dealt["ood_magnitude"])
    assert {len(numbers(problem)) for problem in dealt["ood_entities"]} == {5, 6}
    assert all(max(numbers(problem)) <= 99_999 for problem in dealt["ood_entities"])


def test_too_few_different_problems_are_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("quincunx.recipes.compression.data.arithmetic.problems.PATIENCE", 5_000)
    with pytest.raises(DataError, match=r"numbers up to 1 and up to 2 .* train \d of 10, dev .* ask for fewer"):
        deal(Parameters(1, 2), {"train": 10, "dev": 2, "test": 2})
    # with factors no larger than max_num and nothing but products no number is large
    products = Parameters(9, 2, multiply_probability=1.0)
    with pytest.raises(DataError, match="ood_magnitude 0 of 5"):
        deal(products, {"ood_magnitude": 5})


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"max_num": -1}, "max_num is -1"),
        ({"max_entities": 1}, "max_entities is 1; expected 2"),
        ({"entity_probability": 1.5}, "entity_probability"),
        ({"multiply_probability": -0.1}, "multiply_probability"),
        ({"ood_max_num": 99}, "ood_max_num is 99; expected 100"),
        ({"ood_max_entities": 3}, "ood_max_entities is 3; expected 4"),
        ({"zipf_order": 1.0, "ood_max_num": 10_000_000}, "lower max_num"),
        ({"max_num": 999, "ood_max_num": 9999, "max_factor": 999, "multiply_probability": 0.1}, "999 addends"),
        ({"multiply_probability": 0.1, "space_multiplications": False}, "lower max_factor, or set space"),
    ],
)
def test_settings_without_meaning_are_refused(settings: dict[str, float], answer: str):
    with pytest.raises(UsageError, match=answer):
        Parameters(**settings)  # pyright: ignore[reportArgumentType]


def test_no_problem_is_longer_than_is_said():
    parameters = Parameters(99, 3, 1.0, 0.2, ood_max_num=9999, ood_max_entities=4)
    inside = max(map(len, draw(parameters, "inside", 0, 2_000)))
    outside = [
        len(problem) for split in ("ood_magnitude", "ood_entities") for problem in draw(parameters, split, 0, 2_000)
    ]
    assert inside == parameters.longest(outside=False) == len("99+99+99")
    assert max(outside) == parameters.longest(outside=True) == len("9999+9999+9999")
