"""Before anything runs: that the configurations of a sweep are good ones, found by reading them all, or many of them.

A value that is wrong in every combination is told at its place; what goes together badly is told once for the fewest
settings that explain it. Of spans the ends are tried, of grids all combinations.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from quincunx.config.check import check_sizes
from quincunx.config.document import ConfigError, Document, Mark, Problem
from quincunx.config.load import Loaded
from quincunx.config.write import scalar
from quincunx.seeds import address
from quincunx.sweep.choosing.space import Listed, Point, Range, Space, Span, canonical
from quincunx.sweep.reading.laying import AT
from quincunx.sweep.reading.ranges import key_path, value_path

Load = Callable[[Point], Loaded]

WHOLE = 2000
"""Grids of so many combinations are read whole; of larger ones so many, spread over the grid, and every value."""

TRIES = 24
"""Combinations in which a value is tried until one is good."""

PROBES = 12
"""Combinations by which errors of the config itself are told from those that a range puts right."""

ALONE = 50
"""Values of a range that are tried by themselves."""

SHOWN = 12
"""Problems with combinations that are told one by one."""

Item = tuple[str, Any]
"""A range and its position."""

Failed = tuple[Point, Sequence[Problem]]
"""A combination and its errors."""


@dataclass
class Tried:
    """What came of reading configurations."""

    problems: list[Problem] = field(default_factory=list[Problem])
    notes: list[str] = field(default_factory=list[str])
    good: list[tuple[Point, Loaded]] = field(default_factory=list[tuple[Point, Loaded]])


def check_space(space: Space, document: Document, load: Load, *, grid: bool) -> Tried:
    """Read configurations of a space and return what is to be said about them.

    Args:
        space: The ranges; not every combination of them is excluded.
        document: Has the ranges at `ranges`.
        load: Point -> config; raises ConfigError.
        grid: Whether all combinations will be run; otherwise a value needs to be good in some combination only.
    """
    reading = _Reading(load)
    size = space.size() if grid else None
    if grid and size is not None and size <= WHOLE:
        points = list(space.grid())
    elif grid and size is not None:
        step = size / WHOLE
        wanted = sorted({int(number * step) for number in range(WHOLE)})
        points = [*_picked(space, wanted), *_covering(space)]
        reading.tried.notes.append(f"{WHOLE:,} of the {size:,} combinations were checked, and every value")
    else:
        points = None
    if points is not None:
        for point in points:
            reading.read(point)
        reading.explain(space, document)
    else:
        _check_values(space, document, reading)
    return reading.tried


def lasting_errors(space: Space, load: Load, errors: Sequence[Problem]) -> list[Problem]:
    """Return the errors of a config without its ranges that no values of these put right, of some that are tried."""
    lasting = list(errors)
    for number in range(PROBES if errors else 0):
        try:
            load(space.at([_uniform("probe", one.name, number) for one in space.ranges]))
        except ConfigError as error:
            told = {(each.mark, each.message) for each in error.problems}
            lasting = [each for each in lasting if (each.mark, each.message) in told]
        else:
            return []
    return lasting


def warnings_of(tried: Tried, space: Space, document: Document) -> list[Problem]:
    """Return the warnings of the good configurations, each once.

    A ranged setting that has no effect in some of them is warned of; any other setting only where all agree.
    """
    ranged = _names_by_mark(space, document)
    found: dict[Any, list[Problem]] = {}
    for _, loaded in tried.good:
        for each in loaded.warnings:
            owner = ranged.get(each.mark) if each.mark else None
            found.setdefault(owner or (each.mark, each.message), []).append(each)
    warnings: list[Problem] = []
    for key, cases in found.items():
        if key in ranged.values():
            acting = sum(key[0] in point for point, _ in tried.good)
            every = len(cases) >= acting
            part = "" if every else f" (so in {len(cases)} of the {acting} combinations that were looked at)"
            remedy = "leave the range out" if every else "give the range a `when`, or its values are run for nothing"
            warnings.append(replace(cases[0], message=cases[0].message + part, remedy=remedy))
        elif len(cases) == len(tried.good):
            warnings.append(cases[0])
    return warnings


def wrong_values(ranges: Sequence[Range], document: Document, load: Callable[[Space, Point], Loaded]) -> list[Problem]:
    """Return the values that are wrong whatever stands beside them, at their places, where the space is not known yet.

    Args:
        ranges: Those that can be read.
        document: Has the ranges at `ranges`.
        load: A space of one range and its point -> config, not judged by rules between settings.
    """
    found: list[Problem] = []
    for one in ranges:
        space = Space((replace(one, when=()),))
        for position in itertools.islice(_positions(one), ALONE):
            try:
                load(space, {one.name: position})
            except ConfigError as error:
                marks = set(_marks(document, one, position)) - {None}
                found += [each for each in error.problems if each.severity == "error" and each.mark in marks]
    return list(dict.fromkeys(found))


class _Reading:
    """Configurations as they are read, each once."""

    def __init__(self, load: Load) -> None:
        self.tried = Tried()
        self.failed: list[Failed] = []
        self._load = load
        self._seen: dict[Any, Sequence[Problem]] = {}

    def read(self, point: Point) -> Sequence[Problem]:
        """Return the errors of a point's config, none for a good one."""
        key = canonical(point)
        if key not in self._seen:
            try:
                loaded = self._load(point)
                sizes = loaded.schema.sizes
                sized = (
                    []
                    if sizes is None
                    else check_sizes(loaded.config, loaded.schema, sizes(loaded.config), loaded.document)
                )
                errors = [problem for problem in sized if problem.severity == "error"]
                if not errors:
                    self.tried.good.append((point, loaded))
            except ConfigError as error:
                errors = [problem for problem in error.problems if problem.severity == "error"]
            self._seen[key] = errors
            if errors:
                self.failed.append((point, errors))
        return self._seen[key]

    def explain(self, space: Space, document: Document) -> None:
        """Turn failures into problems: of the fewest values that go wrong in whatever combination they stand."""
        left = self._own(space, document)
        whole = [point for point, _ in (*self.tried.good, *left)]
        for size in (1, 2, 3):
            left = self._blame(size, whole, left, space, document)
        for point, errors in left:
            self._tell(tuple(point.items()), [errors], space, document)
        problems = list({(each.mark, each.message): each for each in self.tried.problems}.values())
        if len(problems) > SHOWN:
            points = len(self.tried.good) + len(self.failed)
            more = (
                f"{len(problems) - SHOWN} more problems; {len(self.failed)} of {points} combinations are contradictory"
            )
            rest = Problem("error", problems[0].path, None, more, "range fewer settings at once, or leave more out")
            problems = [*problems[:SHOWN], rest]
        self.tried.problems[:] = problems

    def blame_values(
        self, hopeless: Sequence[tuple[Item, Sequence[Sequence[Problem]]]], space: Space, document: Document
    ) -> None:
        """Tell of values that no combination was good with: at their places, or else of the first such value."""
        ranges = {one.name: one for one in space.ranges}
        problems: list[Problem] = []
        for (name, position), cases in hopeless:
            marks = set(_marks(document, ranges[name], position))
            problems += [error for error in min(cases, key=len) if error.mark in marks]
        self.tried.problems[:] = list(dict.fromkeys(problems))
        if hopeless and not problems:
            item, cases = hopeless[0]
            self._tell([item], cases, space, document)

    def _own(self, space: Space, document: Document) -> list[Failed]:
        """Tell of values that are wrong wherever they stand, at their places; return what other failures there are."""
        ranges = {one.name: one for one in space.ranges}
        marks = {
            item: set(_marks(document, ranges[item[0]], item[1]))
            for item in {item for point, _ in self.failed for item in point.items()}
        }
        every = Counter(item for point, _ in (*self.tried.good, *self.failed) for item in point.items())
        found = Counter(
            (item, error)
            for point, errors in self.failed
            for item in point.items()
            for error in errors
            if error.mark in marks[item]
        )
        own = {error for (item, error), times in found.items() if times == every[item]}
        self.tried.problems.extend(error for _, error in found if error in own)
        rest = [(point, [error for error in errors if error not in own]) for point, errors in self.failed]
        return [(point, errors) for point, errors in rest if errors]

    def _blame(
        self, size: int, whole: Sequence[Point], failed: list[Failed], space: Space, document: Document
    ) -> list[Failed]:
        """Tell of all sets of so many values that always fail; return the failures that these do not explain."""
        bad = Counter(chosen for point, _ in failed for chosen in _subsets(point, size))
        every = Counter(chosen for point in whole for chosen in _subsets(point, size) if chosen in bad)
        left = failed
        for chosen in bad:
            cases = [errors for point, errors in left if chosen in set(_subsets(point, size))]
            if bad[chosen] == every[chosen] and cases:
                self._tell(chosen, cases, space, document)
                left = [(point, errors) for point, errors in left if chosen not in set(_subsets(point, size))]
        return left

    def _tell(
        self, chosen: Sequence[Item], cases: Sequence[Sequence[Problem]], space: Space, document: Document
    ) -> None:
        """Add the problems of values that fail together, from the case that has the fewest."""
        ranges = {one.name: one for one in space.ranges}
        settings = {key: value for name, position in chosen for key, value in ranges[name].settings(position).items()}
        name, position = chosen[-1]
        path = value_path(document, AT, ranges[name], ranges[name].keys[0], position)
        own = {mark for name, position in chosen for mark in _marks(document, ranges[name], position)}
        errors = min(cases, key=len)
        error = next((each for each in errors if each.mark in own), errors[0])
        said = ", ".join(f"`{key}` {scalar(value)}" for key, value in settings.items())
        message, remedy = f"{said}: {error.message}", error.remedy
        if len(chosen) > 1:
            out = ", ".join(f"{scalar(key)}: {scalar(value)}" for key, value in settings.items())
            message = f"these do not go together: {message}"
            remedy = f"leave them out by `exclude: [{{{out}}}]` in the section `sweep`, or: {error.remedy}"
        self.tried.problems.append(Problem("error", path, document.mark(path, key=False), message, remedy))


