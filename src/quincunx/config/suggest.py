"""Did you mean: the known key that somebody who wrote an unknown one most likely had in mind.

Looks first at the level where the key stands, then over the whole tree, because a right key in the wrong section is as
common as a misspelt one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quincunx.config.paths import KeyPath, dotted, is_mapping


def distance(one: str, other: str, limit: int) -> int | None:
    """Return the number of insertions, deletions, replacements and swaps of neighbours between two words.

    None when it is more than `limit`; most pairs are told apart by their lengths and letters alone.
    """
    if abs(len(one) - len(other)) > limit:
        return None
    letters = Counter(one)
    letters.subtract(other)
    if max(sum(n for n in letters.values() if n > 0), -sum(n for n in letters.values() if n < 0)) > limit:
        return None
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, row, above = row, [i], before
        for j, against in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != against))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against:
                cost = min(cost, above[j - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return None
    return row[-1] if row[-1] <= limit else None


def closest(word: str, candidates: Iterable[str], count: int = 1) -> list[str]:
    """Return the candidates most like a word, the best first; empty when none is like it."""
    ranked: list[tuple[int, int, str]] = []
    for position, candidate in enumerate(dict.fromkeys(candidates)):
        rank = _rank(word, candidate)
        if rank is not None:
            ranked.append((rank, position, candidate))
    return [candidate for _, _, candidate in sorted(ranked)[:count]]


def _rank(word: str, candidate: str) -> int | None:
    """Return how unlike two keys are (0: but for case and separators), None for too unlike."""
    one, other = _letters(word), _letters(candidate)
    if not one or not other:
        return None
    edits = distance(one, other, min(3, max(len(one), len(other)) // 3))
    if edits is not None:
        return edits
    tokens = candidate.lower().replace("-", "_").split("_")
    parts = word.lower().replace("-", "_").split("_")
    if len(one) > 2 and set(parts) < set(tokens):
        return 4
    if len(tokens) > 1 and one == "".join(token[:1] for token in tokens):
        return 4
    return None


def _letters(word: str) -> str:
    return "".join(letter for letter in word.lower() if letter not in "-_ .")


@dataclass(frozen=True)
class Vocabulary:
    """Every key that is known, present and older, by level and by last word."""

    levels: Mapping[KeyPath, tuple[str, ...]]
    """The keys of each level."""
    homes: Mapping[str, tuple[tuple[KeyPath, KeyPath], ...]]
    """Last key -> the paths that end in it, each as (written, present); the same twice for a present one."""
    blocks: frozenset[str]
    """Root keys that only older names have: inside them the older names are suggested."""

    @classmethod
    def of(cls, present: Iterable[KeyPath], older: Iterable[tuple[KeyPath, KeyPath]]) -> Vocabulary:
        """Build from the present paths and the (older, present) pairs."""
        present, older = list(present), list(older)
        levels: dict[KeyPath, dict[str, None]] = {}
        homes: dict[str, list[tuple[KeyPath, KeyPath]]] = {}
        for written, path in [*((path, path) for path in present), *older]:
            for end in range(1, len(written) + 1):
                levels.setdefault(written[: end - 1], {}).setdefault(str(written[end - 1]))
            if not str(written[-1]).startswith("_"):
                homes.setdefault(str(written[-1]), []).append((written, path))
        return cls(
            {path: tuple(keys) for path, keys in levels.items()},
            {key: tuple(paths) for key, paths in homes.items()},
            frozenset(str(written[0]) for written, _ in older) - {str(path[0]) for path in present},
        )

    def knows(self, path: KeyPath) -> bool:
        """Tell whether a path is a known setting or section, under its present or an older name."""
        return bool(path) and str(path[-1]) in self.levels.get(path[:-1], ())

    def advise(self, path: KeyPath, value: Any = None) -> str:
        """Return what to write in place of an unknown key, as one sentence; "" when nothing is like it."""
        key, level = str(path[-1]), path[:-1]
        near = closest(key, self.levels.get(level, ()))
        if near and (_rank(key, near[0]) or 0) <= 1:
            return f"did you mean `{near[0]}`?"
        if key in self.homes:
            return self._belongs(key, level)
        if near:
            return f"did you mean `{near[0]}`?"
        far = closest(key, self.homes)
        if far:
            return f"did you mean {_either([f'`{dotted(path)}`' for path in self._present(far[0], level)])}?"
        if is_mapping(value):
            strays = [str(key) for key in value if key in self.homes][:3]
            if strays:
                return "; ".join(self._belongs(key, (*level, key)) for key in strays)
        return ""

    def _belongs(self, key: str, level: KeyPath) -> str:
        homes = [path[:-1] for path in self._present(key, level) if path[-1] == key]
        if not homes:
            written, present = self.homes[key][0]
            return f"`{dotted(written)}` is an older name: write `{dotted(present)}`"
        places = [f"under `{dotted(home)}`" if home else "at the root" for home in homes[:4]]
        return f"`{key}` belongs {_either(places)}"

    def _present(self, key: str, level: KeyPath) -> list[KeyPath]:
        """Return the paths that end in a key: as the guide writes them inside a guide's block, else present ones."""
        homes = self.homes[key]
        written = [written for written, _ in homes if written[0] in self.blocks]
        if level and level[0] in self.blocks and written:
            return written
        present = [written for written, path in homes if written == path]
        return present or list(dict.fromkeys(path for _, path in homes))


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
