"""ListOps expressions drawn by the official rules of the Long Range Arena (Tay et al. 2021), from a seed.

Every draw is a hash of (seed, attempt, path from the root), so that a set depends on its parameters alone: not on
library versions, platform, or how many expressions are drawn at once. Trees grow level by level, thousands together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError, UsageError
from quincunx.recipes.long_range.data.examples import Examples
from quincunx.recipes.long_range.data.listops.language import CLOSE, DIGIT, OPERATOR, examine
from quincunx.seeds import address

PATIENCE = 5_000_000
"""After so many attempts in a row without a new expression the settings are said to allow no more."""

_STRIDE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Parameters:
    """What expressions are drawn. UsageError for settings without meaning."""

    min_length: int = 500
    """Expressions have more tokens than this."""
    max_length: int = 2000
    """Expressions have fewer tokens than this."""
    max_depth: int = 10
    """At this depth, the root's being 1, every node is a digit."""
    max_arguments: int = 10
    """An operator has 2 to this many arguments, each number as likely as the others."""
    seed: int = 0
    """Any number from 0."""

    def __post_init__(self) -> None:
        lowest = {"min_length": 0, "max_length": 1, "max_depth": 1, "max_arguments": 2, "seed": 0}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value < least:
                raise UsageError(f"{name} is {value}; expected {least} or more")
            if name != "seed" and value >= 2**31:
                raise UsageError(f"{name} is {value}; expected less than 2**31")
        if self.max_length < self.min_length + 2:
            raise UsageError(
                f"no expression is longer than min_length ({self.min_length}) and shorter than max_length "
                f"({self.max_length}); raise max_length, or lower min_length"
            )


