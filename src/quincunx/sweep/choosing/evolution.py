"""CMA-ES (N. Hansen, arXiv:1604.00772) whose state is never stored: it is computed anew from the trials before.

So nothing of it has to be unpickled from a database that others write to, a killed sweep loses none of it, and any
number of machines agree on it. The spans that always act are searched, each as a coordinate in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quincunx.errors import MissingExtra, UsageError
from quincunx.seeds import address
from quincunx.sweep.choosing.sampling import draw
from quincunx.sweep.choosing.space import Space, Span

if TYPE_CHECKING:
    from cmaes import CMA

SPREAD = 0.3
"""First standard deviation, as a share of each span: what Hansen recommends."""


@dataclass(frozen=True)
class Tried:
    """A finished trial that CMA-ES proposed."""

    number: int
    generation: int
    place: tuple[float, ...]
    """Coordinates in [0, 1], in the order of `searched`."""
    loss: tuple[float, ...]
    """Trials are compared by it, the smallest being the best: only their order matters to CMA-ES."""


def searched(space: Space) -> tuple[Span, ...]:
    """Return the ranges that CMA-ES searches: spans that always act.

    Raises:
        UsageError: There is none.
    """
    spans = tuple(one for one in space.ranges if isinstance(one, Span) and not one.when)
    if not spans:
        raise UsageError(
            f"sweep.sampler=cmaes searches spans (low and high) that act without condition, and none of "
            f"{', '.join(one.name for one in space.ranges)} is one: take sweep.sampler=tpe"
        )
    return spans


def proposals(
    space: Space, seed: int, number: int, tried: Sequence[Tried], tries: int
) -> Iterator[tuple[dict[str, Any], int]]:
    """Propose positions of all ranges for a trial, several times over if need be; what is not searched is drawn.

    Args:
        space: The ranges.
        seed: Of the sweep.
        number: The trial's number.
        tried: The finished trials, in any order.
        tries: How many proposals there are at most.

    Yields:
        Range name -> position, acting or not; and the generation that the trial belongs to.

    Raises:
        UsageError: There is nothing to search.
        MissingExtra: The package cmaes is not installed.
    """
    spans = searched(space)
    search, generation = _told(len(spans), tried)
    for attempt in range(tries):
        search.reseed_rng(address(seed, "sweep", "cmaes", number, attempt) % 2**32)
        places = dict(zip((span.name for span in spans), search.ask(), strict=True))
        yield (
            {one.name: one.at(float(places.get(one.name, draw(one, seed, number, attempt)))) for one in space.ranges},
            generation,
        )


def _told(dimensions: int, tried: Sequence[Tried]) -> tuple[CMA, int]:
    """Return the search as it stands after all generations that are complete, and the number of the next one.

    A generation is complete with as many finished trials as its population counts; those beyond it (proposed by other
    workers in the meantime) are left out. Failed trials do not count, so that their places are taken by others.
    """
    search = _new(dimensions)
    generation = 0
    while True:
        members = sorted((one for one in tried if one.generation == generation), key=lambda one: one.number)
        members = members[: search.population_size]
        if len(members) < search.population_size:
            return search, generation
        search.tell(_ranked(members))
        generation += 1


def _ranked(members: Sequence[Tried]) -> list[tuple[Any, float]]:
    import numpy as np

    order = sorted(members, key=lambda one: (one.loss, one.number))
    return [(np.array(one.place), float(rank)) for rank, one in enumerate(order)]


def _new(dimensions: int) -> CMA:
    try:
        import numpy as np
        from cmaes import CMA
    except ImportError:
        raise MissingExtra("cmaes", "sweep", "sweep.sampler=cmaes") from None
    bounds = np.tile([0.0, 1.0], (dimensions, 1))
    return CMA(mean=np.full(dimensions, 0.5), sigma=SPREAD, bounds=bounds, seed=0)
