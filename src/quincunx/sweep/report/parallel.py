"""Parallel coordinates: an upright axis for every setting, one line a configuration, coloured by how good it is.

Lines that share a listed value are laid side by side in the order of their values, so that what a value leads to shows
as a band of colour instead of one line drawn over another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from quincunx.report.draw import Axis, logarithmic_ticks, short, ticks
from quincunx.sweep.report.results import Results, Row
from quincunx.sweep.report.style import CROWDED, STEPS
from quincunx.sweep.report.values import (
    NOT_SET,
    Facts,
    cut,
    identity,
    in_order,
    label,
    printable,
    sensible,
    short_names,
    spoken_row,
)

WIDTH, LEFT, RIGHT = 1040, 22, 96
TOP, FLOOR = 44, 330
OFF = 34
"""From the lower end of the axes down to the place of what is not set, and from there to the next such place."""
NARROWEST = 104
"""Between two axes; where there are more of them than fit, the picture grows wider and scrolls."""
MOST_PLACES = 12
"""More different numbers than this are drawn on an axis, although they were listed."""


@dataclass(frozen=True)
class Upright:
    """One axis: where each row crosses it, and what stands beside it."""

    name: str
    full: str
    heights: Mapping[int, float]
    """Trial -> y."""
    marks: Sequence[tuple[float, str]]
    """y and text."""
    off: Sequence[tuple[float, str]]
    """Places below the axis: y and text."""


def parallel(results: Results, facts: Facts) -> str | None:
    """Return the picture as an SVG element; None where there is no configuration with a setting and an end to draw.

    Drawn are ranked, pruned and failed configurations; unfinished ones have no place on the value's axis yet.
    """
    rows = [row for row in results.rows if row.state != "open" and row.settings]
    keys = [key for key in in_order(results, facts) if any(key in row.settings for row in rows)]
    if not rows:
        return None
    logs = {key: each.log for each in facts.ranges for key in each.keys}
    names = short_names(keys)
    uprights = [_setting(key, names[key], rows, logs.get(key)) for key in keys]
    uprights.append(_values(results, rows, facts))
    width = max(WIDTH, LEFT + RIGHT + NARROWEST * (len(uprights) - 1))
    step = (width - LEFT - RIGHT) / (len(uprights) - 1)
    places = [LEFT + number * step for number in range(len(uprights))]
    height = max([FLOOR, *(y for upright in uprights for y, _ in upright.off)]) + 16
    words = escape(_in_words(results, facts, len(rows), keys))
    many = ' class="many"' if len(rows) > CROWDED else ""
    parts = [f'<svg{many} viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{words}">']
    parts += [_line(upright, x) for upright, x in zip(uprights, places, strict=True)]
    colours = shades(results)
    for row in reversed(rows):  # the best one is drawn last, over all others
        kind = "top" if row.verdict == "best" else f"v{colours[row.trial]}" if row.trial in colours else _kind(row)
        points = [(x, upright.heights[row.trial]) for upright, x in zip(uprights, places, strict=True)]
        title = escape(cut(spoken_row(row, facts.metric), 300))
        parts.append(f'<path class="way {kind}" d="{_way(points)}"><title>{title}</title></path>')
    for upright, x in zip(uprights, places, strict=True):
        parts += _texts(upright, x, step)
    return "".join([*parts, "</svg>"])


def shades(results: Results) -> dict[int, int]:
    """Return the colour of each ranked trial, from 0 for the worst part to the last of the ramp for the best.

    By rank and not by value, so that one bad value does not leave all others the same.
    """
    ranked = results.ranked
    return {
        row.trial: STEPS - 1 - min(STEPS - 1, ((row.rank or 1) - 1) * STEPS // max(1, len(ranked))) for row in ranked
    }


def _setting(key: str, name: str, rows: Sequence[Row], log: bool | None) -> Upright:
    having = [row for row in rows if key in row.settings]
    values = [row.settings[key] for row in having]
    numeric = all(map(_is_number, values))
    # in the order of the trials, which for a grid is that of the list
    different = {identity(row.settings[key]): row.settings[key] for row in sorted(having, key=lambda row: row.trial)}
    if numeric and (log is not None or len(different) > MOST_PLACES):
        place, marks = _scale([float(value) for value in values], log)
        heights = {row.trial: place(float(row.settings[key])) for row in having}
    else:
        ordered = sorted(different, key=lambda one: float(different[one])) if numeric else list(different)[::-1]
        heights, marks = _listed(key, ordered, having, different)
    without = [row for row in rows if key not in row.settings]
    off: list[tuple[float, str]] = []
    if without:
        off.append((FLOOR + OFF, NOT_SET))
        heights = {**heights, **_side_by_side(without, FLOOR + OFF, 7)}
    return Upright(name, key, heights, marks, off)


def _scale(values: Sequence[float], log: bool | None) -> tuple[Callable[[float], float], list[tuple[float, str]]]:
    """Return where numbers lie on an axis of their own, and its marks."""
    low, high = min(values), max(values)
    logarithmic = low > 0 and (log or (log is None and high >= 30 * low))
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        return (lambda value: (TOP + FLOOR) / 2), [((TOP + FLOOR) / 2, short(low))]
    axis = Axis(low, high, FLOOR, TOP, bool(logarithmic))
    found = logarithmic_ticks(low, high) if logarithmic else ticks(low, high)
    if len(found) < 2:  # no round number or one only lies between: the ends say more
        found = [low, high]
    return axis.place, [(axis.place(value), short(value)) for value in found]


def _listed(
    key: str, ordered: Sequence[str], rows: Sequence[Row], different: Mapping[str, Any]
) -> tuple[dict[int, float], list[tuple[float, str]]]:
    """Return where rows cross the axis of a listed setting, and its marks: evenly spaced, from the floor up."""
    gap = (FLOOR - TOP) / max(1, len(ordered) - 1)
    heights: dict[int, float] = {}
    marks: list[tuple[float, str]] = []
    every = math.ceil(13 / gap)  # beyond about two dozen values not every one can have its text
    for number, one in enumerate(ordered):
        y = (TOP + FLOOR) / 2 if len(ordered) == 1 else FLOOR - number * gap
        heights |= _side_by_side([row for row in rows if identity(row.settings[key]) == one], y, min(14, 0.36 * gap))
        if number % every == 0:
            marks.append((y, label(different[one])))
    return heights, marks


def _side_by_side(rows: Sequence[Row], middle: float, spread: float) -> dict[int, float]:
    """Return heights round a middle, from the best row at the top to the worst; rows come in that order."""
    width = min(spread, 1.5 * (len(rows) - 1))
    return {
        row.trial: middle - width + (2 * width * number / (len(rows) - 1) if len(rows) > 1 else 0)
        for number, row in enumerate(rows)
    }


def _values(results: Results, rows: Sequence[Row], facts: Facts) -> Upright:
    """Return the axis of the value, good above, with a place for what has no value of a whole training."""
    ranked = {row.trial: row.value for row in rows if row.rank is not None and row.value is not None}
    low, high = sensible(ranked.values(), facts.goal)
    axis = Axis(low, high, *((FLOOR, TOP) if facts.goal == "max" else (TOP, FLOOR)))
    heights = {trial: axis.place(min(max(value, low), high)) for trial, value in ranked.items()}
    marks = [(axis.place(value), short(value)) for value in ticks(low, high)] if ranked else []
    if any(not low <= value <= high for value in ranked.values()):
        marks = [(y, text) for y, text in marks if y < FLOOR - 12]
        marks.append((FLOOR, f"{short(low if facts.goal == 'max' else high)} or worse"))
    off: list[tuple[float, str]] = []
    groups = {state: [row for row in rows if row.rank is None and row.state == state] for state in ("pruned", "failed")}
    groups["no value"] = [row for row in rows if row.rank is None and row.state == "done"]
    for words, found in groups.items():
        if found:
            y = FLOOR + OFF * (len(off) + 1)
            off.append((y, words))
            heights |= _side_by_side(found, y, 7)
    return Upright(facts.metric, facts.metric, heights, marks, off)


def _kind(row: Row) -> str:
    return "failed" if row.state == "failed" else "pruned"


def _line(upright: Upright, x: float) -> str:
    found = f'<line class="upright" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{FLOOR}"/>'
    if upright.off:
        last = max(y for y, _ in upright.off)
        found += f'<line class="upright off" x1="{x:.1f}" x2="{x:.1f}" y1="{FLOOR}" y2="{last:.1f}"/>'
    return found


def _texts(upright: Upright, x: float, step: float) -> Iterable[str]:
    letters = max(6, int(min(step, 190) / 7.2))
    side = "left" if x < LEFT + 1 else "middle"
    anchor = "" if side == "left" else " middle"
    start = 2 if side == "left" else x
    yield (
        f'<text class="name{anchor}" x="{start:.1f}" y="{TOP - 22}">{escape(cut(printable(upright.name), letters))}'
        f"<title>{escape(printable(upright.full))}</title></text>"
    )
    for kind, texts in (("", upright.marks), (" off", upright.off)):
        for y, text in texts:
            whole = f"<title>{escape(text)}</title>" if len(text) > letters else ""
            yield f'<text class="halo{kind}" x="{x + 7:.1f}" y="{y + 4:.1f}">{escape(cut(text, letters))}{whole}</text>'


def _way(points: Sequence[tuple[float, float]]) -> str:
    """Return a smooth line through points, level where it crosses an axis."""
    parts = [f"M{points[0][0]:.0f} {points[0][1]:.1f}"]
    for (before, start), (after, end) in pairwise(points):
        middle = (before + after) / 2
        parts.append(f"C{middle:.0f} {start:.1f} {middle:.0f} {end:.1f} {after:.0f} {end:.1f}")
    return "".join(parts)


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e300
    )


def _in_words(results: Results, facts: Facts, count: int, keys: Sequence[str]) -> str:
    said = f"Parallel coordinates of {count} configurations: {', '.join(map(printable, keys))}, {facts.metric}."
    return said if results.best is None else f"{said} Best: {spoken_row(results.best, facts.metric)}."
