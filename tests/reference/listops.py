"""ListOps as a child would do it: one expression at a time, by recursion over nested lists."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np

from quincunx.seeds import address

NAMES = ("MIN", "MAX", "MED", "SM")
WORD = 2**64

Tree = int | tuple[str, list[Any]]


def parse(source: str) -> Tree:
    """Return the tree of a sound expression, without or with parentheses."""
    words = source.replace("(", " ").replace(")", " ").split()
    tree, rest = _parse(words)
    assert not rest
    return tree


def _parse(words: list[str]) -> tuple[Tree, list[str]]:
    if not words[0].startswith("["):
        return int(words[0]), words[1:]
    name, rest, arguments = words[0][1:], words[1:], []
    while rest[0] != "]":
        argument, rest = _parse(rest)
        arguments.append(argument)
    return (name, arguments), rest[1:]


def value(tree: Tree) -> int:
    """Return what a tree is worth."""
    if isinstance(tree, int):
        return tree
    values = [value(argument) for argument in tree[1]]
    if tree[0] == "SM":
        return sum(values) % 10
    if tree[0] == "MED":
        return int(median(values))
    if tree[0] in ("FIRST", "LAST"):
        return values[0 if tree[0] == "FIRST" else -1]
    return {"MIN": min, "MAX": max}[tree[0]](values)


def words(tree: Tree) -> list[str]:
    """Return the tokens of a tree."""
    if isinstance(tree, int):
        return [str(tree)]
    return [f"[{tree[0]}", *(word for argument in tree[1] for word in words(argument)), "]"]


def in_pairs(tree: Tree) -> str:
    """Return a tree in the official form: every application of an operator to one more argument is a pair."""
    if isinstance(tree, int):
        return str(tree)
    text = f"[{tree[0]}"
    for part in [*(in_pairs(argument) for argument in tree[1]), "]"]:
        text = f"( {text} {part} )"
    return text


def nesting(tree: Tree) -> int:
    """Return the greatest number of brackets round anything in the tree."""
    return 0 if isinstance(tree, int) else 1 + max(nesting(argument) for argument in tree[1])


def mix(word: int) -> int:
    """Two rounds of xor-shift and multiplication, and a last shift, on an unsigned 64-bit word."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % WORD
    return word ^ (word >> 31)


def child_key(key: int, number: int) -> int:
    """The word of a node's child, counted from 0."""
    return mix((key + (number + 1) * 0x9E3779B97F4A7C15) % WORD)


def draw_tree(attempt: int, max_depth: int, max_arguments: int, seed: int) -> Tree:
    """Return the tree of an attempt, however long."""
    return _draw(child_key(address(seed, "listops", "draw"), attempt), 1, max_depth, max_arguments)


def _draw(key: int, depth: int, max_depth: int, max_arguments: int) -> Tree:
    low = key % 2**32
    if depth == max_depth or key >= 2**62:
        return low * 10 // 2**32
    number = 2 + low * (max_arguments - 1) // 2**32
    arguments = [_draw(child_key(key, child), depth + 1, max_depth, max_arguments) for child in range(number)]
    return NAMES[key >> 60], arguments


def length_distribution(max_depth: int, max_arguments: int, below: int) -> np.ndarray:
    """Return the exact probability that a drawn tree has 0, 1, 2 ... `below` - 1 tokens.

    With f the generating function of lengths one level down, that of a node is
    3/4 x + 1/4 x^2 (f^2 + ... + f^m) / (m - 1).
    """
    lengths = np.zeros(below)
    lengths[1] = 1
    for _ in range(max_depth - 1):
        power, total = lengths, np.zeros(below)
        for _ in range(2, max_arguments + 1):
            power = np.convolve(power, lengths)[:below]
            total += power
        lengths = np.zeros(below)
        lengths[1] = 0.75
        lengths[2:] += 0.25 / (max_arguments - 1) * total[:-2]
    return lengths
