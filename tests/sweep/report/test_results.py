"""The ranking of a sweep's configurations, held against plain computations with scipy."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from quincunx.sweep.records import TrialRecord
from quincunx.sweep.report.results import Results, Row, again, fresh_seed, table
from sweep_results_made import realistic, sweep, trial


def interval(values: list[float], level: float = 0.95) -> tuple[float, float, float]:
    """Return mean and t-interval, written out."""
    mean = sum(values) / len(values)
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * error
    return mean, mean - half, mean + half


def bounds(estimate: Any) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def by_trial(results: Results) -> dict[int, Row]:
    return {row.trial: row for row in results.rows}


def test_intervals_differences_and_verdicts_are_those_of_plain_formulas() -> None:
    generator = random.Random(3)
    luck = [generator.gauss(0, 0.03) for _ in range(4)]
    values = [[0.5 - 0.005 * number + each + generator.gauss(0, 0.008) for each in luck] for number in range(12)]
    results = table(sweep(*(trial(number, found) for number, found in enumerate(values))), "max", 0.9)
    means = [sum(found) / 4 for found in values]
    order = sorted(range(12), key=lambda number: -means[number])
    assert [row.trial for row in results.rows] == order
    assert [row.rank for row in results.rows] == list(range(1, 13))
    best = values[order[0]]
    verdicts, sure = [], []
    for row in results.rows:
        assert bounds(row.estimate) == pytest.approx(interval(values[row.trial], 0.9), abs=1e-12)
        if row.trial == order[0]:
            continue
        gaps = [one - other for one, other in zip(values[row.trial], best, strict=True)]
        assert bounds(row.difference) == pytest.approx(interval(gaps, 0.9), abs=1e-12)
        verdicts.append("worse" if interval(gaps, 0.9)[2] < 0 else "even")
        sure.append(interval(gaps, 1 - 0.1 / 66)[2] < 0)
        assert row.common == 4
    assert [row.verdict for row in results.rows] == ["best", *verdicts]
    assert [row.sure for row in results.rows] == [False, *sure]
    assert set(verdicts) == {"worse", "even"}, "an example in which both come out"
    assert 0 < sum(sure) < verdicts.count("worse"), "the wider intervals tell fewer apart"
    assert (results.comparisons, results.pairs) == (11, 66)


def test_pairing_by_seed_tells_apart_what_overlapping_intervals_do_not() -> None:
    luck = [0.1, 0.3, 0.5]
    found = table(sweep(trial(0, luck), trial(1, [each + 0.01 + 0.0001 * each for each in luck])), "max").rows
    one, other = found[0].estimate, found[1].estimate
    assert one and other and one.low is not None and other.high is not None and one.low < other.high
    assert [row.verdict for row in found] == ["best", "worse"]


def test_a_goal_that_shrinks_turns_order_and_verdicts() -> None:
    record = sweep(trial(0, [0.5, 0.51, 0.52]), trial(1, [0.1, 0.11, 0.125]), trial(2, [0.11, 0.1, 0.12]))
    results = table(record, "min")
    assert [(row.trial, row.verdict) for row in results.rows] == [(2, "best"), (1, "even"), (0, "worse")]
    assert [(row.trial, row.verdict) for row in table(record, "max").rows] == [(0, "best"), (1, "worse"), (2, "worse")]


def test_one_seed_has_no_interval_and_tells_nothing() -> None:
    results = table(sweep(trial(0, [0.5]), trial(1, [0.9]), trial(2, [0.7])), "max")
    assert [(row.trial, row.rank, row.verdict) for row in results.rows] == [
        (1, 1, "best"),
        (2, 2, "unknown"),
        (0, 3, "unknown"),
    ]
    assert all(row.estimate and row.estimate.low is None and row.estimate.over is None for row in results.rows)
    assert results.comparisons == 0
    assert results.rows[1].difference and results.rows[1].difference.value == pytest.approx(-0.2)


def test_only_common_seeds_are_paired() -> None:
    record = sweep(
        trial(0, [0.9, 0.8, 0.7], seeds=[1, 2, 3]),
        trial(1, [0.5, 0.6, 0.1], seeds=[3, 2, 9]),
        trial(2, [0.6, 0.6, 0.6], seeds=[7, 8, 9]),
        trial(3, [0.1, 0.2, 0.3], seeds=[3, 8, 9]),
    )
    rows = by_trial(table(record, "max"))
    assert bounds(rows[1].difference) == pytest.approx(interval([0.5 - 0.7, 0.6 - 0.8]))
    assert [rows[number].common for number in range(4)] == [3, 2, 0, 1]
    assert [rows[number].verdict for number in range(4)] == ["best", "worse", "unknown", "unknown"]
    assert rows[2].difference is None
    assert rows[3].difference and bounds(rows[3].difference) == (pytest.approx(0.1 - 0.7), None, None)


def test_only_whole_trainings_with_every_seed_are_ranked() -> None:
    half = trial(3, [0.99, 0.98])
    half = replace(half, runs=[half.runs[0], replace(half.runs[1], state="failed", value=None, reason="it broke")])
    record = sweep(
        trial(0, [0.5, 0.6]),
        trial(1, [0.9, 0.9], state="pruned", update=50),
        trial(2, [0.8, 0.8], state="pruned", update=70),
        half,
        trial(4, [None, None], state="running", update=10),
        trial(5, [math.nan, 0.7]),
        trial(6, [math.inf, 0.7]),
        trial(7, [0.4, 0.4]),
        TrialRecord(8, {}, {"lr": 1}, []),
    )
    results = table(record, "max")
    assert [row.trial for row in results.ranked] == [0, 7]
    rows = by_trial(results)
    assert [row.trial for row in results.rows if row.state == "pruned"] == [2, 1], "who came further comes first"
    assert rows[3].reasons == ["it broke"] and rows[3].value == 0.99 and rows[3].rank is None
    assert rows[5].rank is None and math.isnan(rows[5].value or 0)
    assert rows[8].estimate is None and rows[8].state == "open"
    assert {row.trial for row in results.rows} == set(range(9)), "nobody is lost"


def test_nothing_to_rank() -> None:
    for record in (sweep(), sweep(trial(0, [None, None], state="failed"))):
        results = table(record, "min")
        assert results.best is None and results.ranked == [] and results.costs == [] and results.pairs == 0
    alone = table(sweep(trial(0, [0.5, 0.6])), "max")
    assert alone.best and alone.best.trial == 0 and alone.comparisons == 0


def test_equal_values_share_a_rank_and_a_copy_is_no_comparison() -> None:
    copy = trial(1, [0.5, 0.7])
    copy = replace(copy, runs=[replace(run, same_as=run.number - 2) for run in copy.runs])
    results = table(sweep(trial(0, [0.5, 0.7]), copy, trial(2, [0.7, 0.5]), trial(3, [0.1, 0.2])), "max")
    assert [(row.trial, row.rank, row.same_as) for row in results.rows] == [
        (0, 1, None),
        (1, 1, 0),
        (2, 1, None),
        (3, 4, None),
    ]
    assert [row.verdict for row in results.rows][:3] == ["best", "even", "even"]
    assert results.comparisons == 2 and results.pairs == 3 and len(results.distinct) == 3


def test_the_front_is_what_nothing_dominates() -> None:
    record = realistic(40, 2)
    results = table(record, "max")

    def cost(row: Row) -> tuple[float, float, float]:
        assert row.value is not None and row.seconds is not None and row.memory is not None
        return -row.value, row.seconds, row.memory

    def dominates(one: Row, other: Row) -> bool:
        pairs = list(zip(cost(one), cost(other), strict=True))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    wanted = [row.trial for row in results.ranked if not any(dominates(other, row) for other in results.ranked)]
    assert [row.trial for row in results.rows if row.front] == wanted
    assert 1 < len(wanted) < len(results.ranked)
    assert results.costs == ["seconds", "memory"]


def test_the_front_counts_only_costs_that_all_have() -> None:
    record = sweep(
        trial(0, [0.5], seconds=10.0, memory=None), trial(1, [0.6], seconds=20.0), trial(2, [0.55], seconds=20.0)
    )
    results = table(record, "max")
    assert results.costs == ["seconds"] and [row.trial for row in results.rows if row.front] == [1, 0]
    bare = table(sweep(trial(0, [0.5], seconds=0.0, memory=None)), "max")
    assert bare.costs == [] and not bare.rows[0].front and bare.rows[0].seconds is None


def test_costs_are_the_mean_time_and_the_most_memory() -> None:
    one = trial(0, [0.5, 0.6])
    one = replace(
        one,
        runs=[replace(one.runs[0], seconds=10.0, memory=7), replace(one.runs[1], seconds=30.0, memory=5, update=60)],
    )
    row = table(sweep(one), "max").rows[0]
    assert (row.seconds, row.memory, row.update, row.total) == (20.0, 7, 60, 100)


def test_the_commands_train_the_first_run_again() -> None:
    record = sweep(trial(0, [0.5, 0.6], seeds=[41, 42], folder="it's_0"))
    results = table(record, "max")
    assert again(Path("runs/a b"), results.rows[0]) == (
        """quincunx train 'runs/a b/it'"'"'s_0/config.yaml' 'run.dir=runs/a b-trial-0'"""
    )
    assert fresh_seed(results) == 43
    assert again(Path("s"), results.rows[0], seed=43).endswith("run.dir=s-trial-0-seed-43 seed=43")


def test_the_command_takes_what_was_asked_for_where_the_run_is_gone(tmp_path: Path) -> None:
    row = table(sweep(trial(0, [0.5])), "max").rows[0]
    (tmp_path / "trials").mkdir()
    asked = tmp_path / "trials" / f"{row.runs[0].number}.yaml"
    asked.touch()
    assert again(tmp_path, row).split()[2] == str(asked)
    config = tmp_path / row.runs[0].folder / "config.yaml"
    config.parent.mkdir()
    config.touch()
    assert again(tmp_path, row).split()[2] == str(config)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="goal"):
        table(sweep(), "more")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="level"):
        table(sweep(), "max", 1.0)


numbers = st.one_of(st.none(), st.floats(), st.floats(0, 1))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.lists(numbers, max_size=3), st.sampled_from(["done", "pruned", "failed", "running"]))),
    st.sampled_from(["max", "min"]),
)
def test_any_record_has_a_table(found: list[tuple[list[float | None], Any]], goal: Literal["max", "min"]) -> None:
    record = sweep(*(trial(number, values, state=state) for number, (values, state) in enumerate(found)))
    results = table(record, goal)
    assert sorted(row.trial for row in results.rows) == list(range(len(found)))
    ranked = [row.value for row in results.ranked]
    assert ranked == sorted(ranked, reverse=goal == "max")
    assert (results.best is None) == (not ranked)
    for row in results.ranked:
        assert row.estimate is not None and math.isfinite(row.estimate.value)
        if row.estimate.low is not None and row.estimate.high is not None:
            assert row.estimate.low <= row.estimate.high
            assert math.isfinite(row.estimate.high - row.estimate.low) or abs(row.estimate.low) > 1e300
        assert not (row.sure and row.verdict != "worse")
