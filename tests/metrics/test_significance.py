import itertools
import math

import numpy as np
import pytest

from quincunx.metrics.intervals import bootstrap_mean
from quincunx.metrics.significance import holm, paired, randomisation_test


def slow_p(differences: list[float]) -> float:
    """Return the share of all signs whose sum is at least as far from 0, in whole numbers."""
    signs = itertools.product((1, -1), repeat=len(differences))
    sums = [abs(sum(sign * value for sign, value in zip(some, differences, strict=True))) for some in signs]
    return sum(value >= sums[0] for value in sums) / len(sums)


@pytest.mark.parametrize(
    "differences", [[1], [1, 2, 3], [3, -1, 2, 2, -5, 1], [1, 1, 1, 1, 1, -1, 0, 0], [0, 4], [-3, -3, -3, -3]]
)
def test_few_queries_are_enumerated(differences):
    p, exact = randomisation_test(differences)
    assert exact
    assert p == slow_p(differences)
    assert randomisation_test([0.1 * value for value in differences])[0] == p  # rounding decides nothing
    assert randomisation_test([-value for value in differences])[0] == p


def test_all_wins_have_the_smallest_p_there_is():
    assert randomisation_test([0.5] * 10) == (2 / 2**10, True)


def test_drawn_signs_come_close_to_all_signs():
    values = np.random.default_rng(1).normal(0.3, 1.0, 16)
    exact = randomisation_test(values)
    more = np.concatenate([values, [1e-9]])  # one query too many to enumerate, that changes nothing
    drawn, whole = randomisation_test(more, seed=3, samples=40_000)
    assert exact[1] and not whole
    assert drawn == pytest.approx(exact[0], abs=5 * math.sqrt(exact[0] / 40_000))
    assert randomisation_test(more, seed=3, samples=40_000) == (drawn, False)
    assert randomisation_test(more, seed=4, samples=40_000)[0] != drawn


def test_drawn_p_is_never_nothing():
    assert randomisation_test(np.ones(200), samples=999) == (1 / 1000, False)


def test_p_is_uniform_where_nothing_differs():
    generator = np.random.default_rng(7)
    found = [randomisation_test(generator.normal(size=9))[0] for _ in range(600)]
    for level in (0.1, 0.5, 0.9):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=0.06)


def test_no_difference_is_no_evidence():
    found = paired([0.5, 0.2], [0.5, 0.2])
    assert (found.p, found.exact, found.wins, found.losses) == (1.0, True, 0, 0)
    assert found.difference.low == found.difference.value == found.difference.high == 0.0


def test_a_paired_comparison_holds_difference_interval_and_p():
    generator = np.random.default_rng(5)
    base = generator.random(300)
    better = base + generator.normal(0.05, 0.1, 300)
    found = paired(better, base, seed=2)
    assert found.difference == bootstrap_mean(better - base, 0.95, 2, 10_000)
    assert found.difference.low > 0 and found.p < 0.001 and not found.exact
    assert found.wins == (better > base).sum() and found.wins + found.losses == 300
    swapped = paired(base, better, seed=2)
    assert swapped.difference.value == -found.difference.value
    assert (swapped.wins, swapped.losses) == (found.losses, found.wins)
    wider = paired(better, base, seed=2, level=0.99).difference
    assert wider.low < found.difference.low and wider.high > found.difference.high


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ([1.0, 2.0], [1.0], "shapes"),
        ([[1.0]], [[1.0]], "one a query"),
        ([], [], "no values"),
        ([1.0, math.nan], [1.0, 1.0], "not finite"),
    ],
)
def test_values_must_pair(a, b, said):
    with pytest.raises(ValueError, match=said):
        paired(a, b)


def test_a_test_needs_finite_values_and_samples():
    with pytest.raises(ValueError, match="not finite"):
        randomisation_test([math.inf])
    with pytest.raises(ValueError, match="0 samples"):
        randomisation_test([1.0], samples=0)


def slow_holm(p_values: list[float], level: float) -> list[bool]:
    """Return which hypotheses are rejected, step by step: the smallest first, until one is not."""
    rejected = [False] * len(p_values)
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > level / (len(p_values) - step):
            break
        rejected[index] = True
    return rejected


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03, 0.005], [0.2], [], [0.04, 0.04, 0.9], [0.011, 0.02, 0.02, 1]])
def test_corrected_values_reject_what_holms_steps_reject(p_values):
    corrected = holm(p_values)
    for level in (0.001, 0.0100001, 0.030001, 0.05, 0.0600001, 0.1, 0.5):
        assert [p <= level for p in corrected] == slow_holm(p_values, level)
    assert all(p <= q <= 1 for p, q in zip(p_values, corrected, strict=True))


def test_holms_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.1, 1.2])
