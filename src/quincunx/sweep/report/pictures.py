"""Learning curves, value against time, importance of settings, and the small intervals of the table, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean

from quincunx.report.curves import thin
from quincunx.report.draw import Axis, logarithmic_ticks, short, ticks
from quincunx.report.markup import amount, duration
from quincunx.sweep.report.importance import Importance
from quincunx.sweep.report.results import Results, Row
from quincunx.sweep.report.style import CROWDED
from quincunx.sweep.report.values import Facts, cut, printable, sensible, short_names, spelt, spoken_row

COLOURED = 12
"""Learning curves that stand out; the others are drawn faintly."""
POINTS = 30_000
"""Of all learning curves together: with many runs each is thinned."""

WIDE, TALL, LEFT, RIGHT, TOP, BOTTOM = 1040, 400, 62, 104, 12, 44
SMALL, LOW = 460, 300


@dataclass(frozen=True)
class Curve:
    """The learning curve of a configuration: the mean over its seeds, at updates that all of them have reached."""

    row: Row
    updates: Sequence[int]
    values: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]
    """The least and the most of its seeds."""


def curves_of(results: Results) -> list[Curve]:
    """Return the curves that can be drawn, in the order of the rows."""
    found = [_curve(row) for row in results.rows if row.same_as is None]
    return [curve for curve in found if curve is not None]


def learning(results: Results, facts: Facts) -> tuple[str, int] | None:
    """Return the learning curves as an SVG element and how many values lie outside of it; None without any curve.

    The best configurations, or where none is trained to its end those that came furthest, stand out.
    """
    curves = curves_of(results)
    if not curves:
        return None
    low, high = _levels(curves, facts)
    spare = 0.05 * (high - low)
    upward = Axis(low - spare, high + spare, TALL - BOTTOM, TOP)
    across = Axis(0, max(1, *(curve.updates[-1] for curve in curves)), LEFT, WIDE - RIGHT)
    outside = sum(not upward.low <= value <= upward.high for curve in curves for value in curve.values)
    most = max(20, min(400, POINTS // len(curves)))
    front = _standing_out(curves)
    many = ' class="many"' if len(curves) > CROWDED else ""
    words = f"Learning curves of {len(curves)} configurations: {facts.metric} over updates"
    parts = [
        f'<svg{many} viewBox="0 0 {WIDE} {TALL}" role="img" aria-label="{escape(printable(words))}">',
        f'<clipPath id="inside"><rect x="{LEFT}" y="{TOP}" width="{WIDE - LEFT - RIGHT + 3}" '
        f'height="{TALL - TOP - BOTTOM}"/></clipPath>',
        *_frame(across, upward, "update", facts.metric),
        '<g clip-path="url(#inside)">',
    ]
    for place, curve in reversed(list(enumerate(curves))):
        kind = f"curve v{_strength(place)}" if place < front else "faint"
        if curve.row.verdict == "best":
            kind = "curve top"
        if curve.row.verdict == "best" and len(curve.row.values) > 1:
            there = zip(curve.updates, curve.highs, strict=True)
            back = zip(reversed(curve.updates), reversed(curve.lows), strict=True)
            parts.append(f'<polygon class="spread" points="{_points([*there, *back], across, upward)}"/>')
        title = escape(cut(f"trial {curve.row.trial}: {spelt(curve.row.settings)}", 160))
        line = list(zip(*thin(curve.updates, curve.values, most), strict=True))
        if len(line) == 1:  # a single evaluation: a dash of its own, so that it can be seen
            line = [(max(0.0, line[0][0] - 0.004 * across.high), line[0][1]), line[0]]
        parts.append(
            f'<polyline class="{kind}" points="{_points(line, across, upward)}"><title>{title}</title></polyline>'
        )
    parts += ["</g>", *_ends(curves[:front], across, upward), "</svg>"]
    return "".join(parts), outside


def pareto(results: Results, facts: Facts) -> str | None:
    """Return value against seconds a run as an SVG element, the front marked; None where times are unknown."""
    rows = [row for row in results.distinct if row.seconds is not None and row.value is not None]
    if "seconds" not in results.costs or not rows:
        return None
    low, high = sensible([row.value for row in rows if row.value is not None], facts.goal)
    spare = 0.07 * (high - low)
    upward = Axis(low - spare, high + spare, LOW - BOTTOM, TOP)
    times = [row.seconds for row in rows if row.seconds is not None]
    wide = max(times) > 15 * min(times)
    first, last = (min(times) / 1.3, max(times) * 1.3) if wide else (0.0, 1.12 * max(times))
    across = Axis(first, last, LEFT, SMALL - 12, wide)
    words = f"{facts.metric} against seconds a run, of {len(rows)} configurations; on the front: " + ", ".join(
        f"trial {row.trial}" for row in rows if row.front
    )
    parts = [
        f'<svg viewBox="0 0 {SMALL} {LOW}" role="img" aria-label="{escape(printable(words))}">',
        *_frame(across, upward, "seconds a run", facts.metric, SMALL, LOW, 12),
        _stairs(rows, results.goal, across, upward),
    ]
    taken: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: (row.verdict == "best", row.front)):
        assert row.seconds is not None and row.value is not None  # as chosen above
        x, y = across.place(row.seconds), upward.place(min(max(row.value, upward.low), upward.high))
        kind = "top" if row.verdict == "best" else "front" if row.front else ""
        memory = "" if row.memory is None else f", {amount(row.memory)}"
        title = f"{spoken_row(row, facts.metric)}; {duration(row.seconds)}{memory}"
        parts.append(
            f'<circle class="one {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{5 if kind else 3.6}">'
            f"<title>{escape(cut(title, 300))}</title></circle>"
        )
        near = any(abs(x - other) < 26 and abs(y - level) < 13 for other, level in taken)
        if kind and not near:
            taken.append((x, y))
            end = x > SMALL - 50
            parts.append(
                f'<text class="halo {kind} {"left" if end else ""}" x="{x + (-8 if end else 8):.1f}" y="{y - 6:.1f}">'
                f"{row.trial}</text>"
            )
    return "".join([*parts, "</svg>"])


def bars(found: Importance) -> str:
    """Return the importance of the ranges as bars, each with the level that chance alone reaches."""
    height = 14 + 30 * len(found.shares)
    most = max(1e-9, *found.shares.values(), *found.chance.values())
    across = Axis(0, min(most, 1.5), 150, SMALL - 52)
    said = ", ".join(f"{printable(name)} {share:.0%}" for name, share in found.shares.items())
    parts = [f'<svg viewBox="0 0 {SMALL} {height}" role="img" aria-label="{escape(f"Importance: {said}")}">']
    names = short_names(list(found.shares))
    for place, (name, share) in enumerate(found.shares.items()):
        y = 8 + 30 * place
        level = across.place(min(found.chance[name], across.high))
        kind = "bar" if found.matters(name) else "bar chance"
        full = f"<title>{escape(printable(name))}</title>"
        parts.append(f'<text class="up" x="142" y="{y + 14}">{escape(cut(printable(names[name]), 21))}{full}</text>')
        width = across.place(share) - across.start
        parts.append(f'<rect class="{kind}" x="150" y="{y + 2}" width="{max(1, width):.1f}" height="16" rx="3"/>')
        parts.append(f'<line class="level" x1="{level:.1f}" x2="{level:.1f}" y1="{y - 1}" y2="{y + 21}"/>')
        parts.append(f'<text class="up" x="{SMALL - 4}" y="{y + 14}">{share:.0%}</text>')
    return "".join([*parts, "</svg>"])


def mini(row: Row, axis: Axis, best: float) -> str:
    """Return the interval of a row as a small picture, with an upright line at the best mean."""
    if row.estimate is None:
        return ""
    kind = " first" if row.verdict == "best" else " worse" if row.verdict == "worse" else ""
    place = _within(axis)
    x, line = place(row.estimate.value), place(best)
    whisker = ""
    if row.estimate.low is not None and row.estimate.high is not None:
        ends = f'x1="{place(row.estimate.low):.1f}" x2="{place(row.estimate.high):.1f}"'
        whisker = f'<line class="whisker{kind}" {ends} y1="9" y2="9"/>'
    return (
        f'<svg class="mini" viewBox="0 0 132 18" aria-hidden="true"><line class="upright" x1="{line:.1f}" '
        f'x2="{line:.1f}" y1="0" y2="18"/>{whisker}<circle class="middle{kind}" cx="{x:.1f}" cy="9" r="3.6"/></svg>'
    )


def mini_axis(results: Results, most: int) -> Axis:
    """Return the axis that the small intervals share: wide enough for so many from the best on."""
    bounds = [
        each
        for row in results.ranked[:most]
        if row.estimate is not None
        for each in (row.estimate.low, row.estimate.value, row.estimate.high)
        if each is not None
    ]
    return Axis(*sensible(bounds, results.goal), 5, 127)


def _within(axis: Axis):
    return lambda value: axis.place(min(max(value, axis.low), axis.high))


def _curve(row: Row) -> Curve | None:
    lines: list[Mapping[int, float]] = [run.values for run in row.runs if run.values]
    common = sorted(set.intersection(*(set(line) for line in lines))) if lines else []
    points = [(update, [line[update] for line in lines]) for update in common]
    points = [(update, found) for update, found in points if all(_can_be_drawn(value) for value in found)]
    if not points:
        return None
    return Curve(
        row,
        [update for update, _ in points],
        [fmean(found) for _, found in points],
        [min(found) for _, found in points],
        [max(found) for _, found in points],
    )


def _can_be_drawn(value: float) -> bool:
    return math.isfinite(value) and abs(value) < 1e300


def _levels(curves: Sequence[Curve], facts: Facts) -> tuple[float, float]:
    """Return the bounds of the picture: where curves end, and where those that stand out are after a tenth of it.

    The beginning, when nothing is learnt yet, would press the differences flat that the picture is for.
    """
    ranked = [curve for curve in curves if curve.row.rank is not None]
    ends = [curve.values[-1] for curve in ranked or curves]
    begun = 0.1 * max(curve.updates[-1] for curve in curves)
    inside = [
        value
        for curve in curves[: _standing_out(curves)]
        for update, value in zip(curve.updates, curve.values, strict=True)
        if update >= begun
    ]
    low, high = sensible(ends, facts.goal)
    return min([low, *inside]), max([high, *inside])


def _standing_out(curves: Sequence[Curve]) -> int:
    """Return how many curves from the first on stand out: ranked ones, or where there is none, those that came far."""
    ranked = sum(curve.row.rank is not None for curve in curves)
    return min(COLOURED, ranked or len(curves))


def _apart(wanted: Sequence[float], gap: float, top: float, floor: float) -> list[float]:
    """Return heights at least a gap apart and as near as can be to those wanted, which come in order, within bounds."""
    groups: list[list[float]] = []
    for height in wanted:
        groups.append([height])
        while len(groups) > 1 and _first(groups[-1], gap) < _first(groups[-2], gap) + gap * len(groups[-2]):
            last = groups.pop()
            groups[-1].extend(last)
    heights = [_first(group, gap) + gap * place for group in groups for place in range(len(group))]
    heights = [max(height, top + gap * place) for place, height in enumerate(heights)]
    last = len(heights) - 1
    return [min(height, floor - gap * (last - place)) for place, height in enumerate(heights)]


def _first(group: Sequence[float], gap: float) -> float:
    """Return where the first of a group of heights lies that is spread evenly round their mean."""
    return fmean(group) - gap * (len(group) - 1) / 2


def _strength(place: int) -> int:
    """Return the colour of a curve that stands out, stronger for a better one."""
    return 6 if place < 4 else 5 if place < 8 else 4


def _points(points: Sequence[tuple[float, float]], across: Axis, upward: Axis) -> str:
    # far outside of the picture is as good as further outside, and keeps the numbers short
    reach = upward.high - upward.low
    low, high = upward.low - reach, upward.high + reach
    return " ".join(f"{across.place(x):.1f},{upward.place(min(max(y, low), high)):.1f}" for x, y in points)


def _frame(
    across: Axis, upward: Axis, below: str, beside: str, width: int = WIDE, height: int = TALL, right: int = RIGHT
) -> list[str]:
    floor = height - BOTTOM
    parts: list[str] = []
    for value in ticks(upward.low, upward.high):
        y = upward.place(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="up" x="{LEFT - 7}" y="{y + 4:.1f}">{short(value)}</text>')
    marks = logarithmic_ticks(across.low, across.high) if across.logarithmic else ticks(across.low, across.high, 6)
    for value in marks:
        parts.append(f'<text class="along" x="{across.place(value):.1f}" y="{floor + 17}">{short(value)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{width - right}" y1="{floor}" y2="{floor}"/>')
    parts.append(f'<text class="along" x="{(LEFT + width - right) / 2:.0f}" y="{floor + 36}">{below}</text>')
    middle = (TOP + floor) / 2
    name = escape(cut(printable(beside), 40))
    parts.append(f'<text class="along" x="13" y="{middle:.0f}" transform="rotate(-90 13 {middle:.0f})">{name}</text>')
    return parts


def _ends(curves: Sequence[Curve], across: Axis, upward: Axis) -> list[str]:
    """Return the trial numbers at the ends of the curves that stand out, moved apart where they would touch."""
    wanted = sorted(
        ((upward.place(min(max(c.values[-1], upward.low), upward.high)), c) for c in curves), key=lambda each: each[0]
    )
    levels = _apart([y for y, _ in wanted], 14, TOP, TALL - BOTTOM)
    x = WIDE - RIGHT + 36
    parts: list[str] = []
    for level, (y, curve) in zip(levels, wanted, strict=True):
        end = across.place(curve.updates[-1])
        kind = " top" if curve.row.verdict == "best" else ""
        parts.append(f'<polyline class="leader" points="{end + 3:.1f},{y:.1f} {x - 2},{level:.1f}"/>')
        parts.append(f'<text class="{kind.strip()}" x="{x}" y="{level + 4:.1f}">trial {curve.row.trial}</text>')
    return parts


def _stairs(rows: Sequence[Row], goal: str, across: Axis, upward: Axis) -> str:
    """Return the best value that can be had within each time, as a line of steps."""
    points: list[tuple[float, float]] = []
    best = -math.inf
    for row in sorted(rows, key=lambda row: row.seconds or 0.0):
        value = row.value if row.value is not None else math.nan
        gain = value if goal == "max" else -value
        if gain > best:
            if points:
                points.append((row.seconds or 0.0, points[-1][1]))
            points.append((row.seconds or 0.0, value))
            best = gain
    points.append((across.high, points[-1][1]))
    return f'<polyline class="stairs" points="{_points(points, across, upward)}"/>'
