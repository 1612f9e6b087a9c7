"""One range by itself: a list of choices, or a span between two numbers, and the conditions under which it acts.

A *position* within it is an index among the choices, or the span's number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

DIGITS = 6
"""Significant digits of numbers that nobody wrote down, so that folder names and configs stay readable."""


def canonical(value: Any) -> Any:
    """Return something hashable that is equal for two plain values exactly if they are the same, types included.

    `1`, `1.0` and `True` differ; lists compare by content, mappings by content whatever their order.
    """
    if isinstance(value, Mapping):
        return "mapping", frozenset((canonical(key), canonical(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return "list", tuple(canonical(item) for item in value)
    return type(value).__name__, value


@dataclass(frozen=True)
class Condition:
    """A range acts only where a setting, ranged itself, has one of some values."""

    key: str
    """The setting, as its own range writes it."""
    values: tuple[Any, ...]

    @cached_property
    def _wanted(self) -> frozenset[Any]:
        return frozenset(canonical(value) for value in self.values)

    def allows(self, value: Any) -> bool:
        """Whether this value of the setting is one of those wanted."""
        return canonical(value) in self._wanted


@dataclass(frozen=True)
class Listed:
    """A list of choices: values of one setting, or rows of values of several that are zipped."""

    name: str
    """The setting itself where there is one; otherwise a label."""
    keys: tuple[str, ...]
    choices: tuple[tuple[Any, ...], ...]
    """`choices[i][j]` is the value of `keys[j]`."""
    when: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError(f"the range {self.name!r} is of no setting")
        if not self.choices:
            raise ValueError(f"the range {self.name!r} has no values")
        for row in self.choices:
            if len(row) != len(self.keys):
                raise ValueError(
                    f"the range {self.name!r} is of {len(self.keys)} settings, found a row of {len(row)} values"
                )

    @property
    def count(self) -> int:
        """How many positions there are."""
        return len(self.choices)

    def position(self, index: int) -> int:
        """Return the position with this index."""
        return index

    def at(self, unit: float) -> int:
        """Return the position at a number in [0, 1]; each has an equal share."""
        return min(int(unit * self.count), self.count - 1)

    def settings(self, position: Any) -> dict[str, Any]:
        """Return setting -> value at a position."""
        return dict(zip(self.keys, self.choices[position], strict=True))


@dataclass(frozen=True)
class Span:
    """All numbers from `low` to `high`, both included, or evenly spread ones of them.

    With `step` or `n`, and where it is of whole numbers (not logarithmic), it has *points*, and only these are chosen
    from. A step need not meet `high`: the last point is then below it. Of `n` points the first is `low` and the last
    `high`; under `log` they are spread geometrically (whole ones rounded, equal ones taken once).
    """

    name: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    n: int | None = None
    whole: bool = False
    when: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        numbers = [self.low, self.high] if self.step is None else [self.low, self.high, self.step]
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"low, high and step have to be finite numbers, found {numbers}")
        if self.whole and any(number != int(number) for number in numbers):
            raise ValueError(f"a span of whole numbers has whole low, high and step, found {numbers}")
        if self.low >= self.high:
            raise ValueError(f"low has to be less than high, found low {self.low} and high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs low above 0, found low {self.low}")
        if self.step is not None:
            self._check_step(self.step)
        if self.n is not None and self.n < 2:
            raise ValueError(f"n counts points with both ends among them, so it is at least 2, found {self.n}")
        if self.n is not None and self.whole and self.n > self.high - self.low + 1:
            few = int(self.high) - int(self.low) + 1
            raise ValueError(f"there are {few} whole numbers from {self.low} to {self.high}, found n {self.n}")

    def _check_step(self, step: float) -> None:
        if self.log:
            raise ValueError("log and step contradict each other: give n for points that are spread geometrically")
        if self.n is not None:
            raise ValueError("step and n both say how many points there are: give one of them")
        if step <= 0:
            raise ValueError(f"step has to be above 0, found {step}")
        if _exact(step) > _exact(self.high) - _exact(self.low):
            raise ValueError(
                f"step {step} leads beyond high {self.high} at once: low {self.low} would be the only point"
            )

    @property
    def keys(self) -> tuple[str]:
        """The one setting, as a tuple like that of `Listed`."""
        return (self.name,)

    @cached_property
    def count(self) -> int | None:
        """How many points there are; None: any number in between is one."""
        if self._spread is not None:
            return len(self._spread)
        if self.n is not None:
            return self.n
        if self._stride is not None:
            return int((_exact(self.high) - _exact(self.low)) / self._stride) + 1
        return None

    def position(self, index: int) -> float:
        """Return the point with this index; only where `count` is not None."""
        if self._spread is not None:
            return self._spread[index]
        if self.n is not None:
            return self._evenly(index, self.n)
        if self._stride is None:
            raise ValueError(f"the span {self.name} has no points")
        return self._number(_exact(self.low) + index * self._stride)

    def at(self, unit: float) -> float:
        """Return the number at a place in [0, 1]: points have equal shares, others are drawn evenly."""
        if self.count is not None:
            return self.position(min(int(unit * self.count), self.count - 1))
        low, high = self._edges
        value = math.exp(low + unit * (high - low)) if self.log else low + unit * (high - low)
        return self.tidy(value)

    def unit(self, value: float) -> float:
        """Return the place in [0, 1] of a number of the span: what `at` takes back to it."""
        if self.count is not None:
            return (self._nearest(value) + 0.5) / self.count
        low, high = self._edges
        place = ((math.log(value) if self.log else value) - low) / (high - low)
        return min(max(place, 0.0), 1.0)

    def tidy(self, value: float) -> float:
        """Return the nearest number of the span: a point, a whole number, or one of few digits within the ends."""
        if self.count is not None:
            return self.position(self._nearest(value))
        if self.whole:
            return min(max(round(value), int(self.low)), int(self.high))
        rounded = _rounded(value, (self.high - self.low) / max(abs(self.low), abs(self.high)))
        return float(min(max(rounded, self.low), self.high))

    def settings(self, position: Any) -> dict[str, Any]:
        """Return setting -> value at a position."""
        return {self.name: position}

    @property
    def last(self) -> float:
        """The largest number: `high`, or the last point that a step reaches."""
        return self.high if self.count is None else self.position(self.count - 1)

    @cached_property
    def _stride(self) -> Fraction | None:
        if self.step is not None:
            return _exact(self.step)
        return Fraction(1) if self.whole and not self.log else None

    @cached_property
    def _spread(self) -> tuple[float, ...] | None:
        """The geometric points; kept, since whole ones that come out equal are counted once."""
        if not self.log or self.n is None:
            return None
        ratio = math.log(self.high / self.low)
        inner = (self.low * math.exp(ratio * index / (self.n - 1)) for index in range(1, self.n - 1))
        resolution = math.expm1(ratio / (self.n - 1))
        tidied = [round(value) if self.whole else _rounded(value, resolution) for value in inner]
        ends = (int(self.low), int(self.high)) if self.whole else (float(self.low), float(self.high))
        return tuple(dict.fromkeys((ends[0], *tidied, ends[1])))

    @property
    def _edges(self) -> tuple[float, float]:
        """Where numbers are drawn between; whole ones reach half a number beyond, so that the ends are not rare."""
        margin = 0.5 if self.whole else 0.0
        low, high = self.low - margin, self.high + margin
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def _evenly(self, index: int, n: int) -> float:
        low, high = _exact(self.low), _exact(self.high)
        if index in (0, n - 1):
            return self._number(high if index else low)
        exact = low + (high - low) * index / (n - 1)
        if self.whole:
            return math.floor(exact + Fraction(1, 2))
        return _rounded(float(exact), (self.high - self.low) / (n - 1) / max(abs(self.low), abs(self.high)))

    def _nearest(self, value: float) -> int:
        """Return the index of the point nearest to a number."""
        assert self.count is not None
        if self._spread is not None:
            return min(range(self.count), key=lambda index: abs(math.log(value / self.position(index))))
        guess = round((value - self.low) / (self.last - self.low) * (self.count - 1))
        return min(max(guess, 0), self.count - 1)

    def _number(self, exact: Fraction) -> float:
        return int(exact) if self.whole else float(exact)


def _exact(number: float) -> Fraction:
    """Return a number as it is written: 0.1 is a tenth, so that three steps of it are 0.3."""
    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


def _rounded(value: float, resolution: float) -> float:
    """Round to a few significant digits, but to more where numbers lie closer together than that (relative)."""
    digits = max(DIGITS, DIGITS - 1 - math.floor(math.log10(resolution))) if resolution < 1 else DIGITS
    return float(f"{value:.{min(digits, 17)}g}")
