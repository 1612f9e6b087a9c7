"""Arithmetic problems drawn from a seed, and dealt to splits that share none of them.

Every draw is a hash of (seed, split's family, attempt, place), so a set depends on its parameters alone. A problem and
its rearrangements (`3+5`, `5+3`) go to one split, whose choice is a hash of the problem.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quincunx.data.order import counter_hash
from quincunx.errors import DataError, UsageError
from quincunx.recipes.compression.data.arithmetic.language import PLUS, TIMES
from quincunx.seeds import address

INSIDE = ("train", "dev", "test")
"""Splits of one distribution."""
OUTSIDE = ("ood_magnitude", "ood_entities")
"""Splits outside it: with a number beyond `max_num`; with more than `max_entities` entities."""
SPLITS = (*INSIDE, *OUTSIDE)

PATIENCE = 300_000
"""After so many attempts in a row without a problem that is wanted the settings are said to allow no more."""

MAX_ADDENDS = 100
"""The most addends that one product may be written out as: solutions grow with their square."""

_BATCH = 4096


@dataclass(frozen=True)
class Parameters:
    """What problems are drawn. UsageError for settings without meaning."""

    max_num: int = 99
    """Numbers go from 0 to this."""
    max_entities: int = 3
    """A problem has 2 to this many numbers."""
    entity_probability: float = 0.5
    """Chance of each number beyond the second."""
    multiply_probability: float = 0.0
    """Chance that two neighbours are multiplied rather than added."""
    max_factor: int = 9
    """Numbers that are multiplied go from 0 to this, or to `max_num` where that is less."""
    space_multiplications: bool = True
    """Never multiply more than two numbers with one another."""
    zipf_order: float = 0.0
    """A number n is drawn in proportion to (n + 1) to the power of minus this; 0 draws all alike."""
    ood_max_num: int = 999
    """Largest number of the split `ood_magnitude`."""
    ood_max_entities: int = 5
    """Most numbers of the split `ood_entities`."""
    seed: int = 0
    """Any number from 0."""

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "max_num": (0, 10**12),
            "max_entities": (2, 20),
            "entity_probability": (0, 1),
            "multiply_probability": (0, 1),
            "max_factor": (0, 10**12),
            "zipf_order": (0, 10),
            "ood_max_num": (self.max_num + 1, 10**14),
            "ood_max_entities": (self.max_entities + 1, 40),
            "seed": (0, 2**63),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise UsageError(f"{name} is {value}; expected {least:,} to {most:,}")
        if self.zipf_order and self.ood_max_num > 10**6:
            raise UsageError(
                f"zipf_order is {self.zipf_order} and the largest number is {self.ood_max_num:,}; a draw by rank goes "
                "to 1,000,000: lower max_num and ood_max_num, or set zipf_order to 0"
            )
        chain = 2 if self.space_multiplications else self.ood_max_entities
        if self.multiply_probability and self.factor_limit ** (chain - 1) > MAX_ADDENDS:
            raise UsageError(
                f"a product of {chain} numbers up to {self.factor_limit:,} is written out as "
                f"{self.factor_limit ** (chain - 1):,} addends; at most {MAX_ADDENDS} can be: lower max_factor"
                + ("" if chain == 2 else ", or set space_multiplications")
            )

    @property
    def factor_limit(self) -> int:
        """The largest number that is multiplied."""
        return min(self.max_num, self.max_factor)

    def longest(self, outside: bool) -> int:
        """Return the characters of the longest problem, of the splits outside the distribution too."""
        digits, most = len(str(self.max_num)), self.max_entities
        length = most * (digits + 1) - 1
        if outside:
            length = max(length, most * (len(str(self.ood_max_num)) + 1) - 1, self.ood_max_entities * (digits + 1) - 1)
        return length


def deal(parameters: Parameters, counts: Mapping[str, int]) -> dict[str, list[str]]:
    """Return so many different problems for each split, in the order in which they were drawn.

    Args:
        parameters: What is drawn.
        counts: Split -> examples; those of one distribution are dealt together.

    Raises:
        DataError: There are not so many different problems.
    """
    dealt: dict[str, list[str]] = {split: [] for split in counts}
    inside = {split: counts[split] for split in INSIDE if counts.get(split)}
    if inside:
        # borders of the splits in the hash's range, in proportion to their sizes
        borders = np.cumsum(list(inside.values())) / sum(inside.values()) * 2.0**53
        names = list(inside)

        def split_of(problem: str) -> str:
            drawn = address(parameters.seed, "arithmetic", "split", canonical(problem)) >> 10
            return names[int(np.searchsorted(borders[:-1], drawn, side="right"))]

        _fill(dealt, inside, ((split_of(problem), problem) for problem in _draws(parameters, "inside")), parameters)
    for split in OUTSIDE:
        if counts.get(split):
            wanted = {split: counts[split]}
            _fill(dealt, wanted, ((split, problem) for problem in _draws(parameters, split)), parameters)
    return dealt


def canonical(problem: str) -> str:
    """Return the one form of a problem and all its rearrangements.

    >>> canonical("5+4*3+12") == canonical("12+5+3*4") == "12+3*4+5"
    True
    """
    return PLUS.join(sorted(TIMES.join(sorted(term.split(TIMES))) for term in problem.split(PLUS)))


def draw(parameters: Parameters, family: str, first: int, count: int) -> list[str]:
    """Return the problems of the attempts `first` to `first + count - 1` [up to count], repeats included.

    Args:
        parameters: What is drawn.
        family: `inside`, or one of OUTSIDE; attempts of `ood_magnitude` without a large number are left out.
        first: Number of the first attempt, from 0.
        count: Attempts.
    """
    p = parameters
    more = family == "ood_entities"
    most = p.ood_max_entities if more else p.max_entities
    largest = p.ood_max_num if family == "ood_magnitude" else p.max_num
    key = address(p.seed, "arithmetic", "draw", family)
    keys = counter_hash(np.arange(first, first + count), key)[:, None]
    drawn = [counter_hash(np.arange(part * most, (part + 1) * most), keys) for part in range(3)]  # [count, most] each
    if more:
        number = p.max_entities + 1 + (drawn[0][:, 0] % np.uint64(most - p.max_entities)).astype(np.int64)
    else:
        number = 2 + (_unit(drawn[0][:, 2:]) < p.entity_probability).sum(1)
    # times[:, i]: whether entity i is multiplied by the one before it
    times = _unit(drawn[1]) < p.multiply_probability
    times[:, 0] = False
    if p.space_multiplications:
        for i in range(1, most):
            times[:, i] &= ~times[:, i - 1]
    times &= np.arange(most) < number[:, None]
    factor = times | np.roll(times, -1, axis=1)
    values = np.where(
        factor, _numbers(drawn[2], p.factor_limit, p.zipf_order), _numbers(drawn[2], largest, p.zipf_order)
    )
    problems: list[str] = []
    for row, signs, entities in zip(values.tolist(), times.tolist(), number.tolist(), strict=True):
        used = row[:entities]
        if family == "ood_magnitude" and max(used) <= p.max_num:
            continue
        signed = ((TIMES if sign else PLUS) + str(value) for value, sign in zip(used, signs, strict=False))
        problems.append("".join(signed)[1:])
    return problems


def _draws(parameters: Parameters, family: str) -> Iterator[str]:
    first = 0
    while True:
        found = draw(parameters, family, first, _BATCH)
        yield from found
        # an attempt that gave nothing counts too, or a family without any problem would be sought for ever
        yield from [""] * (_BATCH - len(found))
        first += _BATCH


def _fill(
    dealt: dict[str, list[str]], wanted: Mapping[str, int], draws: Iterator[tuple[str, str]], parameters: Parameters
) -> None:
    """Give each split its number of different problems."""
    seen: set[str] = set()
    missing = sum(wanted.values())
    idle = 0
    for split, problem in draws:
        if not missing:
            return
        idle += 1
        if problem and problem not in seen and len(dealt[split]) < wanted[split]:
            seen.add(problem)
            dealt[split].append(problem)
            missing -= 1
            idle = 0
        elif idle >= PATIENCE:
            short = ", ".join(
                f"{split} {len(dealt[split]):,} of {count:,}"
                for split, count in wanted.items()
                if len(dealt[split]) < count
            )
            raise DataError(
                f"numbers up to {parameters.max_num:,} and up to {parameters.max_entities} of them make too few "
                f"different problems: {short} were found, then {PATIENCE:,} draws gave nothing new; ask for fewer, or "
                "raise max_num or max_entities"
            )


def _unit(drawn: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return hashes as numbers in [0, 1)."""
    return (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _numbers(drawn: NDArray[np.uint64], largest: int, zipf_order: float) -> NDArray[np.int64]:
    """Return hashes as numbers from 0 to `largest`."""
    if not zipf_order:
        return (drawn % np.uint64(largest + 1)).astype(np.int64)
    ends = np.cumsum(np.arange(1, largest + 2, dtype=np.float64) ** -zipf_order)
    return np.searchsorted(ends / ends[-1], _unit(drawn), side="right").astype(np.int64).clip(max=largest)