def distinct_examples(parameters: Parameters, count: int) -> Iterator[Examples]:
    """Yield `count` different expressions with their values, in parts, in the order in which they were drawn.

    Memory is one part, and eight bytes of hash (some 70 as Python keeps them) for each expression so far. DataError
    when `PATIENCE` attempts bring nothing new.
    """
    seen: set[int] = set()
    attempt = in_range = last_new = 0
    batch = max(1, min(16_384, 2_000_000 // parameters.max_length))
    while len(seen) < count:
        drawn = draw(parameters, attempt, batch)
        attempt += batch
        in_range += len(drawn)
        new = np.zeros(len(drawn), np.bool_)
        for index in range(len(drawn)):
            key = int.from_bytes(hashlib.blake2b(drawn.tokens(index).tobytes(), digest_size=8).digest())
            if key not in seen and len(seen) < count:
                seen.add(key)
                new[index] = True
        if new.any():
            last_new = attempt
            yield drawn if new.all() else drawn.where(new)
        elif attempt - last_new >= PATIENCE:
            raise DataError(_exhausted(parameters, count, len(seen), in_range))


def draw(parameters: Parameters, first: int, count: int) -> Examples:
    """Return those of the attempts `first` to `first + count - 1` whose length is in range, with their values.

    The rules: below `max_depth` a node is an operator with probability 1/4, otherwise, and always at `max_depth`, one
    of the ten digits; an operator is one of four and has 2 to `max_arguments` arguments; all choices are uniform (to
    2**-32). A digit has length 1, an operator 2 besides its arguments.
    """
    levels, lengths = _grow(parameters, first, count)
    kept = (lengths > parameters.min_length) & (lengths < parameters.max_length)
    flat, offsets = _write_out(_restrict(levels, kept), lengths[kept])
    return Examples(flat, offsets, examine(flat, offsets).values.astype(np.uint8))


def mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the 64-bit hash of each number: the finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def shuffled(seed: int, count: int) -> NDArray[np.int64]:
    """Return the numbers below `count` in an order that depends on the seed alone."""
    return np.argsort(mix(_numbered(_start(seed, "split"), np.arange(count))), kind="stable")


@dataclass(frozen=True)
class _Level:
    """The nodes of one depth, in order of trees and from left to right [M]."""

    tree: NDArray[np.int64]
    parent: NDArray[np.int64]
    """Position in the level above."""
    symbol: NDArray[np.uint8]
    arguments: NDArray[np.int64]
    """0 for a digit."""


def _start(seed: int, purpose: str) -> NDArray[np.uint64]:
    return np.array([address(seed, "listops", purpose)], np.uint64)


def _numbered(states: NDArray[np.uint64], numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    return states + (numbers.astype(np.uint64) + np.uint64(1)) * _STRIDE


def _grow(parameters: Parameters, first: int, count: int) -> tuple[list[_Level], NDArray[np.int64]]:
    """Return the levels of `count` trees, and each tree's length; a tree stops growing once it is too long."""
    keys = mix(_numbered(_start(parameters.seed, "draw"), np.arange(first, first + count)))
    tree = np.arange(count)
    parent = np.zeros(count, np.int64)
    lengths = np.ones(count, np.int64)
    levels: list[_Level] = []
    for depth in range(1, parameters.max_depth + 1):
        # Of a node's 64 bits, the two highest say whether it is an operator, the next two which, the low 32 the rest.
        low = (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
        operator = (keys >> np.uint64(62) == 0) if depth < parameters.max_depth else np.zeros(len(keys), np.bool_)
        number = 2 + (low * (parameters.max_arguments - 1) >> 32)
        arguments = np.where(operator, number, 0)
        symbol = np.where(
            operator, OPERATOR + ((keys >> np.uint64(60)) & np.uint64(3)).astype(np.int64), DIGIT + (low * 10 >> 32)
        ).astype(np.uint8)
        levels.append(_Level(tree, parent, symbol, arguments))
        lengths += np.bincount(tree, weights=arguments + operator, minlength=count).astype(np.int64)
        growing = np.flatnonzero(operator & (lengths < parameters.max_length)[tree])
        if not len(growing):
            break
        parent = np.repeat(growing, arguments[growing])
        keys = mix(_numbered(keys[parent], _count_within(arguments[growing])))
        tree = tree[parent]
    return levels, lengths


def _restrict(levels: list[_Level], kept: NDArray[np.bool_]) -> list[_Level]:
    """Return the levels with the nodes of the kept trees only, trees and parents numbered anew."""
    new_tree = np.cumsum(kept) - 1
    new_position = np.zeros(1, np.int64)
    restricted: list[_Level] = []
    for level in levels:
        mask = kept[level.tree]
        parent = new_position[level.parent[mask]] if restricted else level.parent[mask]
        restricted.append(_Level(new_tree[level.tree[mask]], parent, level.symbol[mask], level.arguments[mask]))
        new_position = np.cumsum(mask) - 1
    return restricted


def _write_out(levels: list[_Level], lengths: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the trees as token ids, one after another, and their offsets."""
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    below: list[NDArray[np.int64]] = []  # per level, the tokens inside each node
    inside = np.zeros(0, np.int64)
    for level, children in zip(reversed(levels), [None, *reversed(levels[1:])], strict=True):
        if children is None:
            inside = np.zeros(len(level.tree), np.int64)
        else:
            size = inside + 1 + (children.arguments > 0)
            inside = np.bincount(children.parent, weights=size, minlength=len(level.tree)).astype(np.int64)
        below.append(inside)
    below.reverse()

    flat = np.zeros(offsets[-1], np.uint8)
    positions = offsets[:-1]
    for depth, (level, inside) in enumerate(zip(levels, below, strict=True)):
        if depth:
            size = inside + 1 + (level.arguments > 0)
            before_level = np.cumsum(size) - size
            parents_inside = below[depth - 1]
            before_parent = np.cumsum(parents_inside) - parents_inside
            positions = positions[level.parent] + 1 + before_level - before_parent[level.parent]
        flat[positions] = level.symbol
        operators = level.arguments > 0
        flat[(positions + inside + 1)[operators]] = CLOSE
    return flat, offsets


def _count_within(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0, 1, 2 ... within each group of the given sizes."""
    return np.arange(groups.sum()) - np.repeat(np.cumsum(groups) - groups, groups)


def _exhausted(parameters: Parameters, count: int, found: int, in_range: int) -> str:
    """Return why no more expressions come, in words."""
    p = parameters
    rules = (
        f"longer than {p.min_length} and shorter than {p.max_length} tokens, max_depth {p.max_depth}, "
        f"max_arguments {p.max_arguments}"
    )
    if not in_range:
        return (
            f"{PATIENCE:,} draws gave no expression of the size asked for ({rules}); lower min_length, or raise "
            "max_length, max_depth or max_arguments"
        )
    return (
        f"only {found:,} different expressions were found, {count:,} are asked for: the last {PATIENCE:,} draws gave "
        f"nothing new ({rules}); raise max_length, max_depth or max_arguments, or ask for fewer"
    )
