"""Settings and their values as a report spells them; a value may be any text, a list or a mapping."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from quincunx.report.comparison import Estimate
from quincunx.report.markup import number
from quincunx.sweep.report.results import Goal, Results, Row

NOT_SET = "not set"
"""Said of a setting whose range does not act in a configuration."""


GENERAL = frozenset({"kind", "every", "seed", "name", "method", "size", "path"})
"""Ends of settings that say nothing without the section that they stand in."""


class RangeFact(NamedTuple):
    """What a report has to know of a range."""

    name: str
    keys: tuple[str, ...]
    """The settings as they are written; several where lists are zipped."""
    log: bool | None = None
    """Of a span, whether it is logarithmic; None: a list of values."""


@dataclass(frozen=True)
class Facts:
    """What a report says of a sweep beside its trials."""

    name: str
    dir: Path
    """The sweep's folder as a user names it: it stands in commands."""
    metric: str
    goal: Goal
    sampler: str
    pruner: str
    n_seeds: int
    ranges: tuple[RangeFact, ...]
    command: str
    """Goes on with the sweep."""
    written: str
    """When the report is written, and by which version."""
    value: Literal["best", "last"] = "best"
    """Which evaluation of a run gives its value."""
    notes: tuple[str, ...] = ()
    """Further sentences, such as what the sampler cannot do with these ranges."""


def identity(value: Any) -> str:
    """Return a text that differs for values that differ, also where only their kinds do (1, 1.0, true, "1")."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=repr)


def label(value: Any) -> str:
    """Return a value for people: words bare where nothing else is spelt so, everything else as JSON."""
    if isinstance(value, str) and value.strip() == value and value and not _is_json(value):
        return printable(value)
    if isinstance(value, float):
        return repr(value)
    return printable(identity(value))


def spelt(settings: Mapping[str, Any]) -> str:
    """Return settings on one line."""
    return ", ".join(f"{printable(key)} {label(value)}" for key, value in settings.items())


def printable(text: str) -> str:
    """Return a text on one line, without what would steer a terminal or cannot be written in UTF-8."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def gist(reason: str) -> str:
    """Return the first line of why a run ended, which says what the others explain."""
    return printable(next(iter(reason.strip().splitlines()), "").rstrip(":"))


def cut(text: str, most: int) -> str:
    """Return a text of at most so many letters."""
    return text if len(text) <= most else text[: max(1, most - 1)] + "…"


def in_order(results: Results, facts: Facts) -> list[str]:
    """Return the settings that any configuration has, in the order of the ranges."""
    given = dict.fromkeys(key for each in facts.ranges for key in each.keys)
    return [key for key in dict.fromkeys([*given, *results.keys]) if key in results.keys]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return the ends of dotted settings, as long as is needed to tell them apart."""
    found: dict[str, str] = {}
    for key in keys:
        parts = key.split(".")
        least = 2 if parts[-1] in GENERAL else 1
        ends = [".".join(parts[-count:]) for count in range(least, len(parts) + 1)]
        found[key] = next(
            (end for end in ends if end and not any(_ends(other, end) for other in keys if other != key)), key
        )
    return found


def half(estimate: Estimate | None) -> float | None:
    """Return the half width of an interval, which says how many digits a value deserves; None where it has no width."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return None
    found = (estimate.high - estimate.low) / 2
    return found if found > 1e-9 * max(abs(estimate.low), abs(estimate.high)) else None  # below it all is rounding


def with_interval(estimate: Estimate | None, *, signed: bool = False) -> str:
    """Return an estimate as text: `0.8312 [0.8290, 0.8334]`; `-` where there is none."""
    if estimate is None:
        return "-"
    digits = half(estimate)
    found = [each for each in (estimate.value, estimate.low, estimate.high) if each is not None]
    texts = [number(each, digits) for each in found]
    lost = any(each and not text.strip("-0.") for each, text in zip(found, texts, strict=True))
    if digits is not None and lost:  # a bound close to 0 is not to read as 0
        texts = [number(each, digits / 10) for each in found]
    if signed:
        texts = [text if text.startswith("-") else f"+{text}" for text in texts]
    return texts[0] if len(texts) == 1 else f"{texts[0]} [{texts[1]}, {texts[2]}]"


def sensible(values: Iterable[float], goal: Goal) -> tuple[float, float]:
    """Return the bounds of a picture of values: all of them, but for a few bad ones that would press the rest flat.

    The good end is always inside. The bad end is left out where it lies further from the best than 2.5 times the
    distance that 9 in 10 values keep. Values must be finite; without any, (0, 1).
    """
    ordered = sorted(values, reverse=goal == "max")
    if not ordered:
        return 0.0, 1.0
    best, worst = ordered[0], ordered[-1]
    usual = ordered[int(0.9 * (len(ordered) - 1))] - best
    if usual and abs(worst - best) > 2.5 * abs(usual):
        worst = best + 1.6 * usual
    low, high = min(best, worst), max(best, worst)
    if high - low <= 1e-12 * max(abs(low), abs(high)) + 1e-300:
        spare = 0.05 * abs(high) or 0.5
        return low - spare, high + spare
    return low, high


def spoken_row(row: Row, metric: str) -> str:
    """Return what is said of a configuration in one line."""
    value = "no value" if row.estimate is None else with_interval(row.estimate)
    return f"trial {row.trial} ({row.state}): {printable(metric)} {value}; {spelt(row.settings)}"


def _is_json(text: str) -> bool:
    """Tell whether a text would be taken for a number, a list or the like."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text in (NOT_SET, "-")
    return True


def _ends(key: str, end: str) -> bool:
    return key == end or key.endswith(f".{end}")
