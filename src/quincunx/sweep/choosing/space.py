"""The mathematics of ranges: which combinations of settings a sweep is about. Knows no files, no config and no sampler.

A *range* is a list of choices (`Listed`, of one setting or of several that go together) or a `Span` between two
numbers; a *point* gives every range that acts its position: an index among the choices, or the span's number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from quincunx.errors import UsageError
from quincunx.sweep.choosing.axes import Condition, Listed, Span, canonical

__all__ = ["Condition", "Exclusion", "Listed", "Point", "Range", "Space", "Span", "canonical"]

Point = Mapping[str, Any]
"""Name of a range -> its position; only ranges that act."""

Range = Listed | Span


@dataclass(frozen=True)
class Exclusion:
    """A combination that is left out: every setting has one of its values."""

    wanted: tuple[tuple[str, tuple[Any, ...]], ...]

    def __post_init__(self) -> None:
        if not self.wanted:
            raise ValueError("an exclusion without settings would leave out everything")

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """One a setting."""
        return tuple(Condition(key, values) for key, values in self.wanted)

    def holds(self, settings: Mapping[str, Any]) -> bool:
        """Whether settings are left out; a setting that is not among them has no value."""
        return all(one.key in settings and one.allows(settings[one.key]) for one in self.conditions)


@dataclass(frozen=True)
class Space:
    """The ranges of a sweep, in the order of the file, and the combinations that are left out."""

    ranges: tuple[Range, ...]
    exclusions: tuple[Exclusion, ...] = ()

    def __post_init__(self) -> None:
        names, keys = [one.name for one in self.ranges], [key for one in self.ranges for key in one.keys]
        for what, found in (("range", names), ("setting", keys)):
            twice = next((name for name in found if found.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"the {what} {twice!r} is there twice")
        named = [condition.key for one in self.ranges for condition in one.when]
        named += [key for one in self.exclusions for key, _ in one.wanted]
        unknown = next((key for key in named if key not in self._owner), None)
        if unknown is not None:
            raise ValueError(f"{unknown!r} is no ranged setting; there are {', '.join(keys)}")
        _ = self._ordered  # refuses circles at once

    @cached_property
    def _owner(self) -> dict[str, Range]:
        return {key: one for one in self.ranges for key in one.keys}

    @property
    def finite(self) -> bool:
        """Whether every range has points, so that there is a grid."""
        return all(one.count is not None for one in self.ranges)

    def order(self) -> tuple[Range, ...]:
        """Return the ranges so that each comes after those that its conditions name; otherwise as in the file.

        Raises:
            ValueError: Conditions go round in a circle.
        """
        return self._ordered

    @cached_property
    def _ordered(self) -> tuple[Range, ...]:
        placed: list[Range] = []
        waiting = list(self.ranges)
        while waiting:
            known = {key for one in placed for key in one.keys}
            ready = next((one for one in waiting if all(condition.key in known for condition in one.when)), None)
            if ready is None:
                raise ValueError(f"the conditions of {', '.join(one.name for one in waiting)} go round in a circle")
            placed.append(ready)
            waiting.remove(ready)
        return tuple(placed)

    def acts(self, one: Range, settings: Mapping[str, Any]) -> bool:
        """Whether a range acts, by the settings of the ranges before it in `order` that act."""
        return all(condition.key in settings and condition.allows(settings[condition.key]) for condition in one.when)

    def settings(self, point: Point) -> dict[str, Any]:
        """Return setting (as written) -> value at a point, in the order of the file."""
        return {
            key: value
            for one in self.ranges
            if one.name in point
            for key, value in one.settings(point[one.name]).items()
        }

    def excluded(self, point: Point) -> bool:
        """Whether a point is one of those left out."""
        if not self.exclusions:
            return False
        settings = self.settings(point)
        return any(one.holds(settings) for one in self.exclusions)

    def at(self, unit: Sequence[float]) -> Point:
        """Return the point at a place of the unit cube, whether it is excluded or not.

        Args:
            unit: A number in [0, 1] for every range, in the order of the file. Those of ranges that do not act there
                have no effect, so that the ones that act are drawn as if they were alone.
        """
        if len(unit) != len(self.ranges):
            raise ValueError(f"{len(self.ranges)} ranges need as many numbers, found {len(unit)}")
        return self.drop({one.name: one.at(place) for one, place in zip(self.ranges, unit, strict=True)})

    def drop(self, positions: Mapping[str, Any]) -> Point:
        """Return positions of all ranges without those that do not act, in the order of the file."""
        settings: dict[str, Any] = {}
        acting: set[str] = set()
        for one in self.order():
            if self.acts(one, settings):
                acting.add(one.name)
                settings |= one.settings(positions[one.name])
        return {one.name: positions[one.name] for one in self.ranges if one.name in acting}

    def grid(self) -> Iterator[Point]:
        """Go through all points, in the order of the file with the last range fastest; nothing is held in memory.

        A range that does not act adds no points: what differs only there is there once, in the place of the first.

        Raises:
            ValueError: A span has no points.
            UsageError: Once it is asked for: every point is excluded.
        """
        endless = next((one.name for one in self.ranges if one.count is None), None)
        if endless is not None:
            raise ValueError(f"the span {endless} has no points, so there is no grid: give it n or step")
        return self._whole_grid()

    def size(self) -> int | None:
        """Return how many points the grid has, None if there is no grid.

        Ranges that no condition and no exclusion ties together are multiplied, not gone through.
        """
        if not self.finite:
            return None
        return math.prod(_count(part) for part in self._parts())

    def nth(self, number: int) -> Point:
        """Return a point of the grid by its number, at once where there are neither conditions nor exclusions.

        Raises:
            IndexError: The grid has fewer points.
        """
        if not any(one.when for one in self.ranges) and not self.exclusions:
            return self._without_ties(number)
        for index, point in enumerate(self.grid()):
            if index == number:
                return point
        raise IndexError(f"the grid has {self.size()} points, found number {number}")

    def _without_ties(self, number: int) -> Point:
        rest, positions = number, {}
        for one in reversed(self.ranges):
            if one.count is None:
                raise ValueError(f"the span {one.name} has no points, so there is no grid: give it n or step")
            rest, index = divmod(rest, one.count)
            positions[one.name] = one.position(index)
        if rest:
            raise IndexError(f"the grid has {self.size()} points, found number {number}")
        return {one.name: positions[one.name] for one in self.ranges}

    def _whole_grid(self) -> Iterator[Point]:
        empty = True
        for point in self._walk({}, {}, frozenset()):
            empty = False
            yield point
        if empty:
            raise UsageError(
                f"sweep.exclude leaves out every combination of {', '.join(self._owner)}: remove an exclusion, or give "
                "a range more values"
            )

    def _walk(
        self, positions: Mapping[str, Any], settings: Mapping[str, Any], moved: frozenset[str]
    ) -> Iterator[Point]:
        """Go on from the first ranges' positions; `moved` are those that are not at their first one.

        Of combinations that differ only in ranges which do not act, the one that has these at their first is kept.
        """
        if len(positions) == len(self.ranges):
            yield {name: position for name, position in positions.items() if self._settled(name, settings)}
            return
        one = self.ranges[len(positions)]
        count = one.count or 0
        for index in range(1 if self._settled(one.name, settings) is False else count):
            position = one.position(index)
            values = {**settings, **one.settings(position)}
            away = moved | {one.name} if index else moved
            if not self._pointless(values, away):
                yield from self._walk({**positions, one.name: position}, values, away)

    def _pointless(self, settings: Mapping[str, Any], moved: frozenset[str]) -> bool:
        """Whether nothing can come of these first choices."""
        if self._conditional and any(
            self._settled(name, settings) is False for name in moved & self._conditional.keys()
        ):
            return True
        return any(all(self._holds(one, settings) for one in each.conditions) for each in self.exclusions)

    @cached_property
    def _conditional(self) -> dict[str, Range]:
        return {one.name: one for one in self.ranges if one.when}

    def _settled(self, name: str, settings: Mapping[str, Any]) -> bool | None:
        """Whether a range acts, given the values of some ranges, whether these act or not; None: still open."""
        if name not in self._conditional:
            return True
        answers = [self._holds(condition, settings) for condition in self._conditional[name].when]
        return False if False in answers else None if None in answers else True

    def _holds(self, condition: Condition, settings: Mapping[str, Any]) -> bool | None:
        acts = self._settled(self._owner[condition.key].name, settings)
        if condition.key not in settings:
            return False if acts is False else None
        return acts if condition.allows(settings[condition.key]) else False

    def _parts(self) -> list[Space]:
        """Return the space in parts that have nothing to do with each other."""
        groups = [{one.name} for one in self.ranges]
        ties = [{one.name, *(self._owner[condition.key].name for condition in one.when)} for one in self.ranges]
        ties += [{self._owner[key].name for key, _ in one.wanted} for one in self.exclusions]
        for tie in ties:
            joined = [group for group in groups if group & tie]
            groups = [group for group in groups if not group & tie] + [set().union(*joined)]
        return [
            Space(
                ranges=tuple(one for one in self.ranges if one.name in group),
                exclusions=tuple(one for one in self.exclusions if self._owner[one.wanted[0][0]].name in group),
            )
            for group in groups
        ]


def _count(part: Space) -> int:
    if len(part.ranges) == 1 and not part.exclusions:
        return part.ranges[0].count or 0
    return sum(1 for _ in part._walk({}, {}, frozenset()))
