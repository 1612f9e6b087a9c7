"""A chart as an inline SVG for the page (its colours follow light and dark) and as a PNG for slides and papers."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from quincunx.report.curves import Chart, Line

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 30
SPLITS = ("train", "dev", "test")
COLOURS = ("#2f6fbf", "#c8611c", "#2a8a6a", "#8a5bb5")
"""Of train, dev, test and any other split; `style` has the page's own for light and dark."""


@dataclass(frozen=True)
class Axis:
    """Where values lie on the paper: `low` at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def colour_number(split: str) -> int:
    """Return which colour a split has, in `COLOURS` and in the style sheet."""
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)


def to_svg(chart: Chart) -> str:
    """Return a chart as an SVG element that takes its colours from the page's style sheet."""
    across, upward = _axes(chart)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)} over updates">',
        *_grid(across, upward),
    ]
    for reference in chart.references:
        if not _can_be_drawn(reference.value, chart.logarithmic):
            continue
        y = upward.place(reference.value)
        parts.append(f'<line class="reference" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="reference" x="{WIDTH - RIGHT - 2}" y="{y - 4:.1f}">{escape(reference.label)}</text>'
        )
    for line in chart.lines:
        parts.extend(_line(line, across, upward))
    if chart.mark is not None and _can_be_drawn(chart.mark.value, chart.logarithmic):
        x, y = across.place(chart.mark.update), upward.place(chart.mark.value)
        words = f"{chart.mark.label}: {chart.mark.value:.6g} at update {chart.mark.update:,}"
        parts.append(f'<line class="best" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<circle class="best c{colour_number(chart.mark.split)}" cx="{x:.1f}" cy="{y:.1f}" r="6">'
            f"<title>{escape(words)}</title></circle>"
        )
    return "".join([*parts, "</svg>"])