def _check_values(space: Space, document: Document, reading: _Reading) -> None:
    """Look for a good combination with every value; tell of the values that have none."""
    hopeless: list[tuple[Item, Sequence[Sequence[Problem]]]] = []
    for one in space.ranges:
        for position in _positions(one):
            cases: list[Sequence[Problem]] = []
            for point in _with(space, one, position):
                errors = reading.read(point)
                if not errors:
                    break
                cases.append(errors)
            else:
                if cases:
                    hopeless.append(((one.name, position), cases))
    reading.blame_values(hopeless, space, document)
    if reading.failed and reading.tried.good and not reading.tried.problems:
        point, errors = reading.failed[0]
        said = ", ".join(f"{key}={scalar(value)}" for key, value in space.settings(point).items())
        reading.tried.notes.append(
            f"some combinations are contradictory, and will be refused when their turn comes, for example {said}: "
            f"{errors[0].message}; sweep.exclude leaves combinations out"
        )


def _positions(one: Range) -> Iterator[Any]:
    if isinstance(one, Listed):
        yield from range(len(one.choices))
    else:
        yield from (one.low, one.last)


def _with(space: Space, one: Range, position: Any) -> Iterator[Point]:
    """Yield combinations that have a value, if there are any: the others first, in the middle, last, at random."""
    others = [each.name for each in space.ranges]
    for number in range(TRIES):
        usual = {0: 0.0, 1: 0.5, 2: 1.0}.get(number)
        positions = {
            each.name: each.at(_uniform(one.name, str(position), each.name, number))
            if usual is None
            else each.at(usual)
            for each in space.ranges
        }
        positions[one.name] = position
        _let_act(space, one, positions, number)
        point = space.drop(positions)
        if point.get(one.name) == position and not space.excluded(point):
            yield point
        if len(others) == 1:
            return


