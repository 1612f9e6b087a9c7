"""Random numbers by address: the same for the same address on every platform and in every version of any library."""

from __future__ import annotations

from quincunx.seeds import address

_LAST = (1 << 64) - 1


class Stream:
    """The splitmix64 sequence (Steele, Lea and Flood 2014) that belongs to an address under a seed."""

    def __init__(self, seed: int, *parts: int | str) -> None:
        self._state = address(seed, "pathfinder", *parts)

    def below(self, bound: int) -> int:
        """Return a whole number from 0 to `bound` - 1, each as likely as the others (to 2**-64 of the bound)."""
        self._state = word = (self._state + 0x9E3779B97F4A7C15) & _LAST
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _LAST
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _LAST
        return (word ^ (word >> 31)) * bound >> 64