def to_png(chart: Chart) -> bytes:
    """Return a chart as a PNG, 1050 by 600 pixels on white."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    across, upward = _axes(chart)
    for line in chart.lines:
        colour = COLOURS[colour_number(line.split)]
        if line.role == "raw":
            axes.plot(line.updates, line.values, color=colour, alpha=0.25, linewidth=0.8, label=line.label)
            continue
        axes.plot(
            line.updates,
            line.values,
            color=colour,
            linewidth=1.8,
            label=line.label,
            marker="o" if _dotted(line) else "",
        )
        if line.errors is not None:
            lower = [value - error for value, error in zip(line.values, line.errors, strict=True)]
            upper = [value + error for value, error in zip(line.values, line.errors, strict=True)]
            axes.fill_between(line.updates, lower, upper, color=colour, alpha=0.18, linewidth=0)
    for reference, style in zip(chart.references, ("--", ":", "-.") * len(chart.references), strict=False):
        axes.axhline(reference.value, color="#666666", linewidth=1, linestyle=style, label=reference.label)
    if chart.mark is not None:
        label = f"{chart.mark.label}: {chart.mark.value:.4g} at {chart.mark.update:,}"
        colour = COLOURS[colour_number(chart.mark.split)]
        axes.plot(
            [chart.mark.update], [chart.mark.value], "o", markersize=11, fillstyle="none", color=colour, label=label
        )
    axes.set_yscale("log" if chart.logarithmic else "linear")
    axes.set_xlim(across.low, across.high)
    axes.set_ylim(upward.low, upward.high)
    # Names may hold dollar signs, which would be read as mathematics.
    axes.set_xlabel("update")
    axes.set_title(chart.title, loc="left", parse_math=False)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    for text in axes.legend(frameon=False, fontsize=8).get_texts():
        text.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart) between two bounds, at most `most` of them."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (power * factor) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * number for number in range(first, last + 1)][: most + 1]


def logarithmic_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return powers of ten between two bounds, with their double and fivefold where those are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]


def short(value: float) -> str:
    """Return a number as an axis shows it: `0.25`, `2k`, `1.5M`, `3e-05`."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if size <= abs(value) < 1e9:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def _axes(chart: Chart) -> tuple[Axis, Axis]:
    updates = [update for line in chart.lines for update in line.updates]
    across = Axis(0, max(1, chart.end, *updates), LEFT, WIDTH - RIGHT)
    values = [value for value in _all_values(chart) if _can_be_drawn(value, chart.logarithmic)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    if chart.logarithmic:
        upward = (low / 1.2, high * 1.2)
    else:
        spare = 0.06 * (high - low) if high - low > 1e-12 * abs(high) + 1e-300 else 0.1 * abs(high) + 1e-6
        upward = (low - spare, high + spare)
        if low >= 0 and upward[0] < 0:
            upward = (0.0, upward[1])
    return across, Axis(*upward, HEIGHT - BOTTOM, TOP, chart.logarithmic)


def _all_values(chart: Chart) -> Iterable[float]:
    for line in chart.lines:
        yield from line.values
        for value, error in zip(line.values, line.errors or (), strict=False):
            yield value - error
            yield value + error
    for reference in chart.references:
        yield reference.value


def _can_be_drawn(value: float, logarithmic: bool) -> bool:
    # Differences of larger values overflow; such a value is as good as infinite.
    return math.isfinite(value) and abs(value) < 1e300 and (value > 0 or not logarithmic)


def _grid(across: Axis, upward: Axis) -> Iterable[str]:
    levels = logarithmic_ticks(upward.low, upward.high) if upward.logarithmic else ticks(upward.low, upward.high)
    for value in levels:
        y = upward.place(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="up" x="{LEFT - 7}" y="{y + 4:.1f}">{short(value)}</text>'
    for value in ticks(across.low, across.high, 4):
        if value == int(value):
            x = across.place(value)
            edge = " last" if x > WIDTH - RIGHT - 16 else ""
            yield f'<text class="along{edge}" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}">{short(value)}</text>'
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'


def _line(line: Line, across: Axis, upward: Axis) -> Iterable[str]:
    colour = f"c{colour_number(line.split)}"
    if line.errors is not None:
        for stretch in _stretches(line, upward):
            band = [
                (update, value - line.errors[place], value + line.errors[place]) for place, update, value in stretch
            ]
            # A lower end at or below zero lies on the floor of a logarithmic axis; what is too large is left out.
            band = [ends for ends in band if all(_can_be_drawn(end, logarithmic=False) for end in ends[1:])]
            there = [(update, high) for update, _, high in band]
            back = [(update, low) for update, low, _ in reversed(band)]
            if len(there) > 1:
                yield f'<polygon class="band {colour}" points="{_points([*there, *back], across, upward)}"/>'
    for stretch in _stretches(line, upward):
        points = [(update, value) for _, update, value in stretch]
        if len(points) > 1:
            yield f'<polyline class="{line.role} {colour}" points="{_points(points, across, upward)}"/>'
        elif not _dotted(line):
            yield _dot(points[0], colour, across, upward)
        if _dotted(line):
            for point in points:
                yield _dot(point, colour, across, upward, f"{line.label}: {point[1]:.6g} at update {point[0]:,}")


def _dotted(line: Line) -> bool:
    return line.role == "line" and len(line.values) <= 40


def _stretches(line: Line, upward: Axis) -> list[list[tuple[int, int, float]]]:
    """Return the runs of points that can be drawn, as place in the line, update and value."""
    found: list[list[tuple[int, int, float]]] = [[]]
    for place, (update, value) in enumerate(zip(line.updates, line.values, strict=True)):
        if _can_be_drawn(value, upward.logarithmic):
            found[-1].append((place, update, value))
        elif found[-1]:
            found.append([])
    return [stretch for stretch in found if stretch]


def _points(points: Sequence[tuple[int, float]], across: Axis, upward: Axis) -> str:
    floor = upward.low
    return " ".join(f"{across.place(update):.1f},{upward.place(max(value, floor)):.1f}" for update, value in points)


def _dot(point: tuple[int, float], colour: str, across: Axis, upward: Axis, words: str = "") -> str:
    title = f"<title>{escape(words)}</title>" if words else ""
    x, y = across.place(point[0]), upward.place(point[1])
    return f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="2.6">{title}</circle>'
