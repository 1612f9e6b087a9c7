"""Which ranges matter: found where one does, silent where none does, absent where nothing can be told."""

from __future__ import annotations

import random
import sys

import optuna
import pytest

from quincunx.sweep.records import SweepRecord, TrialRecord
from quincunx.sweep.report import RangeFact
from quincunx.sweep.report.importance import Importance, importance
from quincunx.sweep.report.results import table
from sweep_results_made import sweep, trial

RANGES = (
    RangeFact("lr", ("lr",), True),
    RangeFact("kind", ("kind",)),
    RangeFact("depth", ("depth",), False),
    RangeFact("extra", ("extra",)),
)


def searched(count: int, weight: float, seed: int = 0) -> SweepRecord:
    """Return a random search whose value is noise, and as much as `weight` says the learning rate's doing."""
    generator = random.Random(seed)
    trials: list[TrialRecord] = []
    for number in range(count):
        exponent = generator.uniform(-5, -2)
        point = {"lr": 10**exponent, "kind": generator.randrange(3), "depth": generator.randint(1, 6)}
        if point["kind"] == 2:
            point["extra"] = generator.randrange(2)
        trials.append(trial(number, [generator.gauss(0, 0.1) - weight * (exponent + 3) ** 2], point))
    return SweepRecord(trials)


def of(record: SweepRecord) -> Importance | str:
    return importance(record, table(record, "max"), RANGES)


def test_what_matters_comes_first_and_above_chance() -> None:
    found = of(searched(60, 1.0))
    assert isinstance(found, Importance)
    assert next(iter(found.shares)) == "lr" and found.matters("lr")
    assert sum(found.shares.values()) == pytest.approx(1)
    assert set(found.shares) == set(found.chance) == {"lr", "kind", "depth", "extra"}
    assert (found.configurations, found.target, found.shuffles) == (60, 6, 99)


def test_shares_are_optunas() -> None:
    record = searched(60, 1.0)
    study = optuna.create_study(direction="maximize")
    floats, kinds = optuna.distributions.FloatDistribution, optuna.distributions.CategoricalDistribution
    rates = [each.point["lr"] for each in record.trials]
    known = {
        "lr": floats(min(rates), max(rates), log=True),
        "kind": kinds([0, 1, 2]),
        "depth": optuna.distributions.IntDistribution(1, 6),
        "extra": kinds([0, 1]),
    }
    for each in record.trials:
        study.add_trial(
            optuna.create_trial(
                params=dict(each.point), distributions={name: known[name] for name in each.point}, value=each.value
            )
        )
    wanted = optuna.importance.get_param_importances(study)  # of its own accord the best tenth, here 6 of 60
    found = of(record)
    assert isinstance(found, Importance)
    assert dict(found.shares) == pytest.approx(wanted)


def test_a_goal_that_shrinks_looks_at_the_other_end() -> None:
    record = searched(60, 1.0)
    worst = importance(record, table(record, "min"), RANGES)
    best = of(record)
    assert isinstance(worst, Importance) and isinstance(best, Importance)
    assert dict(worst.shares) != pytest.approx(dict(best.shares))


def test_noise_is_seldom_above_chance() -> None:
    found = [of(searched(24, 0.0, seed)) for seed in range(8)]
    above = [each.matters(name) for each in found if isinstance(each, Importance) for name in each.shares]
    assert len(above) == 32
    assert sum(above) <= 5, "one in 20 is expected, 1.6 of 32; more than 5 have a chance below 1 %"


def test_it_is_a_function_of_the_record() -> None:
    assert of(searched(20, 0.3)) == of(searched(20, 0.3))


def test_nothing_is_said_where_nothing_can_be() -> None:
    assert "there are 9" in str(of(searched(9, 1.0)))
    assert isinstance(of(searched(10, 1.0)), Importance)
    same = sweep(*(trial(number, [0.5], {"lr": 0.1 * (number + 1)}) for number in range(12)))
    assert "same value" in str(of(same))
    fixed = sweep(*(trial(number, [0.1 * number], {"kind": 1}) for number in range(12)))
    assert "No range" in str(of(fixed))
    shared = sweep(*(trial(number, [1.0 if number else 0.5], {"kind": number % 2}) for number in range(12)))
    assert isinstance(of(shared), str) or len(set(of(shared).shares)) == 1  # type: ignore[union-attr]
    tied = sweep(*(trial(number, [0.5 if number == 3 else 0.4], {"kind": number % 2}) for number in range(12)))
    assert "Too many" in str(of(tied))


def test_optuna_keeps_its_voice(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    of(searched(12, 1.0))
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


def test_without_optuna_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "quincunx[sweep]" in str(of(searched(12, 1.0)))
