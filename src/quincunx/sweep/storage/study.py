"""The part of a sweep's storage that is Optuna's: each trial with its parameters, state and value, for its samplers and
its dashboard.

What Optuna cannot do (it refuses to touch a trial that has ended, so none can be promoted after it was paused, and it
makes a trial in as many steps as it has parameters) is got round by a study in memory: it is made from our records
before every choice, proposes there, and what it proposed is written to the storage as one whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quincunx.sweep.records import RunRecord, TrialRecord

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState

    from quincunx.sweep.choosing.space import Point, Space

DIVERGED = "NonFiniteError"
"""What the reason of a run begins with whose training diverged."""


def open_study(storage: RDBStorage, name: str, goal: str, *, make: bool, alone: bool = False) -> int | None:
    """Return the id of a study, made where it is missing (None if it is not to be made).

    Args:
        storage: Optuna's.
        name: Of the study.
        goal: `max` or `min`.
        make: Make it where it is missing.
        alone: The storage has room for one, which is the one whatever its name.
    """
    from optuna.exceptions import DuplicatedStudyError

    if alone and len(there := storage.get_all_studies()) == 1:
        return there[0]._study_id
    try:
        return storage.get_study_id_from_name(name)
    except KeyError:
        if not make:
            return None
    try:
        return storage.create_new_study([_direction(goal)], name)
    except DuplicatedStudyError:  # somebody else's tool was faster: all of ours are under the lock
        return storage.get_study_id_from_name(name)


def placed(space: Space, point: Point, known: Mapping[str, Any]) -> FrozenTrial:
    """Return a running trial at a point that was chosen already.

    Args:
        space: The sweep's ranges.
        point: The point.
        known: Parameter -> the distribution that earlier trials have it with; Optuna holds no other beside it (a list
            that grew since), so the trial is kept without that parameter.
    """
    from quincunx.sweep.choosing.adaptive import store

    study = _in_memory("min")
    trial = study.ask()
    store(trial, space, point)
    return _finished(study, space, point, known)


def proposed(
    space: Space,
    sampler: str,
    seed: int,
    goal: str,
    trials: Sequence[tuple[TrialRecord, FrozenTrial]],
    known: Mapping[str, Any],
) -> FrozenTrial:
    """Return a running trial that an adaptive sampler proposes after these.

    Args:
        space: The sweep's ranges.
        sampler: `tpe`, `gp` or `cmaes`.
        seed: Of the choice of configurations.
        goal: `max` or `min`.
        trials: All trials so far, by number: what is known of each now, and as what it was made.
        known: As in `placed`.
    """
    from quincunx.sweep.choosing.adaptive import Adaptive

    study = _in_memory(goal)
    for record, made in trials:
        study._storage.create_new_trial(study._study_id, _as_known(record, made, goal))
    trial = study.ask()
    point = Adaptive(sampler, seed).propose(study, trial, space)
    return _finished(study, space, point, known)


def told(trial: TrialRecord) -> tuple[TrialState, float | None, dict[int, float]]:
    """Return a trial's state, value and intermediate values in Optuna's words.

    Samplers leave failed trials out of account, as if nothing were known there. Training that diverged is no such
    failure: it says that the place is a bad one, which the state PRUNED without a value says as well.
    """
    from optuna.trial import TrialState

    runs, value = trial.runs, trial.value
    if trial.state == "done" and value is not None and math.isfinite(value):
        return TrialState.COMPLETE, value, {}
    if trial.state == "done":
        # all was measured, and none of it is a number; without any measurement nothing is known
        return (TrialState.FAIL if value is None else TrialState.PRUNED), None, {}
    if trial.state == "failed":
        diverged = any(run.reason.startswith(DIVERGED) for run in runs)
        return (TrialState.PRUNED if diverged else TrialState.FAIL), None, {}
    if runs and all(run.state in ("paused", "pruned", "done") for run in runs):
        return TrialState.PRUNED, None, common_values(runs)
    return TrialState.RUNNING, None, {}


def tell(storage: RDBStorage, trial_id: int, trial: TrialRecord) -> None:
    """Write a trial's end into the storage; one that has ended there already stays as it is."""
    from optuna.exceptions import UpdateFinishedTrialError

    state, value, steps = told(trial)
    try:
        for update, found in steps.items():
            storage.set_trial_intermediate_value(trial_id, update, found)
        storage.set_trial_state_values(trial_id, state, None if value is None else [value])
    except UpdateFinishedTrialError:  # told before, by one who was killed before he could remember it
        return


def common_values(runs: Sequence[RunRecord]) -> dict[int, float]:
    """Return the mean over the runs at the last update at which each of them has a value, where there is one."""
    shared = set.intersection(*(set(run.values) for run in runs)) if runs else set()
    if not shared:
        return {}
    last = max(shared)
    mean = sum(run.values[last] for run in runs) / len(runs)
    return {last: mean} if math.isfinite(mean) else {}


def _as_known(record: TrialRecord, made: FrozenTrial, goal: str) -> FrozenTrial:
    from optuna.trial import create_trial

    state, value, steps = told(record)
    return create_trial(
        state=state,
        value=value,
        params=made.params,
        distributions=made.distributions,
        user_attrs=made.user_attrs,  # where samplers keep what they have to know again
        intermediate_values=steps,
    )


def _finished(study: Study, space: Space, point: Point, known: Mapping[str, Any]) -> FrozenTrial:
    from optuna.distributions import check_distribution_compatibility
    from optuna.trial import TrialState, create_trial

    made = study.get_trials(deepcopy=False)[-1]
    fits: list[str] = []
    for name, distribution in made.distributions.items():
        try:
            check_distribution_compatibility(known.get(name, distribution), distribution)
        except ValueError:
            continue
        fits.append(name)
    return create_trial(
        state=TrialState.RUNNING,
        params={name: made.params[name] for name in fits},
        distributions={name: made.distributions[name] for name in fits},
        user_attrs={**made.user_attrs, "point": dict(point), "settings": space.settings(point)},
    )


def _in_memory(goal: str) -> Study:
    import optuna

    # the sampler is never asked
    sampler = optuna.samplers.RandomSampler(seed=0)
    return optuna.create_study(storage=optuna.storages.InMemoryStorage(), sampler=sampler, direction=_direction(goal))


def _direction(goal: str) -> Any:
    from optuna.study import StudyDirection

    return StudyDirection.MAXIMIZE if goal == "max" else StudyDirection.MINIMIZE
