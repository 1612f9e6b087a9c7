import math

import numpy as np
import pytest

from quincunx.metrics.intervals import bootstrap_mean, student_interval, student_quantile, wilson

# Tables of Student's t, as printed in textbooks: probability 0.975, 0.995 and 0.95.
TABLE = [
    (0.975, 1, 12.706), (0.975, 2, 4.303), (0.975, 3, 3.182), (0.975, 4, 2.776), (0.975, 5, 2.571),
    (0.975, 9, 2.262), (0.975, 10, 2.228), (0.975, 30, 2.042), (0.975, 100, 1.984), (0.975, 1000, 1.962),
    (0.995, 1, 63.657), (0.995, 2, 9.925), (0.995, 5, 4.032), (0.995, 20, 2.845),
    (0.95, 1, 6.314), (0.95, 4, 2.132), (0.95, 7, 1.895), (0.95, 30, 1.697),
]  # fmt: skip


@pytest.mark.parametrize(("probability", "freedom", "value"), TABLE)
def test_student_quantiles_are_those_of_the_tables(probability, freedom, value):
    assert student_quantile(probability, freedom) == pytest.approx(value, abs=6e-4)
    assert student_quantile(1 - probability, freedom) == pytest.approx(-value, abs=6e-4)


def test_student_quantiles_have_closed_forms_for_one_and_two_degrees_of_freedom():
    for probability in (0.5, 0.6, 0.9, 0.9999):
        assert student_quantile(probability, 1) == pytest.approx(math.tan(math.pi * (probability - 0.5)), abs=1e-9)
        centred = 2 * probability - 1
        assert student_quantile(probability, 2) == pytest.approx(centred * math.sqrt(2 / (1 - centred**2)), abs=1e-9)


def test_student_interval_over_three_seeds():
    found = student_interval([0.37, 0.40, 0.43])
    half = 4.302653 * 0.03 / math.sqrt(3)
    assert (found.value, found.low, found.high) == pytest.approx((0.40, 0.40 - half, 0.40 + half))
    wider = student_interval([0.37, 0.40, 0.43], level=0.99)
    assert wider.high - 0.40 == pytest.approx(9.924843 * 0.03 / math.sqrt(3))


@pytest.mark.parametrize(("values", "said"), [([], "found 0"), ([1.0], "found 1"), ([1.0, math.nan], "not finite")])
def test_student_interval_needs_two_finite_values(values, said):
    with pytest.raises(ValueError, match=said):
        student_interval(values)


def test_wilson_bounds_solve_the_equation_of_the_score_test():
    # At each bound b, the observed share lies exactly z standard errors of b away.
    for correct, total in ((1, 10), (5, 10), (730, 2000), (1999, 2000)):
        found = wilson(correct, total, 0.95)
        assert found.low < correct / total < found.high
        for bound in (found.low, found.high):
            assert abs(correct / total - bound) / math.sqrt(bound * (1 - bound) / total) == pytest.approx(1.959964)


def test_wilson_at_the_ends():
    none, all_of_them = wilson(0, 10), wilson(10, 10)
    assert (none.low, all_of_them.high) == (0.0, 1.0)
    assert none.high == pytest.approx(1 - all_of_them.low)
    assert none.high == pytest.approx(0.27753, abs=1e-5)


def test_bootstrap_agrees_with_the_normal_interval_where_that_is_right():
    values = np.random.default_rng(3).normal(5.0, 2.0, 1500)
    found = bootstrap_mean(values, 0.95, seed=1)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert found.value == values.mean()
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_bootstrap_is_a_function_of_its_seed_and_of_nothing_else():
    values = [0.0, 1.0, 1.0, 5.0, 2.0]
    before = np.random.get_state()[1].copy()
    first, again, other = (bootstrap_mean(values, seed=seed, resamples=501) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert (np.random.get_state()[1] == before).all()
    assert bootstrap_mean([3.0, 3.0]).low == bootstrap_mean([3.0, 3.0]).high == 3.0


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_levels_are_shares(level):
    for interval in (
        lambda: wilson(1, 2, level),
        lambda: student_interval([1, 2], level),
        lambda: bootstrap_mean([1], level),
    ):
        with pytest.raises(ValueError, match="confidence level"):
            interval()
