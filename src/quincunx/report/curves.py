"""Which curves a report shows, as plain data: lines over updates, smoothed and thinned, with the best one marked."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from quincunx.report.collect import RunData, Series, is_error_of

BEST = "best"
MOST_POINTS = 800
"""Longer lines are thinned to about so many points; highs and lows stay."""

REFERENCE_WORDS = frozenset({"baseline", "chance", "majority", "oracle"})
"""An evaluation's constant with one of these words in its name is a level to compare with, not a curve."""

Role = Literal["raw", "line"]


@dataclass(frozen=True)
class Line:
    """One line of a chart; a nan interrupts it."""

    label: str
    split: str
    updates: Sequence[int]
    values: Sequence[float]
    role: Role = "line"
    """`raw` is drawn faintly behind the others."""
    errors: Sequence[float] | None = None
    """Standard errors, drawn as a band."""


@dataclass(frozen=True)
class Mark:
    """A point that stands out."""

    label: str
    split: str
    update: int
    value: float


@dataclass(frozen=True)
class Reference:
    """A level that the lines are held against, such as an oracle's."""

    label: str
    value: float


@dataclass(frozen=True)
class Chart:
    """One picture."""

    title: str
    lines: Sequence[Line]
    mark: Mark | None = None
    references: Sequence[Reference] = field(default_factory=tuple)
    logarithmic: bool = False
    notes: Sequence[str] = field(default_factory=tuple)
    """What a reader has to know beside the picture, such as values that are not finite."""
    end: int = 0
    """Update at which the picture ends at the least, so that all pictures of a run end alike."""

    @property
    def file_name(self) -> str:
        """Name for a file, without its ending."""
        return re.sub(r"[^A-Za-z0-9_.-]+", "-", self.title).strip("-.") or "metric"


def charts(data: RunData) -> list[Chart]:
    """Return the charts of a run: loss, the metric that chose the best, other evaluations, learning rate, the rest."""
    names = dict.fromkeys(name for _, name in data.series)
    shown = [name for name in names if not (_is_band(name, data) or _repeats_loss(name, data) or _is_level(name, data))]
    best = data.summary.get("best")
    chosen = best["metric"].partition("/")[2] if best else ""

    def rank(name: str) -> int:
        evaluated = any(series.split != "train" for series in data.series.values() if series.name == name)
        order = [name == "loss", name == chosen, evaluated and not _is_rate(name), _is_rate(name), True]
        return order.index(True)

    found: list[Chart] = []
    for name in sorted(shown, key=rank):
        chart = _chart(name, data)
        taken = {other.file_name for other in found}
        if chart.file_name in taken:  # two names that only differ in signs which file names cannot have
            chart = replace(chart, title=f"{name} {len(found)}")
        found.append(chart)
    return found


def smooth(values: Sequence[float], span: float) -> list[float]:
    """Return a mean over about `span` neighbours, nearer ones weighing more, past and future alike: it does not lag.

    Values that are not finite are left out of the mean, and stay nan in the result.
    """
    keep = 1 - 2 / max(2.0, span)
    ahead = _decaying_sums(values, keep)
    behind = _decaying_sums(values[::-1], keep)[::-1]
    smoothed: list[float] = []
    for value, (one, one_weight), (other, other_weight) in zip(values, ahead, behind, strict=True):
        if math.isfinite(value):
            smoothed.append((one + other - value) / (one_weight + other_weight - 1))  # the value itself is in both
        else:
            smoothed.append(math.nan)
    return smoothed


def smoothing_span(series: Series) -> float:
    """Return over how many points a training curve is smoothed."""
    return max(6.0, len(series.values) / 25)


def _decaying_sums(values: Sequence[float], keep: float) -> list[tuple[float, float]]:
    total = weight = 0.0
    sums: list[tuple[float, float]] = []
    for value in values:
        finite = math.isfinite(value)
        total = keep * total + (value if finite else 0.0)
        weight = keep * weight + finite
        sums.append((total, weight))
    return sums


