"""Samplers that learn from the trials before: a proposal is decided whole, written down, and only then stored.

A proposal depends on the sweep's seed, the trial's number and the history alone. Since it is written down first, a
process that is killed while it stores one leaves nothing that the next could read differently. Optuna is imported when
a sweep runs, not before.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from quincunx.errors import MissingExtra
from quincunx.seeds import address
from quincunx.sweep.choosing.evolution import Tried, proposals, searched
from quincunx.sweep.choosing.sampling import draw, random_point
from quincunx.sweep.choosing.space import Listed, Point, Range, Space, canonical

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

PROPOSAL = "quincunx:proposal"
"""User attribute of a trial: the point that was decided, before its parameters are stored one by one."""

STARTUP = 10
"""Trials that have to be finished before `tpe` and `gp` learn from them; until then points are random."""

TRIES = {"tpe": 50, "gp": 2, "cmaes": 100}
"""Proposals that may be excluded before the point is drawn at random instead. Those of `gp` hardly differ."""


class Adaptive:
    """One of the adaptive samplers.

    Args:
        kind: `tpe` (multivariate, over groups of ranges that act together; trials that still run are taken for bad
            ones, so that parallel proposals differ), `gp` or `cmaes`.
        seed: Of the sweep.
    """

    def __init__(self, kind: str, seed: int) -> None:
        if kind not in TRIES:
            raise ValueError(f"no sampler {kind!r} learns from trials: {', '.join(TRIES)} do")
        self.kind = kind
        self.seed = seed

    def propose(self, study: Study, trial: Trial, space: Space) -> Point:
        """Decide a trial's point and store it in the trial; of a trial that has one already, return that.

        Args:
            study: With one direction. Its own sampler and pruner are not used.
            trial: A running trial of it: new, or left half-made by a process that was killed (`Trial(study, id)`).
            space: The ranges, the same for all trials of the study.

        Raises:
            UsageError: Exclusions leave next to nothing, or `cmaes` has nothing to search.
            MissingExtra: A package that the sampler needs is not installed.
        """
        from optuna import load_study

        # A study of its own: one that was opened earlier may remember an older history.
        fresh = load_study(study_name=study.study_name, storage=trial.storage)
        frozen = trial.storage.get_trial(trial._trial_id)
        decided = frozen.user_attrs.get(PROPOSAL) or self._decide(fresh, frozen, space)
        if PROPOSAL not in frozen.user_attrs:
            trial.set_user_attr(PROPOSAL, decided)
        store(trial, space, decided["point"])
        return decided["point"]

    def _decide(self, study: Study, trial: FrozenTrial, space: Space) -> dict[str, Any]:
        offered = self._evolved(study, trial, space) if self.kind == "cmaes" else self._suggested(study, trial, space)
        for positions, notes in offered:
            point = space.drop(positions)
            if not space.excluded(point):
                return {"point": point, **notes}
        return {"point": random_point(space, self.seed, trial.number)}

    def _suggested(
        self, study: Study, trial: FrozenTrial, space: Space
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Offer what an Optuna sampler proposes for ranges that it knows, and draws for the others."""
        from optuna.trial import TrialState

        learnt_from = (TrialState.COMPLETE, TrialState.PRUNED) if self.kind == "tpe" else (TrialState.COMPLETE,)
        if len(study.get_trials(deepcopy=False, states=learnt_from)) < STARTUP:
            return
        sampler = sampler_of(self.kind, self.seed, trial.number)
        known = sampler.infer_relative_search_space(study, trial)
        for attempt in range(TRIES[self.kind]):
            together = sampler.sample_relative(study, trial, known)
            positions: dict[str, Any] = {}
            for one in space.ranges:
                if one.name in together:
                    positions[one.name] = _position(one, together[one.name])
                elif self.kind == "tpe" and one.count != 1:
                    alone = sampler.sample_independent(study, trial, one.name, distribution_of(one))
                    positions[one.name] = _position(one, alone)
                else:
                    positions[one.name] = one.at(draw(one, self.seed, trial.number, attempt))
            yield positions, {}

    def _evolved(
        self, study: Study, trial: FrozenTrial, space: Space
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Offer what CMA-ES proposes."""
        tried = _tried(study, space)
        for positions, generation in proposals(space, self.seed, trial.number, tried, TRIES["cmaes"]):
            yield positions, {"generation": generation}


def notes_of(kind: str, space: Space) -> list[str]:
    """Return what a user should know of how a sampler treats these ranges, in sentences.

    Raises:
        UsageError: `cmaes` has nothing to search.
    """
    if kind == "cmaes":
        learnt = {span.name for span in searched(space)}
        drawn = [one.name for one in space.ranges if one.name not in learnt]
        what = "are not spans that always act"
    elif kind == "gp":
        drawn = [one.name for one in space.ranges if one.when]
        what = "act under a condition"
    else:
        return []
    if not drawn:
        return []
    return [f"sweep.sampler={kind} draws {', '.join(drawn)} at random, since they {what}; tpe learns about all ranges"]


def sampler_of(kind: str, seed: int, number: int) -> BaseSampler:
    """Return Optuna's sampler for one trial, seeded by the trial's number.

    Args:
        kind: `tpe` or `gp`; CMA-ES is our own (`evolution`).
        seed: Of the sweep.
        number: The trial's number.

    Raises:
        MissingExtra: Optuna, or what its Gaussian process needs, is not installed.
    """
    for package in ("optuna", "scipy", "torch") if kind == "gp" else ("optuna",):
        if find_spec(package) is None:
            raise MissingExtra(package, "sweep", f"sweep.sampler={kind}")
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import GPSampler, TPESampler

    own = address(seed, "sweep", kind, number) % 2**32
    if kind == "gp":
        return GPSampler(seed=own, n_startup_trials=STARTUP, warn_independent_sampling=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # `group`, experimental since Optuna 2.8
        return TPESampler(seed=own, n_startup_trials=STARTUP, multivariate=True, group=True, constant_liar=True)


def store(trial: Trial, space: Space, point: Point) -> None:
    """Write a point down as the trial's parameters, which Optuna's own tools show; what is there already stays.

    Lists whose values have changed since earlier trials (a grid that grew) are left out: a parameter of Optuna keeps
    its choices for ever.
    """
    there = trial.storage.get_trial(trial._trial_id).params
    for one in space.ranges:
        if one.name in point and one.name not in there:
            try:
                trial.storage.set_trial_param(trial._trial_id, one.name, point[one.name], distribution_of(one))
            except ValueError:
                if not isinstance(one, Listed):
                    raise


def distribution_of(one: Range) -> BaseDistribution:
    """Return a range as Optuna has it. Lists are categories; a span's points lie among its numbers."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(one, Listed):
        return CategoricalDistribution(labels(one))
    if one.whole:
        return IntDistribution(int(one.low), int(one.last), log=one.log, step=int(one.step or 1))
    return FloatDistribution(one.low, one.last, log=one.log, step=one.step)


def labels(one: Listed) -> list[Any]:
    """Return how the choices of a list are called: themselves where they are plain and differ, otherwise as JSON."""
    if len(one.keys) == 1:
        values = [row[0] for row in one.choices]
        if all(value is None or isinstance(value, bool | int | float | str) for value in values) and _differ(values):
            return values
        texts = [json.dumps(value, default=repr) for value in values]
    else:
        texts = [json.dumps(dict(zip(one.keys, row, strict=True)), default=repr) for row in one.choices]
    if _differ(texts):
        return texts
    return [f"{text} ({index})" for index, text in enumerate(texts)]


def _differ(values: list[Any]) -> bool:
    return len(set(values)) == len(values)  # by ==, as Optuna looks them up: 1 and True do not differ


def _position(one: Range, suggested: Any) -> Any:
    if isinstance(one, Listed):
        return [canonical(label) for label in labels(one)].index(canonical(suggested))
    return one.tidy(suggested)


def _tried(study: Study, space: Space) -> list[Tried]:
    """Return the finished trials that CMA-ES proposed; pruned ones rank behind the others, the longest-lived first."""
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
    spans = searched(space)
    found: list[Tried] = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        proposal = trial.user_attrs.get(PROPOSAL, {})
        if "generation" not in proposal:
            continue
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            loss = (0.0, sign * trial.value)
        else:
            last = max(trial.intermediate_values, default=0)
            value = trial.intermediate_values.get(last, math.nan)
            loss = (1.0, -float(last), math.inf if math.isnan(value) else sign * value)
        place = tuple(span.unit(proposal["point"][span.name]) for span in spans)
        found.append(Tried(trial.number, proposal["generation"], place, loss))
    return found