def _uniform(*parts: str | int) -> float:
    """Return the number in [0, 1) at an address."""
    return address(0, "sweep check", *parts) / 2**63


def _let_act(space: Space, one: Range, positions: dict[str, Any], number: int) -> None:
    """Move the ranges that a range depends on to where it acts."""
    for condition in one.when:
        other = next(each for each in space.ranges if condition.key in each.keys)
        if isinstance(other, Span):
            positions[other.name] = condition.values[number % len(condition.values)]
        else:
            column = other.keys.index(condition.key)
            fitting = [index for index, row in enumerate(other.choices) if condition.allows(row[column])]
            if positions[other.name] not in fitting:
                positions[other.name] = fitting[number % len(fitting)]
        _let_act(space, other, positions, number)


def _picked(space: Space, numbers: Iterable[int]) -> Iterator[Point]:
    """Yield the points of a grid with these ascending numbers."""
    if not space.exclusions and not any(one.when for one in space.ranges):
        yield from map(space.nth, numbers)
        return
    wanted = set(numbers)
    last = max(wanted)
    yield from (point for number, point in enumerate(itertools.islice(space.grid(), last + 1)) if number in wanted)


def _covering(space: Space) -> Iterator[Point]:
    """Yield combinations with every value of every range."""
    for one in space.ranges:
        for position in _positions(one) if isinstance(one, Listed) else map(one.position, range(one.count or 0)):
            yield from itertools.islice(_with(space, one, position), 2)


def _items(point: Point) -> tuple[Item, ...]:
    return tuple(point.items())


def _subsets(point: Point, size: int) -> Iterator[tuple[Item, ...]]:
    return itertools.combinations(_items(point), size)


def _marks(document: Document, one: Range, position: Any) -> Iterator[Mark | None]:
    """Yield where a range's value stands, and the settings that it is for."""
    for key in one.keys:
        at = value_path(document, AT, one, key, position)
        yield document.mark(at, key=False)
        yield document.mark(key_path(document, AT, one, key))
        yield from (place.value for path, place in document.places.items() if path[: len(at)] == at)


def _names_by_mark(space: Space, document: Document) -> Mapping[Mark, tuple[str, str]]:
    """Return for the place where a setting is ranged the range and the setting."""
    found: dict[Mark, tuple[str, str]] = {}
    for one in space.ranges:
        for key in one.keys:
            mark = document.mark(key_path(document, AT, one, key))
            if mark is not None:
                found[mark] = (one.name, key)
    return found
