"""Adaptive samplers over real Optuna studies, in memory and in SQLite: reproducible, resumable, better than chance."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial, TrialState

from quincunx.errors import MissingExtra, UsageError
from quincunx.sweep.choosing.adaptive import (
    PROPOSAL,
    STARTUP,
    Adaptive,
    distribution_of,
    labels,
    notes_of,
    sampler_of,
    store,
)
from quincunx.sweep.choosing.sampling import point_of
from quincunx.sweep.choosing.space import Condition, Exclusion, Listed, Point, Space, Span


def listed(name: str, *values: Any, when: tuple[Condition, ...] = ()) -> Listed:
    return Listed(name, (name,), tuple((value,) for value in values), when)


SPACE = Space(
    (
        Span("lr", 1e-5, 1e-1, log=True),
        listed("optimizer", "sgd", "adam", "lion"),
        Span("beta", 0.5, 1.0, step=0.05, when=(Condition("optimizer", ("adam",)),)),
        Span("layers", 1, 12, whole=True),
        Listed("shape", ("width", "heads"), ((32, 2), (64, [4]))),
    )
)
SPANS = Space((Span("lr", 1e-5, 1e-1, log=True), Span("drop", 0.0, 0.9, n=10), Span("layers", 1, 12, whole=True)))


def loss(settings: dict[str, Any]) -> float:
    """Best at lr 1e-3, 6 layers, adam with beta 0.9, width 64."""
    value = (math.log10(settings["lr"]) + 3) ** 2 + (settings["layers"] - 6) ** 2 / 10
    value += {"sgd": 1.0, "adam": 0.0, "lion": 0.5, None: 0.0}[settings.get("optimizer")]
    value += 10 * (settings.get("beta", 0.9) - 0.9) ** 2 + (settings.get("width", 64) == 32) * 0.3
    return value + settings.get("drop", 0.0)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Warnings of Optuna are errors: whatever we ask of it, it should find in order."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    optuna.logging.set_verbosity(before)


STUDIES = [("memory", "tpe", SPACE), ("sqlite", "tpe", SPACE), ("memory", "gp", SPACE), ("sqlite", "cmaes", SPANS)]


@pytest.fixture(params=["memory", "sqlite"])
def new_study(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., optuna.Study]:
    storage = None if request.param == "memory" else f"sqlite:///{tmp_path / 'sweep.db'}"
    return lambda name="study", **options: optuna.create_study(study_name=name, storage=storage, **options)


def run(
    study: optuna.Study, kind: str, space: Space, trials: int, seed: int = 0, sign: float = 1.0
) -> list[dict[str, Any]]:
    """Propose and tell so many trials."""
    found = []
    for _ in range(trials):
        trial = study.ask()
        settings = space.settings(Adaptive(kind, seed).propose(study, trial, space))
        study.tell(trial, sign * loss(settings))
        found.append(settings)
    return found


@pytest.mark.parametrize(("new_study", "kind", "space"), STUDIES, indirect=["new_study"])
def test_proposals_depend_on_seed_number_and_history_alone(
    kind: str, space: Space, new_study: Callable[..., optuna.Study]
) -> None:
    study = new_study("first")
    first = run(study, kind, space, STARTUP + 3)
    again = run(new_study("again"), kind, space, STARTUP + 3)
    other = run(new_study("other"), kind, space, 2, seed=1)
    assert first == again
    assert other != first[:2]
    for trial, settings in zip(study.trials, first, strict=True):
        point = trial.user_attrs[PROPOSAL]["point"]
        assert space.settings(point) == settings
        assert set(trial.params) == set(point)
        assert trial.params["lr"] == settings["lr"]
        assert trial.params["layers"] == settings["layers"]
        if space is SPACE:
            assert trial.params["optimizer"] == settings["optimizer"]
            assert ("beta" in trial.params) == (settings["optimizer"] == "adam")
            assert trial.params["shape"] == labels(SPACE.ranges[4])[point["shape"]]  # type: ignore[arg-type]


def test_until_enough_trials_finished_points_are_random() -> None:
    study = optuna.create_study()
    found = run(study, "tpe", SPACE, STARTUP + 1)
    drawn = [SPACE.settings(point_of(SPACE, "random", 0, number)) for number in range(STARTUP + 1)]
    assert found[:STARTUP] == drawn[:STARTUP]
    assert found[STARTUP] != drawn[STARTUP]


@pytest.mark.parametrize(("kind", "space", "trials"), [("tpe", SPACE, 50), ("gp", SPANS, 18), ("cmaes", SPANS, 60)])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_what_is_learnt_is_better_than_chance(kind: str, space: Space, trials: int, direction: str) -> None:
    sign = 1.0 if direction == "minimize" else -1.0
    tail = trials // 3
    for seed in range(2):
        study = optuna.create_study(direction=direction)
        learnt = [loss(settings) for settings in run(study, kind, space, trials, seed, sign)]
        drawn = [loss(space.settings(point_of(space, "random", seed, number))) for number in range(trials)]
        assert median(learnt[-tail:]) < 0.5 * median(drawn[-tail:])


@pytest.mark.parametrize("kind", ["tpe", "gp", "cmaes"])
def test_positions_are_what_the_ranges_allow(kind: str) -> None:
    stepped = Space(
        (
            Span("lr", 1e-4, 1e-1, log=True, n=4),
            Span("drop", 0.0, 1.0, step=0.3),
            Span("layers", 2, 13, step=5, whole=True),
            Span("width", 16, 256, log=True, n=5, whole=True),
            listed("flag", 1, True, 1.0, None),
            listed("odd", [1], "[1]", {"a": 1}, when=(Condition("flag", (True,)),)),
            listed("same", 5, 5),
            listed("one", "only"),
        )
    )
    study = optuna.create_study()
    for _ in range(STARTUP + 12):
        trial = study.ask()
        settings = stepped.settings(Adaptive(kind, 3).propose(study, trial, stepped))
        assert settings["lr"] in (1e-4, 1e-3, 1e-2, 1e-1)
        assert settings["drop"] in (0.0, 0.3, 0.6, 0.9)
        assert settings["layers"] in (2, 7, 12)
        assert settings["width"] in (16, 32, 64, 128, 256)
        assert isinstance(settings["width"], int)
        assert ("odd" in settings) == (settings["flag"] is True)
        study.tell(trial, settings["drop"] + settings["layers"])
    flags = [(trial.user_attrs[PROPOSAL]["point"]["flag"], trial.params["flag"]) for trial in study.trials]
    assert set(flags) <= set(enumerate(["1", "true", "1.0", "null"]))
    assert len(set(flags)) >= 3


@pytest.mark.parametrize(("new_study", "kind", "space"), STUDIES, indirect=["new_study"])
def test_a_proposal_that_was_cut_short_is_completed_as_it_was_decided(
    kind: str, space: Space, new_study: Callable[..., optuna.Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(new_study("undisturbed"), kind, space, STARTUP + 3)
    study = new_study()
    run(study, kind, space, STARTUP + 2)
    trial = study.ask()
    write = trial.storage.set_trial_param
    written: list[str] = []

    def killed(trial_id: int, name: str, *rest: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(name)
        write(trial_id, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(trial.storage, "set_trial_param", killed)
        with pytest.raises(KeyboardInterrupt):
            Adaptive(kind, 0).propose(study, trial, space)
    half = study.trials[-1]
    assert list(half.params) == written
    # Meanwhile the history has gone on, which would have changed what is proposed.
    other = study.ask()
    Adaptive(kind, 0).propose(study, other, space)
    study.tell(other, 0.0)
    point = Adaptive(kind, 0).propose(study, Trial(study, half._trial_id), space)
    assert space.settings(point) == undisturbed[-1]
    assert set(study.trials[half.number].params) == set(point)
    assert Adaptive(kind, 0).propose(study, Trial(study, half._trial_id), space) == point
    study.tell(half.number, 1.0)
    assert study.trials[half.number].state == TrialState.COMPLETE


@pytest.mark.parametrize("kind", ["tpe", "gp", "cmaes"])
def test_what_is_excluded_is_never_proposed(kind: str) -> None:
    # The best part is left out, so that every sampler wants to go there.
    space = Space(SPANS.ranges, (Exclusion((("layers", (5, 6, 7)),)), Exclusion((("drop", (0.0, 0.1)),))))
    found = run(optuna.create_study(), kind, space, 30 if kind != "gp" else STARTUP + 4)
    assert all(settings["layers"] not in (5, 6, 7) and settings["drop"] not in (0.0, 0.1) for settings in found)


@pytest.mark.parametrize("kind", ["tpe", "gp", "cmaes"])
def test_excluding_everything_names_the_setting(kind: str) -> None:
    space = Space((*SPANS.ranges, listed("a", 1)), (Exclusion((("a", (1,)),)),))
    study = optuna.create_study()
    with pytest.raises(UsageError, match=r"sweep\.exclude"):
        Adaptive(kind, 0).propose(study, study.ask(), space)


@pytest.mark.parametrize(("kind", "space"), [("tpe", SPACE), ("gp", SPACE), ("cmaes", SPANS)])
def test_parallel_proposals_differ(kind: str, space: Space) -> None:
    study = optuna.create_study()
    run(study, kind, space, STARTUP)
    asked = [study.ask() for _ in range(4)]
    points = [Adaptive(kind, 0).propose(study, trial, space) for trial in asked]
    assert len({repr(point) for point in points}) == 4


def test_cmaes_counts_pruned_trials_as_worse_and_failed_ones_not_at_all() -> None:
    def next_point(ending: Callable[[optuna.Study, Trial], None]) -> tuple[Point, int]:
        study = optuna.create_study()
        asked = [study.ask() for _ in range(7)]  # the population of three spans
        settings = [SPANS.settings(Adaptive("cmaes", 0).propose(study, trial, SPANS)) for trial in asked]
        for trial, own in zip(asked[:6], settings, strict=False):
            study.tell(trial, loss(own))
        ending(study, asked[6])
        last = study.ask()
        point = Adaptive("cmaes", 0).propose(study, last, SPANS)
        return point, study.trials[last.number].user_attrs[PROPOSAL]["generation"]

    def pruned(study: optuna.Study, trial: Trial) -> None:
        trial.report(-1e9, 10)
        study.tell(trial, state=TrialState.PRUNED)

    worst, generation = next_point(lambda study, trial: study.tell(trial, 1e9) and None)
    assert generation == 1
    assert next_point(pruned) == (worst, 1)
    assert next_point(lambda study, trial: study.tell(trial, -1e9) and None)[0] != worst
    assert next_point(lambda study, trial: study.tell(trial, state=TrialState.FAIL) and None)[1] == 0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_cmaes_ranks_a_pruned_trial_without_values_last(sign: float) -> None:
    def next_point(reported: float | None) -> Point:
        study = optuna.create_study(direction="minimize" if sign > 0 else "maximize")
        asked = [study.ask() for _ in range(7)]
        for trial in asked:
            Adaptive("cmaes", 0).propose(study, trial, SPANS)
        for trial in asked[:4]:
            study.tell(trial, sign * trial.number)
        for trial, value in zip(asked[4:], (2.0, 3.0, reported), strict=True):
            if value is not None:
                trial.report(sign * value, 0)
            study.tell(trial, state=TrialState.PRUNED)
        return Adaptive("cmaes", 0).propose(study, study.ask(), SPANS)

    assert next_point(None) == next_point(1e9)
    assert next_point(None) != next_point(-1e9)


def test_cmaes_needs_a_span_and_says_what_it_draws() -> None:
    with pytest.raises(UsageError, match=r"none of a is one: take sweep\.sampler=tpe"):
        notes_of("cmaes", Space((listed("a", 1, 2),)))
    with pytest.raises(UsageError, match="cmaes searches spans"):
        study = optuna.create_study()
        Adaptive("cmaes", 0).propose(study, study.ask(), Space((listed("a", 1, 2),)))
    (note,) = notes_of("cmaes", SPACE)
    assert note.startswith("sweep.sampler=cmaes draws optimizer, beta, shape at random")
    (note,) = notes_of("gp", SPACE)
    assert note.startswith("sweep.sampler=gp draws beta at random")
    assert notes_of("tpe", SPACE) == notes_of("cmaes", SPANS) == notes_of("random", SPACE) == []


def test_what_cmaes_does_not_search_is_drawn_evenly() -> None:
    found = run(optuna.create_study(), "cmaes", SPACE, 120)
    counts = [sum(settings["optimizer"] == word for settings in found) for word in ("sgd", "adam", "lion")]
    assert all(abs(count - 40) < 23 for count in counts)


def test_points_by_number_are_stored_as_parameters(new_study: Callable[..., optuna.Study]) -> None:
    study = new_study()
    for number in range(12):
        trial = study.ask()
        point = point_of(SPACE, "qmc", 0, number)
        store(trial, SPACE, point)
        store(trial, SPACE, point)
        settings = SPACE.settings(point)
        params = study.trials[number].params
        assert list(params) == list(point)
        assert {name: params[name] for name in point if name != "shape"} == {
            name: settings[name] for name in point if name != "shape"
        }


def test_a_list_that_grew_is_left_out_of_the_parameters(new_study: Callable[..., optuna.Study]) -> None:
    study = new_study()
    store(study.ask(), Space((listed("a", 1, 2), Span("x", 0.0, 1.0))), {"a": 1, "x": 0.5})
    store(study.ask(), Space((listed("a", 1, 2, 3), Span("x", 0.0, 2.0))), {"a": 2, "x": 1.5})
    assert [trial.params for trial in study.trials] == [{"a": 2, "x": 0.5}, {"x": 1.5}]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (Span("x", 0.0, 1.0, step=0.3), FloatDistribution(0.0, 0.9, step=0.3)),
        (Span("x", 1e-5, 0.1, log=True), FloatDistribution(1e-5, 0.1, log=True)),
        (Span("x", 1e-5, 0.1, log=True, n=3), FloatDistribution(1e-5, 0.1, log=True)),
        (Span("x", 1, 10, step=4, whole=True), IntDistribution(1, 9, step=4)),
        (Span("x", 1, 64, log=True, whole=True), IntDistribution(1, 64, log=True)),
        (listed("x", "a", None, 1, 2.5, False), CategoricalDistribution(("a", None, 1, 2.5, False))),
        (listed("x", 1, True), CategoricalDistribution(("1", "true"))),
        (listed("x", 1, "1", [1]), CategoricalDistribution(("1", '"1"', "[1]"))),
        (listed("x", 2, 2), CategoricalDistribution(("2 (0)", "2 (1)"))),
        (Listed("x", ("a", "b"), ((1, "u"),)), CategoricalDistribution(('{"a": 1, "b": "u"}',))),
    ],
)
def test_ranges_as_distributions(one: Listed | Span, expected: Any) -> None:
    assert distribution_of(one) == expected


def test_missing_packages_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no sampler 'grid' learns"):
        Adaptive("grid", 0)
    monkeypatch.setitem(sys.modules, "cmaes", None)
    study = optuna.create_study()
    with pytest.raises(MissingExtra, match=r"sweep\.sampler=cmaes needs the package cmaes.*quincunx\[sweep\]"):
        Adaptive("cmaes", 0).propose(study, study.ask(), SPANS)
    monkeypatch.setattr("quincunx.sweep.choosing.adaptive.find_spec", lambda name: None if name == "scipy" else True)
    with pytest.raises(MissingExtra, match=r"sweep\.sampler=gp needs the package scipy"):
        sampler_of("gp", 0, 0)