def thin(updates: Sequence[int], values: Sequence[float], most: int = MOST_POINTS) -> tuple[list[int], list[float]]:
    """Return at most about `most` points of a line: the lowest and highest of every stretch, and both ends."""
    if len(values) <= most:
        return list(updates), list(values)
    stretch = math.ceil(2 * len(values) / most)
    kept = {0, len(values) - 1}
    for start in range(0, len(values), stretch):
        places = range(start, min(start + stretch, len(values)))
        finite = [place for place in places if math.isfinite(values[place])]
        if len(finite) < len(places):
            kept.add(next(place for place in places if not math.isfinite(values[place])))
        if finite:
            kept.add(min(finite, key=values.__getitem__))
            kept.add(max(finite, key=values.__getitem__))
    places = sorted(kept)
    return [updates[place] for place in places], [values[place] for place in places]


def _chart(name: str, data: RunData) -> Chart:
    lines: list[Line] = []
    notes: list[str] = []
    for series in _in_order(data, name):
        lines.extend(_lines(series, data))
        if _is_smoothed(series):
            notes.append(f"Smoothed over about {smoothing_span(series):.0f} neighbouring points.")
        strange = sum(not math.isfinite(value) for value in series.values)
        if strange:
            notes.append(f"{strange} of {len(series.values)} values of {series.split}/{name} are not finite.")
    drawn = [value for line in lines for value in line.values if math.isfinite(value)]
    mark = _mark(name, data)
    references = _references(data) if mark is not None and mark.label == BEST else []
    return Chart(name, lines, mark, references, _wants_logarithm(name, drawn), notes, data.update)


def _in_order(data: RunData, name: str) -> list[Series]:
    order = {"train": 0, "dev": 1, "test": 2}
    found = [series for series in data.series.values() if series.name == name]
    return sorted(found, key=lambda series: order.get(series.split, 3))


def _lines(series: Series, data: RunData) -> list[Line]:
    if _is_smoothed(series):
        span = smoothing_span(series)
        raw = Line(series.split, series.split, *thin(series.updates, series.values), role="raw")
        mean = thin(series.updates, smooth(series.values, span))
        return [raw, Line(f"{series.split}, smoothed", series.split, *mean)]
    band = data.series.get((series.split, f"{series.name}_se"))
    if band is not None and band.updates == series.updates and len(series.values) <= MOST_POINTS:
        return [Line(series.split, series.split, series.updates, series.values, errors=band.values)]
    return [Line(series.split, series.split, *thin(series.updates, series.values))]


def _is_smoothed(series: Series) -> bool:
    return series.split == "train" and not _is_rate(series.name) and len(series.values) >= 10


def _mark(name: str, data: RunData) -> Mark | None:
    best = data.summary.get("best")
    if best is None:
        return None
    split = best["metric"].partition("/")[0]
    series = data.series.get((split, name))
    if series is None or best["update"] not in series.updates:
        return None
    value = series.values[series.updates.index(best["update"])]
    if not math.isfinite(value):
        return None
    label = BEST if best["metric"] == f"{split}/{name}" else "at the best checkpoint"
    return Mark(label, split, best["update"], value)


def _is_band(name: str, data: RunData) -> bool:
    return is_error_of(name, {other: 0.0 for _, other in data.series})


def _repeats_loss(name: str, data: RunData) -> bool:
    # The only term of an objective is its loss: one picture of it is enough.
    found = [series for series in data.series.values() if series.name == name]
    loss = data.series.get(("train", "loss"))
    return (
        name != "loss"
        and loss is not None
        and len(found) == 1
        and found[0].split == "train"
        and (found[0].values == loss.values)
    )


def _is_level(name: str, data: RunData) -> bool:
    if REFERENCE_WORDS.isdisjoint(re.split(r"[^a-z]+", name.lower())):
        return False
    return all(len(set(series.values)) == 1 for series in data.series.values() if series.name == name)


def _references(data: RunData) -> list[Reference]:
    best = data.summary.get("best")
    split = best["metric"].partition("/")[0] if best else ""
    return [
        Reference(name.replace("_", " "), series.values[-1])
        for (where, name), series in data.series.items()
        if where == split and _is_level(name, data) and math.isfinite(series.values[-1])
    ]


def _is_rate(name: str) -> bool:
    return name.startswith("learning_rate")


def _wants_logarithm(name: str, values: Sequence[float]) -> bool:
    # A spike that is far above everything else would press the rest of a linear picture flat.
    if not values or _is_rate(name) or min(values) <= 0:
        return False
    return max(values) > 50 * statistics.median(values)
