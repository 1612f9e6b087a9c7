"""Rungs, promotions and the median rule, on records made by hand and on simulated sweeps."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from quincunx.sweep.records import Facts, RunRecord, SweepRecord, TrialRecord
from quincunx.sweep.running.pruning import (
    bracket_of,
    first_target,
    hopeless,
    ladder,
    next_target,
    promotion,
    rungs,
    value_at,
)
from quincunx.sweep.running.scheduling import Done, New, Promote, Start, Wait, choose
from quincunx.sweep.settings import Sweep

ASHA = Sweep.model_validate({"pruner": "asha", "pruning": {"first": 1, "factor": 3}})
MEDIAN = Sweep.model_validate({"pruner": "median", "pruning": {"startup": 3}})


def trial(number: int, *runs: dict[str, Any], **all_runs: Any) -> TrialRecord:
    """Return a trial of runs of nine updates."""
    made = [
        RunRecord(
            **{
                "number": number * 10 + index,
                "trial": number,
                "replicate": index,
                "seed": index,
                "folder": "f",
                "hash": f"{number}.{index}",
                "total": 9,
                **all_runs,
                **run,
            }
        )
        for index, run in enumerate(runs or ({},))
    ]
    return TrialRecord(number, {}, {}, made)


def paused(number: int, update: int, value: float, **changes: Any) -> TrialRecord:
    """Return a trial of one run that is paused at a rung, and had the same value at all of them."""
    values = {rung: value for rung in (1, 3) if rung <= update}
    return trial(number, state="paused", update=update, value=value, values=values, **changes)


def record(*trials: TrialRecord) -> SweepRecord:
    return SweepRecord(list(trials))


@pytest.mark.parametrize(
    ("first", "factor", "total", "expected"),
    [
        (1, 3, 9, [1, 3]),
        (1, 3, 10, [1, 3, 9]),
        (100, 2, 100, []),
        (100, 2, 101, [100]),
        (5, 4, None, [5]),
        (7, 2, 3, []),
    ],
)
def test_rungs_end_before_training_does(first: int, factor: int, total: int | None, expected: list[int]) -> None:
    assert rungs(first, factor, total) == expected


def test_the_best_third_goes_on() -> None:
    three = [paused(0, 1, 0.1), paused(1, 1, 0.3), paused(2, 1, 0.2)]
    assert promotion(record(*three[:2]), ASHA, "max", closing=False) is None
    for goal, number in (("max", 1), ("min", 0)):
        chosen = promotion(record(*three), ASHA, goal, closing=False)
        assert chosen is not None and chosen.number == number
        assert next_target(chosen, record(*three), ASHA) == 3


def test_who_has_gone_on_still_counts() -> None:
    going = trial(0, state="running", update=1, target=3, value=0.9, values={1: 0.9})
    others = [paused(number, 1, 0.1 * number) for number in range(1, 5)]
    assert promotion(record(going, *others), ASHA, "max", closing=False) is None
    chosen = promotion(record(going, *others, paused(5, 1, 0.05)), ASHA, "max", closing=False)
    assert chosen is not None and chosen.number == 4


def test_a_rung_is_gathered_before_anybody_goes_on() -> None:
    in_step = Sweep.model_validate({"pruner": "asha", "pruning": {"first": 1, "factor": 3, "gather": 6}})
    low = [paused(number, 1, 0.1 * number) for number in range(6)]
    assert promotion(record(*low[:5]), in_step, "max") is None
    chosen = promotion(record(*low), in_step, "max")
    assert chosen is not None and chosen.number == 5
    # two of six come to the next rung; were there but four, one would
    high = [paused(number, 3, 0.1 * number) for number in (4, 5)]
    assert promotion(record(*low[:4], *high), in_step, "max") is None
    assert promotion(record(*low[:3], trial(3, state="failed")), in_step, "max", complete=False) is None
    chosen = promotion(record(*low[:3], trial(3, state="failed")), in_step, "max", complete=True)
    assert chosen is not None and chosen.number == 2
    coming = trial(3, state="running", values={})
    assert promotion(record(*low[:3], coming), in_step, "max", complete=True) is None


def test_a_rung_higher_up_is_gathered_too() -> None:
    in_step = Sweep.model_validate({"pruner": "asha", "pruning": {"first": 1, "factor": 3, "gather": 12}})
    low = [paused(number, 1, 0.01 * number) for number in range(8)]
    high = [paused(number, 3, 0.1 * number) for number in range(8, 11)]
    last = trial(11, state="running", update=1, target=3, value=1.1, values={1: 1.1})
    assert promotion(record(*low, *high, last), in_step, "max", complete=True) is None
    chosen = promotion(record(*low, *high, paused(11, 3, 1.1)), in_step, "max", complete=True)
    assert chosen is not None and chosen.number == 11


def test_the_highest_rung_goes_first_and_then_to_the_end() -> None:
    high = [paused(number, 3, 0.1 * number) for number in range(3)]
    low = [paused(number, 1, 0.9) for number in range(3, 9)]
    chosen = promotion(record(*high, *low), ASHA, "max", closing=False)
    assert chosen is not None and chosen.number == 2 and next_target(chosen, record(*high, *low), ASHA) is None


def test_values_that_are_no_numbers_and_failures_never_go_on() -> None:
    bad = [paused(0, 1, math.nan), trial(1, state="failed", update=1, values={1: 0.99}), paused(2, 1, 0.1)]
    chosen = promotion(record(*bad, paused(3, 1, 0.05)), ASHA, "max", closing=False)
    assert chosen is not None and chosen.number == 2


def test_trials_of_different_length_compete_at_the_rungs_that_they_share() -> None:
    long = [paused(0, 1, 0.1, total=27), paused(1, 1, 0.3, total=27)]
    chosen = promotion(record(*long, paused(2, 1, 0.2)), ASHA, "max", closing=False)
    assert chosen is not None and chosen.number == 1
    assert next_target(chosen, record(*long), ASHA) == 3


def test_at_the_end_the_best_of_the_highest_rung_goes_on_once() -> None:
    two = [paused(0, 1, 0.1), paused(1, 1, 0.3)]
    chosen = promotion(record(*two), ASHA, "max", closing=True)
    assert chosen is not None and chosen.number == 1
    done = trial(1, state="done", update=9, value=0.3, values={1: 0.3, 3: 0.3, 9: 0.3})
    assert promotion(record(two[0], done), ASHA, "max", closing=True) is None


def test_replicates_are_judged_by_their_mean_and_go_on_together() -> None:
    def pair(number: int, first: float, second: float, **last: Any) -> TrialRecord:
        runs = [{"state": "paused", "update": 1, "values": {1: value}} for value in (first, second)]
        runs[1] |= last
        return trial(number, *runs)

    trials = [pair(0, 0.9, 0.1), pair(1, 0.6, 0.6), pair(2, 0.2, 0.2)]
    chosen = promotion(record(*trials), ASHA, "max", closing=False)
    assert chosen is not None and chosen.number == 1
    waits = pair(1, 0.6, 0.6, state="waiting", update=0, values={})
    assert promotion(record(trials[0], waits, trials[2]), ASHA, "max", closing=False) is None


def test_a_trial_that_repeats_another_is_not_counted_twice() -> None:
    trials = [paused(0, 1, 0.1), paused(1, 1, 0.3), paused(2, 1, 0.3, same_as=10)]
    assert promotion(record(*trials), ASHA, "max", closing=False) is None


def test_a_run_that_ended_by_itself_counts_at_every_rung() -> None:
    early = trial(0, state="done", update=2, value=0.5, values={1: 0.4, 2: 0.5})
    others = [paused(1, 3, 0.1), paused(2, 3, 0.6)]
    chosen = promotion(record(early, *others), ASHA, "max", closing=False)
    assert chosen is not None and chosen.number == 2
    assert value_at(early, 3) == 0.5 and value_at(early, 1) == 0.4


def test_the_first_rung_where_the_length_is_not_known() -> None:
    unknown = trial(0, total=None)
    assert first_target(unknown, record(unknown), ASHA) == 1
    assert first_target(unknown, record(unknown), Sweep()) is None
    assert first_target(unknown, record(unknown, trial(1, total=1)), ASHA) is None


def test_brackets_have_the_shares_of_hyperband() -> None:
    shares = Counter(bracket_of(number, 4, 3) for number in range(1000))
    whole = 27 / 4 + 9 / 3 + 3 / 2 + 1
    assert [shares[bracket] for bracket in range(4)] == pytest.approx(
        [1000 * share / whole for share in (27 / 4, 9 / 3, 3 / 2, 1)], abs=2
    )
    assert [bracket_of(number, 4, 3) for number in range(5)].count(0) == 3


def test_hyperband_begins_higher_in_its_brackets() -> None:
    settings = Sweep.model_validate({"pruner": "hyperband", "pruning": {"first": 1, "factor": 3}})
    trials = [trial(number) for number in range(30)]
    found = Counter(tuple(ladder(each, record(*trials), settings)) for each in trials)
    assert found.most_common() == [((1, 3), 16), ((3,), 8), ((), 6)]
    strayed = trial(next(n for n in range(30) if bracket_of(n, 3, 3) == 1), state="paused", update=1, values={1: 0.1})
    trials[strayed.number] = strayed  # begun before its length was known
    chosen = promotion(record(*trials), settings, "max", closing=False)
    assert chosen is strayed and next_target(strayed, record(*trials), settings) == 3


def _running(number: int, values: dict[int, float], **changes: Any) -> TrialRecord:
    return trial(number, **{"state": "running", "update": max(values, default=0), "values": values, **changes})


def test_the_median_rule() -> None:
    others = [_running(number, {1: 0.1 * number, 2: 0.1 * number}) for number in (1, 2, 3)]
    assert hopeless(record(_running(0, {1: 0.19}), *others), 0, MEDIAN, "max") == (
        "pruned at update 1: 0.19 is worse than the median 0.2 of 3 other trials"
    )
    assert hopeless(record(_running(0, {1: 0.2}), *others), 0, MEDIAN, "max") is None
    assert hopeless(record(_running(0, {1: 0.21}), *others), 0, MEDIAN, "min") is not None
    assert hopeless(record(_running(0, {1: 0.25, 2: 0.0}), *others), 0, MEDIAN, "max") is None  # its best counts
    assert hopeless(record(_running(0, {1: math.nan}), *others), 0, MEDIAN, "max") is not None
    assert hopeless(record(_running(0, {1: 0.0}), *others[:2]), 0, MEDIAN, "max") is None  # too few others
    assert hopeless(record(_running(0, {3: 0.0}), *others), 0, MEDIAN, "max") is None  # that have come so far
    assert hopeless(record(_running(0, {1: 0.0}), *others), 0, Sweep(), "max") is None


def test_the_median_of_few_numbers_among_others() -> None:
    others = [_running(1, {1: math.nan}), _running(2, {1: 0.3}), _running(3, {1: math.nan})]
    assert hopeless(record(_running(0, {1: 0.1}), *others), 0, MEDIAN, "max") is None
    others.append(_running(4, {1: 0.5}))
    others.append(_running(5, {1: 0.4}))
    assert hopeless(record(_running(0, {1: 0.2}), *others), 0, MEDIAN, "max") is not None


def test_the_median_rule_waits_for_all_replicates() -> None:
    others = [_running(number, {1: 0.5}) for number in (1, 2, 3)]
    half = trial(0, {"state": "running", "update": 1, "values": {1: 0.1}}, {})
    whole = trial(0, *({"state": "running", "update": 1, "values": {1: value}} for value in (0.1, 0.2)))
    assert hopeless(record(half, *others), 0, MEDIAN, "max") is None
    assert "0.15 is worse" in (hopeless(record(whole, *others), 0, MEDIAN, "max") or "")


def _simulated(
    settings: Sweep, place: Callable[[int, int], float], n_seeds: int, workers: int, chance: random.Random
) -> SweepRecord:
    """Return a sweep of 27 trials of 27 updates, each with a value by its number and the update."""
    trials = list[TrialRecord]()

    def put(run: RunRecord) -> None:
        runs = [run if each.number == run.number else each for each in trials[run.trial].runs]
        trials[run.trial] = replace(trials[run.trial], runs=runs)

    for _ in range(2000):
        now = record(*trials)
        running = [run for run in now.runs if run.state == "running"]
        # a worker asks only when it has a place free
        choice = choose(now, settings, "max", Facts(more=len(trials) < 27)) if len(running) < workers else Wait()
        if isinstance(choice, Done):
            return now
        if isinstance(choice, New):
            trials.append(trial(len(trials), *({} for _ in range(n_seeds)), total=27 if trials else None))
        elif isinstance(choice, Promote):
            for run in trials[choice.trial].runs:
                put(replace(run, state="waiting", target=choice.target))
        elif isinstance(choice, Start):
            run = next(run for run in now.runs if run.number == choice.run)
            assert run.state == "waiting" and (choice.target is None or run.update < choice.target)
            put(replace(run, state="running", target=choice.target))
        else:
            run = chance.choice(running)
            update = run.target or 27
            values = {**run.values, update: place(run.trial, update)}
            state = "done" if update == 27 else "paused"
            put(replace(run, state=state, update=update, total=27, values=values, value=values[update]))
    pytest.fail("the sweep does not end")


@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
@pytest.mark.parametrize("n_seeds", [1, 2])
@pytest.mark.parametrize("workers", [1, 4])
def test_a_simulated_sweep_ends_with_its_best_trained_to_the_end(pruner: str, n_seeds: int, workers: int) -> None:
    settings = Sweep.model_validate({"pruner": pruner, "pruning": {"first": 1, "factor": 3}})
    chance, order = random.Random(f"{pruner} {n_seeds} {workers}"), list(range(27))
    chance.shuffle(order)
    now = _simulated(settings, lambda number, _: order[number], n_seeds, workers, chance)
    assert len(now.trials) == 27 and {run.state for run in now.runs} == {"done", "paused"}
    assert all(len({run.update for run in each.runs}) == 1 for each in now.trials)
    if pruner == "asha":
        assert now.trials[order.index(26)].state == "done"
        assert sum(run.update for run in now.runs) < 27 * 27 * n_seeds * 0.35
    assert sum(each.state == "done" for each in now.trials) >= 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("n_seeds", [1, 2])
def test_in_step_the_best_go_on_whatever_came_first(workers: int, n_seeds: int, seed: int) -> None:
    """Every update has an order of its own: who is among the best so far is not who is among the best of all."""
    settings = Sweep.model_validate({"pruner": "asha", "pruning": {"first": 1, "factor": 3, "gather": 27}})
    orders = {update: random.Random(100 * seed + update).sample(range(27), 27) for update in (1, 3, 9, 27)}
    now = _simulated(settings, lambda number, update: orders[update][number], n_seeds, workers, random.Random(workers))
    expected, left = dict.fromkeys(range(27), 1), list(range(27))
    for update, after, count in ((1, 3, 9), (3, 9, 3), (9, 27, 1)):
        left = sorted(left, key=lambda number: -orders[update][number])[:count]
        expected.update(dict.fromkeys(left, after))
    assert {each.number: each.runs[0].update for each in now.trials} == expected
