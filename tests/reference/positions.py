"""Positions of one sequence at a time, in plain Python."""

from __future__ import annotations

from reference.blotching import hashed, signed, uniform


def sample(length: int, size: int, key: int) -> list[int]:
    """The numbers with the smallest hashes, in order."""
    ordered = sorted(range(size), key=lambda number: signed(hashed(key, number)))
    return sorted(ordered[:length])


def sample_reals(length: int, size: int, key: int) -> list[float]:
    """Uniform numbers between 0 and size - 1, in order."""
    return sorted(uniform(key, place) * (size - 1) for place in range(length))


def slopes(heads: int) -> list[float]:
    """ALiBi's slopes by the recursion that the paper's text describes."""
    if heads & (heads - 1) == 0:
        return [2.0 ** (-8 * (head + 1) / heads) for head in range(heads)]
    below = 2 ** (len(bin(heads)) - 3)
    return slopes(below) + slopes(2 * below)[0::2][: heads - below]
