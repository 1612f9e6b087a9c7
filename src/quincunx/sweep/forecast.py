"""What a sweep would run, without running it: its runs, and how large each is and how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from quincunx.config.document import ConfigError
from quincunx.sweep.choosing.sampling import point_of
from quincunx.sweep.choosing.space import Point, canonical
from quincunx.sweep.naming import folder_name
from quincunx.sweep.reading.spec import Spec
from quincunx.sweep.records import SweepRecord
from quincunx.sweep.settings import BY_NUMBER

MEASURED = 12
"""So many configurations are measured at most, spread evenly over all."""


@dataclass(frozen=True)
class Expected:
    """One run to come."""

    number: int
    folder: str
    settings: Mapping[str, Any]
    replicate: int
    parameters: int | None = None
    updates: int | None = None
    seconds: float | None = None
    """Of training, evaluations apart."""
    measured: bool = False
    """These are its own; otherwise those of the measured configuration that is most like it."""
    refused: str = ""
    """Why its config is none, so that it will be refused when its turn comes."""


@dataclass(frozen=True)
class Cost:
    """What one configuration takes."""

    parameters: int
    updates: int
    seconds: float | None


def to_come(spec: Spec, record: SweepRecord) -> list[Expected]:
    """Return the runs that have no trial yet, numbered as they will be; none for samplers that learn on the way.

    A sweep that ends by updates or hours alone has no end that could be told: none either.
    """
    seen = {canonical(dict(trial.settings)) for trial in record.trials}
    number = len(record.runs)
    found: list[Expected] = []
    for point in _points(spec, len(record.trials)):
        settings = spec.space.settings(point)
        if spec.sampler == "grid" and canonical(settings) in seen:
            continue
        refused = "" if spec.sampler == "grid" else _why_refused(spec, point)  # grids were read whole
        for replicate in range(spec.settings.n_seeds):
            folder = folder_name(spec.name, number, settings)
            found.append(Expected(number, folder, settings, replicate, refused=refused))
            number += 1
    return found


def costs(expected: Sequence[Expected], measure: Callable[[Mapping[str, Any]], Cost]) -> list[Expected]:
    """Return the runs with their costs: of some configurations measured, of the others as of the one most like them.

    Those that will be refused have none.

    Args:
        expected: The runs.
        measure: Settings of a configuration -> what it takes.
    """
    distinct = list({canonical(dict(each.settings)): each.settings for each in expected if not each.refused}.values())
    step = max(1, -(-len(distinct) // MEASURED))
    known = [(settings, measure(settings)) for settings in distinct[::step]]
    found: list[Expected] = []
    for each in expected:
        if each.refused:
            found.append(each)
            continue
        near, cost = max(known, key=lambda other: _alike(each.settings, other[0]))
        own = canonical(dict(near)) == canonical(dict(each.settings))
        found.append(
            replace(each, parameters=cost.parameters, updates=cost.updates, seconds=cost.seconds, measured=own)
        )
    return found


def measured_by(spec: Spec) -> Callable[[Mapping[str, Any]], Cost]:
    """Return what measures a configuration of a sweep on this machine; torch is imported by it."""
    points = {canonical(spec.space.settings(point)): point for point in _points(spec, 0)}

    def measure(settings: Mapping[str, Any]) -> Cost:
        from quincunx.preview import measure as measure_run

        pace = measure_run(spec.load(points[canonical(dict(settings))]))
        total = pace.plan.parameters["total"] if pace.plan.parameters else 0
        return Cost(total, pace.plan.stop_at, pace.training)

    return measure


def _points(spec: Spec, known: int) -> Iterator[Point]:
    """Yield the points of a grid, or those of trials by number from `known` on."""
    if spec.sampler == "grid":
        yield from spec.space.grid()
    elif spec.sampler in BY_NUMBER and spec.settings.trials is not None:
        for number in islice(range(spec.settings.trials), known, None):
            yield point_of(spec.space, spec.sampler, spec.settings.seed, number)


def _why_refused(spec: Spec, point: Point) -> str:
    try:
        spec.load(point)
    except ConfigError as error:
        return next((each.message for each in error.problems if each.severity == "error"), str(error))
    return ""


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return sum(key in other and canonical(value) == canonical(other[key]) for key, value in one.items())
