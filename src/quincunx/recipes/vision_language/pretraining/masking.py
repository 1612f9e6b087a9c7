"""Words hidden from a text: as spans by their markers (T5, Raffel et al. 2020), or by masks (BART, Lewis et al. 2020).

    a red cube left of a ball      picks 1 2 5
    T5      a <extra_id_0> left of <extra_id_1> ball      <extra_id_0> red cube <extra_id_1> a <extra_id_2>
    BART    a <mask> left of <mask> ball                  a red cube left of a ball

This is the form of VL-T5 (Cho et al., ICML 2021): whole words, a share of them and at least one, neighbours one span.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST_SPANS = 99
"""There are 100 markers, and one closes the target."""
_SLACK = 1e-9
"""What the product of a share and a number may fall short by rounding."""


def marker(number: int) -> str:
    """Return the word that stands for a span, from 0."""
    return f"<extra_id_{number}>"


def picks(count: int, rate: float, draw: np.random.Generator) -> list[int]:
    """Return which of `count` things are hidden, in order: a share of them, rounded down, and at least one."""
    number = max(1, int(rate * count + _SLACK))
    return sorted(draw.permutation(count)[:number].tolist())


def spans(hidden: Sequence[int]) -> list[tuple[int, int]]:
    """Return runs of neighbours among ascending numbers, each from its first to beyond its last; at most 99."""
    found: list[tuple[int, int]] = []
    for number in hidden:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found[:MOST_SPANS]


def hide(words: Sequence[str], hidden: Sequence[tuple[int, int]], masks: Sequence[str]) -> str:
    """Return the text with one mask in the place of each span."""
    parts: list[str] = []
    end = 0
    for (start, stop), mask in zip(hidden, masks, strict=True):
        parts += [*words[end:start], mask]
        end = stop
    return " ".join([*parts, *words[end:]])


def hide_by_markers(words: Sequence[str], hidden: Sequence[tuple[int, int]]) -> tuple[str, str]:
    """Return the text with markers, and the hidden words behind theirs, closed by one marker more."""
    markers = [marker(number) for number in range(len(hidden) + 1)]
    parts: list[str] = []
    for (start, stop), word in zip(hidden, markers[:-1], strict=True):
        parts += [word, *words[start:stop]]
    return hide(words, hidden, markers[:-1]), " ".join([*parts, markers[-1]])


def hide_by_mask(words: Sequence[str], hidden: Sequence[tuple[int, int]], mask: str) -> tuple[str, str]:
    """Return the text with the mask for each span, and the whole text."""
    return hide(words, hidden, [mask] * len(hidden)), " ".join(words)
