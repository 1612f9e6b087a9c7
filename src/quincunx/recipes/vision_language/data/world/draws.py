"""Random choices that stay the same with every library version: hashes of a seed and a count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from quincunx.seeds import address

T = TypeVar("T")

_MASK = 2**64 - 1


class Draws:
    """A stream of choices at an address: splitmix64 (Steele, Lea and Flood 2014) over whole numbers."""

    def __init__(self, seed: int, *parts: int | str) -> None:
        self._state = address(seed, *parts)

    def bits(self) -> int:
        """Return 64 random bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        state = self._state
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        return state ^ (state >> 31)

    def below(self, count: int) -> int:
        """Return a number from 0 to count - 1."""
        return (self.bits() * count) >> 64

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number from low to high."""
        return low + (high - low) * ((self.bits() >> 11) / 2**53)

    def chance(self, probability: float) -> bool:
        """Return true with this probability."""
        return self.uniform() < probability

    def choice(self, values: Sequence[T]) -> T:
        """Return one of some values."""
        return values[self.below(len(values))]

    def shuffled(self, values: Sequence[T]) -> list[T]:
        """Return the values in another order."""
        found = list(values)
        for place in range(len(found) - 1, 0, -1):
            other = self.below(place + 1)
            found[place], found[other] = found[other], found[place]
        return found
