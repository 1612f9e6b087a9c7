"""Samplers whose choice is a function of the trial's number alone: a sweep that was killed goes on with the very points
that it would have had, on any machine, in any order.

`grid`, `random` (independent draws) and `qmc`: Sobol points (I. M. Sobol', 1967) scrambled after Owen (1995), which
cover the ranges more evenly than independent draws do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quincunx.errors import MissingExtra, UsageError
from quincunx.seeds import address
from quincunx.sweep.choosing.space import Point, Range, Space

if TYPE_CHECKING:
    from scipy.stats.qmc import Sobol

TRIES = 1000
"""How often a point is drawn before it is said that exclusions leave next to nothing."""

LONGEST = 21201
"""Most ranges for which Sobol's direction numbers are known."""


def point_of(space: Space, sampler: str, seed: int, number: int) -> Point:
    """Return the point of a trial.

    Args:
        space: The ranges.
        sampler: `grid`, `random` or `qmc`.
        seed: Of the sweep; a grid has none.
        number: The trial's number, from 0 on.

    Raises:
        IndexError: The grid has fewer points.
        UsageError: Exclusions leave no point, or so few that none was drawn.
        MissingExtra: `qmc` without SciPy.
        ValueError: There is no such sampler, or no grid since a span has no points.
    """
    if sampler == "grid":
        return space.nth(number)
    if sampler == "random":
        return random_point(space, seed, number)
    if sampler == "qmc":
        point = space.at(_sobol_point(space, seed, number))
        return random_point(space, seed, number) if space.excluded(point) else point
    raise ValueError(f"no sampler {sampler!r} chooses by number: grid, random and qmc do")


def random_point(space: Space, seed: int, number: int) -> Point:
    """Return independent draws from all ranges; what is excluded is drawn again.

    Each range's draw has an address of its own, so that another range that comes or goes changes nothing for it.

    Raises:
        UsageError: Whatever was drawn is excluded.
    """
    for attempt in range(TRIES):
        point = space.at([draw(one, seed, number, attempt) for one in space.ranges])
        if not space.excluded(point):
            return point
    raise UsageError(
        f"sweep.exclude leaves out each of {TRIES} combinations drawn for trial {number}: remove an exclusion, give a "
        "range more values, or take sweep.sampler=grid where every range has points"
    )


def draw(one: Range, seed: int, number: int, attempt: int = 0) -> float:
    """Return the place in [0, 1) at which a range is drawn for a trial, independently of all other ranges."""
    bits = address(seed, "sweep", one.name, number, attempt) >> 10  # as many as a float holds, so that 1 is not reached
    return bits / 2**53


def _sobol_point(space: Space, seed: int, number: int) -> list[float]:
    """Return one point of the scrambled sequence, a coordinate for every range."""
    if not space.ranges:
        return []
    if len(space.ranges) > LONGEST:
        raise UsageError(f"sweep.sampler=qmc takes {LONGEST} ranges at most, found {len(space.ranges)}: take random")
    sequence = _sobol(len(space.ranges), seed)
    if number:
        sequence.fast_forward(number)
    return [float(coordinate) for coordinate in sequence.random(1)[0]]


def _sobol(dimensions: int, seed: int) -> Sobol:
    try:
        import numpy as np
        from scipy.stats.qmc import Sobol
    except ImportError:
        raise MissingExtra("scipy", "sweep", "sweep.sampler=qmc") from None
    return Sobol(dimensions, scramble=True, rng=np.random.default_rng(address(seed, "sweep", "sobol")))
