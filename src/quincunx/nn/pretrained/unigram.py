"""Training of a unigram vocabulary (Kudo 2018, arXiv 1804.10959), the same for the same word counts.

Substrings that occur often are candidates; expectation maximisation over all segmentations of the words gives each its
probability; those that the words could best do without are dropped, until so many are left as were asked for.

W words of one length, L characters of a word, K characters of the longest piece.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LONGEST = 16
"""Characters of a piece at most."""
SEEDS = 10
"""Candidates for each piece asked for."""
KEPT = 0.75
"""Share of the pieces that a round keeps at least."""
ROUNDS = 2
"""Steps of expectation maximisation between two prunings."""
RARE = 0.5
"""Pieces expected less often are dropped; a character never, it counts at least so much."""

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass
class _Grid:
    """The words of one length, and which piece begins at each character with each number of characters."""

    counts: Floats
    """`[W]`"""
    pieces: Numbers
    """`[W, L, K]`: the piece's number; the number of pieces, for none."""


def train_unigram(words: Mapping[str, int], size: int) -> list[tuple[str, float]]:
    """Return at most `size` pieces, every character of the words among them, with the logarithms of their chances.

    Args:
        words: How often each occurs.
        size: Pieces asked for; all characters are kept even where they are more.

    Returns:
        The most likely first, equal ones by their characters.
    """
    pieces, counts = _seeds(words, size)
    while True:
        scores = np.log(counts / counts.sum())
        grids = _grids(words.items(), pieces)
        single = np.array([len(piece) == 1 for piece in pieces])
        for _ in range(ROUNDS):
            counts = _expected(grids, scores)
            counts = np.where(single, np.maximum(counts, RARE), counts)
            with np.errstate(divide="ignore"):
                scores = np.log(counts / counts.sum())
        alive = single | (counts >= RARE)
        if alive.sum() > size:
            needless = np.where(alive, counts * (scores - _without(pieces, scores)), -np.inf)
            target = max(size, int(KEPT * len(pieces)))
            best = np.argsort(-np.where(single, np.inf, needless), kind="stable")[: max(target, int(single.sum()))]
            alive[np.setdiff1d(np.arange(len(pieces)), best)] = False
        done = alive.all()
        pieces, counts = [piece for piece, lives in zip(pieces, alive, strict=True) if lives], counts[alive]
        if done:
            break
    order = sorted(range(len(pieces)), key=lambda place: (-counts[place], pieces[place]))
    scores = np.log(counts / counts.sum())
    return [(pieces[place], float(scores[place])) for place in order]


def _seeds(words: Mapping[str, int], size: int) -> tuple[list[str], Floats]:
    """Return the candidates in alphabetical order, and what each counts at first: occurrences times characters."""
    characters: Counter[str] = Counter()
    longer: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            characters[letter] += count
        for start in range(len(word) - 1):
            for end in range(start + 2, min(start + LONGEST, len(word)) + 1):
                longer[word[start:end]] += count
    often = [piece for piece, count in longer.items() if count > 1]
    often.sort(key=lambda piece: (-longer[piece] * len(piece), piece))
    pieces = sorted([*characters, *often[: SEEDS * max(size, 1)]])
    return pieces, np.array([float((characters[piece] or longer[piece]) * len(piece)) for piece in pieces])


def _grids(words: Iterable[tuple[str, int]], pieces: Sequence[str]) -> list[_Grid]:
    number = {piece: place for place, piece in enumerate(pieces)}
    longest = max(map(len, pieces))
    by_length: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
    for word, count in sorted(words):
        by_length[len(word)].append((word, count))
    grids: list[_Grid] = []
    for length, group in sorted(by_length.items()):
        width = min(length, longest)
        found = np.full((len(group), length, width), len(pieces), np.int64)
        for row, (word, _) in enumerate(group):
            for start in range(length):
                for end in range(start + 1, min(start + width, length) + 1):
                    found[row, start, end - start - 1] = number.get(word[start:end], len(pieces))
        grids.append(_Grid(np.array([float(count) for _, count in group]), found))
    return grids


def _expected(grids: Sequence[_Grid], scores: Floats) -> Floats:
    """Return how often each piece is expected, over all segmentations of all words."""
    table = np.append(scores, -np.inf)
    total = np.zeros(len(table))
    for grid in grids:
        values = table[grid.pieces]
        length, width = values.shape[1:]
        before = _forward(values, np.logaddexp.reduce)
        # the same walk from the other end: a piece that begins at s of k characters begins at L - s - k there
        turned = np.full_like(values, -np.inf)
        for start in range(length):
            for many in range(1, min(width, length - start) + 1):
                turned[:, length - start - many, many - 1] = values[:, start, many - 1]
        after = _forward(turned, np.logaddexp.reduce)[:, ::-1]
        for start in range(length):
            for many in range(1, min(width, length - start) + 1):
                chance = before[:, start] + values[:, start, many - 1] + after[:, start + many] - before[:, -1]
                total += np.bincount(
                    grid.pieces[:, start, many - 1], np.exp(chance) * grid.counts, minlength=len(table)
                )
    return total[:-1]


def _without(pieces: Sequence[str], scores: Floats) -> Floats:
    """Return the logarithm of the best segmentation of each piece into others; minus infinity for a character."""
    table = np.append(scores, -np.inf)
    best = np.full(len(pieces), -np.inf)
    for grid in _grids(((piece, 1) for piece in pieces), pieces):
        length, width = grid.pieces.shape[1:]
        values = table[grid.pieces]
        own = grid.pieces[:, 0, width - 1]
        values[:, 0, width - 1] = -np.inf  # of that length it is the piece itself
        best[own] = _forward(values, np.max)[:, length]
    return best


def _forward(values: Floats, join: object) -> Floats:
    """Return the joined scores of all segmentations of the first n characters, `[W, L + 1]`, of values `[W, L, K]`."""
    words, length, width = values.shape
    found = np.full((words, length + 1), -np.inf)
    found[:, 0] = 0
    for end in range(1, length + 1):
        ways = [found[:, end - many] + values[:, end - many, many - 1] for many in range(1, min(width, end) + 1)]
        found[:, end] = join(np.stack(ways), axis=0)  # pyright: ignore[reportCallIssue]
    return found
