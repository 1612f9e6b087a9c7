"""Blotching one text at a time, token by token, in plain Python: what `recipes.compression.blotch` computes in bulk."""

from __future__ import annotations

from fractions import Fraction
from math import floor

from reference.counter_hash import position_word, scramble

CHANCE, TOKENS, STARTS, LEVEL = 0x44524F50, 0x544F4B4E, 0x53504E53, 0x4C45564C


def hashed(key: int, place: int, salt: int = 0) -> int:
    """The unsigned 64-bit word of a key (signed or not) and a place."""
    other = position_word(place)
    other += 0xFFFFFFFF << 32 if other >> 31 else 0  # 32 signed bits made 64
    return scramble(scramble(scramble(key % 2**64) ^ salt) ^ other)


def signed(word: int) -> int:
    """A word as a signed number."""
    return word - 2**64 if word >> 63 else word


def uniform(key: int, place: int, salt: int = 0) -> float:
    """The number in [0, 1) of a key and a place."""
    return ((signed(hashed(key, place, salt)) >> 11) + 2**52) / 2**53


def cut(tokens: list[int], separators: set[int]) -> tuple[list[int], int]:
    """The unit of each token, and the number of the last unit."""
    unit, numbers = 0, []
    for token in tokens:
        numbers.append(unit)
        if token in separators:
            unit += 1
    return numbers, unit


def spans(length: int, mean: float, key: int) -> list[int]:
    """The units of geometric spans."""
    unit, numbers = 0, []
    for place in range(length):
        if place and uniform(key, place, STARTS) < 1 / mean:
            unit += 1
        numbers.append(unit)
    return numbers


def left_out(last: int, p: float, key: int, spacing: str, contiguous: bool, mean_run: float) -> set[int]:
    """The units that are left out, one after the other."""
    out: set[int] = set()
    if spacing == "equal":
        available = max(0, last - 1)
        wanted = floor(Fraction(p).limit_denominator(1000) * available + Fraction(1, 2))
        if not contiguous:
            wanted = min(wanted, (available + 1) // 2)
        return {1 + floor(Fraction(2 * j + 1, 2 * wanted) * available) for j in range(wanted)}
    run = max(mean_run, p / (1 - p)) if p < 1 else float("inf")
    for unit in range(1, last):
        before = unit - 1 in out
        if spacing == "random":
            chance = p if contiguous or not before else 0.0
        elif unit == 1 or p == 1:
            chance = p
        else:
            chance = 1 - 1 / run if before else p / (run * (1 - p))
        if uniform(key, unit, CHANCE) < chance:
            out.add(unit)
    return out


def targets(tokens: list[int], keep: list[bool]) -> list[int]:
    """The next survivor after each survivor."""
    found = []
    for place in range(len(tokens)):
        later = [tokens[other] for other in range(place + 1, len(tokens)) if keep[other]]
        found.append(later[0] if keep[place] and later else -100)
    return found
