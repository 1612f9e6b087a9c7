"""Mining's rules one candidate at a time, as the documentation states them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def splitmix(number: int, seed: int) -> int:
    """The hash of Steele, Lea and Flood (2014) of a number under a seed."""
    word = (seed + (number + 1) * 0x9E3779B97F4A7C15) % 2**64
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
    return word ^ (word >> 31)


def cause(candidate: dict[str, Any], before: Sequence[dict[str, Any]], lowest: float, rules: Any) -> str | None:
    """What drops a candidate; None for nothing. `before` are those of better ranks."""
    score = candidate["score"]
    if candidate["known"]:
        return "known"
    if candidate["empty"]:
        return "empty"
    if any(other["content"] == candidate["content"] for other in before):
        return "copy"
    if rules.agree is not None and not rules.keep_suspects and candidate["votes"] >= rules.agree:
        return "suspected"
    if rules.max_score is not None and not score <= rules.max_score:
        return "max_score"
    if rules.margin is not None and not score <= lowest - rules.margin:
        return "margin"
    if rules.relative_margin is not None and not score <= lowest - rules.relative_margin * abs(lowest):
        return "relative_margin"
    if rules.min_score is not None and not score >= rules.min_score:
        return "min_score"
    return None


def chosen(query: int, free: Sequence[tuple[int, float, int]], num: int, sampling: str, seed: int) -> list[int]:
    """The columns of a query's negatives, of (column, hardness, content) that are free; `seed` of the draw."""
    hardest = sorted(free, key=lambda one: (-one[1], one[0]))
    if sampling == "top":
        return [column for column, _, _ in hardest[:num]]
    of_query = splitmix(query, seed)
    race: list[tuple[float, int]] = []
    for place, (_, _, content) in enumerate(hardest, start=1):
        uniform = ((splitmix(content, of_query) >> 11) + 0.5) / 2**53
        weight = 1 / place if sampling == "weighted" else 1.0
        race.append((-math.log(uniform) / weight, place))
    places = sorted(place for _, place in sorted(race)[:num])
    return [hardest[place - 1][0] for place in places]
