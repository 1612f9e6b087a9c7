"""Which ranges decide whether a configuration is among the best: PED-ANOVA, held against what chance alone gives.

Shares sum to 1 also where no setting matters at all, and with few configurations the noise is large. So the values are
dealt out to the configurations at random a number of times, and a share counts only above what is usual there.

Sources: Watanabe, Bansal and Hutter, PED-ANOVA (IJCAI 2023), as optuna computes it with its extension to conditional
ranges; the permutation test is Fisher's.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quincunx.sweep.records import SweepRecord
from quincunx.sweep.report.results import Goal, Results
from quincunx.sweep.report.values import RangeFact

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

LEAST = 10
"""Configurations below which nothing is said."""
WORK = 20_000
"""Configurations times shuffles: what is spent on the level of chance."""


@dataclass(frozen=True)
class Importance:
    """How much each range sets the best configurations apart."""

    shares: Mapping[str, float]
    """Range -> its part of the whole, from the largest on; they sum to 1."""
    chance: Mapping[str, float]
    """Range -> the share that chance alone exceeds about one time in 20."""
    configurations: int
    target: int
    """Configurations that count as the best."""
    shuffles: int

    def matters(self, name: str) -> bool:
        """Tell whether a range's share is above the level of chance."""
        return self.shares[name] > self.chance[name]


def importance(record: SweepRecord, results: Results, ranges: Sequence[RangeFact]) -> Importance | str:
    """Return the importance of a sweep's ranges over its ranked configurations, or the reason why there is none.

    The best are the tenth of all, but at least five, of which PED-ANOVA's density estimates need that many.
    """
    values = {row.trial: row.value for row in results.distinct if row.value is not None}
    points = {trial.number: trial.point for trial in record.trials if trial.number in values}
    if len(values) < LEAST:
        return (
            f"Importance is told from {LEAST} configurations that were trained to their end; there are {len(values)}."
        )
    if len(set(values.values())) == 1:
        return "Every configuration has the same value: no setting is more important than another."
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError:
        return "Importance needs the package optuna: pip install 'quincunx[sweep]'."
    found = {
        each.name: _distribution(each, [p[each.name] for p in points.values() if each.name in p]) for each in ranges
    }
    found = {name: distribution for name, distribution in found.items() if distribution is not None}
    if not found:
        return "No range has two values among the configurations that were trained to their end."
    target = max(math.ceil(0.1 * len(values)), 5)
    ordered = [(points[number], value) for number, value in values.items()]
    if _chosen([value for _, value in ordered], target, results.goal) == len(ordered):
        return "Too many configurations share the best value for some to be told apart as the best."
    return _computed(ordered, found, target, results.goal)


def _computed(
    ordered: Sequence[tuple[Mapping[str, Any], float]],
    distributions: Mapping[str, BaseDistribution],
    target: int,
    goal: Goal,
) -> Importance | str:
    """Return the importance; `ordered` holds point and value of each configuration."""
    losses = [-value if goal == "max" else value for _, value in ordered]
    with _quiet():
        study = _study([point for point, _ in ordered], losses, distributions)
        real = _divergences(study, losses, target)
        whole = sum(real.values())
        if not whole > 0:
            return "The best configurations have the same settings as all others: none is more important than another."
        shuffles = next((count for count in (99, 39) if count * len(losses) <= WORK), 19)
        generator = random.Random(0)
        chance: list[Mapping[str, float]] = []
        for _ in range(shuffles):
            generator.shuffle(losses)
            chance.append(_divergences(study, losses, target))
    shares = {name: real[name] / whole for name in sorted(real, key=lambda name: (-real[name], name))}
    # of 99 shuffles the fifth largest: with the one observed these are 100, of which 5 are larger than it
    place = (shuffles + 1) // 20
    levels = {name: sorted((one[name] for one in chance), reverse=True)[place - 1] / whole for name in shares}
    return Importance(shares, levels, len(ordered), target, shuffles)


def _divergences(study: Study, losses: Sequence[float], target: int) -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    evaluator = PedAnovaImportanceEvaluator(target_quantile=(target - 0.5) / len(losses))  # rounded up to the target
    found = get_param_importances(
        study, evaluator=evaluator, target=lambda trial: losses[trial.number], normalize=False
    )
    return {name: float(value) for name, value in found.items()}


def _study(
    points: Sequence[Mapping[str, Any]], losses: Sequence[float], distributions: Mapping[str, BaseDistribution]
) -> Study:
    """Return a study in memory with these configurations."""
    import optuna

    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={name: point[name] for name in distributions if name in point},
                distributions={name: distributions[name] for name in distributions if name in point},
                value=loss,
            )
            for point, loss in zip(points, losses, strict=True)
        ]
    )
    return study


def _distribution(fact: RangeFact, found: Sequence[Any]) -> BaseDistribution | None:
    """Return how a range spreads, by what was found of it; None where it has fewer than two values."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    different = sorted(set(found))
    if len(different) < 2:
        return None
    if fact.log is None:
        return CategoricalDistribution(different)
    low, high = different[0], different[-1]
    log = fact.log and low > 0
    if all(isinstance(value, int) for value in different):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _chosen(values: Sequence[float], target: int, goal: Goal) -> int:
    """Return how many values are at least as good as the last of the best: more than these where several share it."""
    ordered = sorted(values, reverse=goal == "max")
    return sum(value >= ordered[target - 1] if goal == "max" else value <= ordered[target - 1] for value in values)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep optuna from telling the terminal about a study of which nobody has heard."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
