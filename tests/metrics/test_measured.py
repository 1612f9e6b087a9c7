"""A measure with its samples and interval: means as the bootstrap of means has them, functions of sums, same ids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.errors import DataError
from quincunx.metrics.intervals import bootstrap_mean
from quincunx.metrics.measured import from_sums, interval_table, mean, same_ids


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.integers(0, 5))
def test_a_mean_has_the_interval_of_a_mean(values, seed):
    names = [str(number) for number in range(len(values))]
    measured = mean(names, values)
    ours, theirs = measured.interval(seed=seed, resamples=60), bootstrap_mean(values, seed=seed, resamples=60)
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high), abs=1e-12)
    assert measured.by_name == dict(zip(names, values, strict=True))


def test_a_ratio_of_sums_is_no_mean_of_ratios():
    sums = np.array([[1.0, 1.0], [1.0, 9.0]])
    measured = from_sums(["a", "b"], sums[:, 0] / sums[:, 1], sums, lambda rows: rows[:, 0] / rows[:, 1])
    assert measured.value == pytest.approx(2 / 10)
    assert measured.samples.mean() == pytest.approx((1 + 1 / 9) / 2)
    bounds = measured.interval()
    assert (bounds.low, bounds.high) == pytest.approx((1 / 9, 1)), "both of one kind come in every fourth sample"


def test_resampling_in_blocks_is_resampling(monkeypatch):
    measured = mean([str(number) for number in range(50)], np.arange(50.0))
    whole = measured.interval(resamples=300)
    monkeypatch.setattr("quincunx.metrics.measured.AT_ONCE", 700)
    assert measured.interval(resamples=300) == whole


def test_the_interval_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        parts = generator.gamma(2.0, 1.0, (60, 2))
        bounds = from_sums([str(n) for n in range(60)], parts[:, 0], parts, lambda rows: rows[:, 0] / rows[:, 1])
        found = bounds.interval(resamples=300, seed=trial)
        inside += found.low <= 1 <= found.high
    assert 178 <= inside < 200, "19 of 20"


@pytest.mark.parametrize(
    ("names", "samples", "sums"),
    [([], [], np.zeros((0, 2))), (["a"], [1.0, 2.0], [[1.0]]), (["a"], [1.0], [1.0]), (["a"], [np.nan], [[1.0]])],
)
def test_what_does_not_fit_together_is_refused(names, samples, sums):
    with pytest.raises(ValueError, match=r"expected|not finite"):
        from_sums(names, samples, sums, lambda rows: rows[:, 0])


@pytest.mark.parametrize(("level", "resamples"), [(0, 10), (1, 10), (0.9, 0)])
def test_impossible_intervals_are_refused(level, resamples):
    with pytest.raises(ValueError, match="no interval"):
        mean(["a"], [1.0]).interval(level, resamples=resamples)


def test_measures_as_a_table():
    found = {"accuracy": mean(["1", "2", "3"], [0, 1, 1]), "none": mean(["1"], [0])}
    table = interval_table("answers", "measure", found, level=0.5)
    assert (table.title, tuple(table.columns)) == ("answers", ("measure", "samples", "value", "low", "high"))
    bounds = found["accuracy"].interval(0.5)
    assert table.rows == [("accuracy", 3, 2 / 3, bounds.low, bounds.high), ("none", 1, 0, 0, 0)]


def test_ids_are_those_of_the_truth_in_its_order():
    assert same_ids({"b": 1, "a": 2}, {"a": 1, "b": 2}, "question", "answers.json") == ["b", "a"]
    with pytest.raises(
        DataError, match=r"answers.json: 4 of 5 questions have none: '1', '2', '3' \.\.\.; expected one"
    ):
        same_ids([str(n) for n in range(5)], ["0"], "question", "answers.json")
    with pytest.raises(DataError, match="1 belong to no question: 'x'; do the two files fit"):
        same_ids(["0"], ["0", "x"], "question", "answers.json")
