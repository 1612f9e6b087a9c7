"""What a comparison of runs holds, and its forms: plain text, Markdown, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from quincunx.report.markup import number, spoken

Form = Literal["text", "markdown", "json"]

LEVEL = 0.95
"""Share of the intervals that hold the truth, if one compared again and again."""


@dataclass(frozen=True)
class Estimate:
    """A value with the bounds of its interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None
    over: Literal["seeds", "examples"] | None = None
    """What the interval is over: seeds (Student's t), or the examples of the one run (its standard error)."""


@dataclass(frozen=True)
class OneRun:
    """One run of a group."""

    path: Path
    seed: int | None
    value: float
    standard_error: float | None
    update: int
    """After how many updates it was evaluated."""
    minutes: float
    """Spent training."""
    parameters: Mapping[str, int] | None
    """`trainable` and `total`."""


@dataclass(frozen=True)
class Difference:
    """A group's values less the reference's, seed by seed."""

    against: str
    seeds: Sequence[int]
    """The seeds that both have."""
    estimate: Estimate | None
    """None without a common seed; without an interval for a single one."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed."""

    label: str
    settings: Mapping[str, Any]
    """The settings that tell this group from the others."""
    runs: Sequence[OneRun]
    """By seed."""
    estimate: Estimate
    levels: Mapping[str, float]
    """What to hold the value against: numbers of the same evaluation that no seed changes, such as an oracle's."""
    varied: Sequence[str] = ()
    """Settings in which its runs differ all the same, because `by` left them out."""
    difference: Difference | None = None

    @property
    def minutes(self) -> float:
        """Mean time spent training."""
        return fmean(run.minutes for run in self.runs)

    @property
    def parameters(self) -> Mapping[str, int] | None:
        """Numbers of parameters; None where they are unknown, or differ between the runs."""
        known = [run.parameters for run in self.runs]
        return known[0] if all(each == known[0] for each in known) else None


@dataclass(frozen=True)
class Parts:
    """One table of the evaluations, such as accuracy by depth, averaged over the seeds of each group."""

    title: str
    column: str
    rows: Sequence[tuple[Any, Any, Sequence[Estimate | None]]]
    """Name of the part, examples in it (None where they differ), and an estimate a group."""


@dataclass(frozen=True)
class LeftOut:
    """A run that is not compared."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Comparison:
    """What `compare` found."""

    metric: str
    by: Sequence[str]
    """The settings that name the groups."""
    follow: Sequence[str]
    """Settings that differ between the groups as well."""
    groups: Sequence[Group]
    left_out: Sequence[LeftOut]
    tables: Sequence[Parts] = field(default_factory=tuple)
    notes: Sequence[str] = field(default_factory=tuple)


def render(comparison: Comparison, form: Form = "text") -> str:
    """Return a comparison as plain text, Markdown or JSON; the first two end without a line break.

    ValueError for another form.
    """
    if form == "json":
        return json.dumps(_plain(comparison), indent=1, ensure_ascii=False)
    if form not in ("text", "markdown"):
        raise ValueError(f"the form is {form!r}, expected text, markdown or json")
    table = _markdown if form == "markdown" else _aligned
    blocks = [f"{comparison.metric}{_by(comparison)}", table(*_main(comparison))]
    blocks += [f"{parts.title}\n\n{table(*_part(parts, comparison))}" for parts in comparison.tables]
    blocks += ["\n".join(("- " if form == "markdown" else "") + line for line in _remarks(comparison))]
    return "\n\n".join(block for block in blocks if block)


def _by(comparison: Comparison) -> str:
    return f" by {', '.join(comparison.by)}" if comparison.by else ""


def _main(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    levels = list(dict.fromkeys(name for group in comparison.groups for name in group.levels))
    reference = next((group.difference.against for group in comparison.groups if group.difference), None)
    head = [comparison.by[0] if len(comparison.by) == 1 else "", "each seed", "mean", *map(spoken, levels)]
    head += [] if reference is None else [f"less {reference}, paired"]
    head += ["minutes per run", "parameters"]
    rows: list[list[str]] = []
    for group in comparison.groups:
        digits = _digits(group.estimate)
        row = [
            group.label,
            ", ".join(number(run.value, digits) for run in group.runs),
            _shown(group.estimate),
            *(number(group.levels[name], digits) if name in group.levels else "" for name in levels),
        ]
        if reference is not None:
            row.append(_paired(group.difference))
        row += [number(round(group.minutes, 1)), _parameters(group)]
        rows.append(row)
    return head, rows


def _part(parts: Parts, comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    head = [parts.column, "examples", *(group.label for group in comparison.groups)]
    rows = [
        [str(name), "" if count is None else number(count), *("" if each is None else _shown(each) for each in cells)]
        for name, count, cells in parts.rows
    ]
    return head, rows


def _remarks(comparison: Comparison) -> list[str]:
    kinds = {group.estimate.over for group in comparison.groups}
    percent = f"{100 * LEVEL:g} %"
    lines: list[str] = []
    if "seeds" in kinds:
        lines.append(f"[low, high]: {percent} interval of the mean over seeds (Student's t)")
    if "examples" in kinds:
        alone = ", ".join(group.label for group in comparison.groups if group.estimate.over == "examples")
        lines.append(
            f"(low, high): {percent} interval of a single run's own examples, from its standard error: it does not say "
            f"what another seed would give ({alone})"
        )
    if None in kinds:
        alone = ", ".join(group.label for group in comparison.groups if group.estimate.over is None)
        lines.append(f"no interval: a single run without a standard error ({alone})")
    for group in comparison.groups:
        if group.difference is not None and len(group.difference.seeds) < len(group.runs):
            seeds = ", ".join(map(str, group.difference.seeds)) or "none"
            lines.append(f"{group.label}: seeds in common with {group.difference.against}: {seeds}")
        if group.varied:
            lines.append(f"{group.label}: its runs differ in {', '.join(group.varied)} as well")
    if comparison.follow:
        lines.append(f"the groups differ in {', '.join(comparison.follow)} as well")
    lines += comparison.notes
    lines += [f"left out: {each.path}: {each.reason}" for each in comparison.left_out]
    return [_printable(line) for line in lines]


def _digits(estimate: Estimate) -> float | None:
    """Return the half width of an interval: what says how many digits a value deserves."""
    if estimate.low is None or estimate.high is None:
        return None
    return (estimate.high - estimate.low) / 2 or None


def _shown(estimate: Estimate, sign: str = "") -> str:
    digits = _digits(estimate)
    texts = [
        _signed(value, digits, sign) for value in (estimate.value, estimate.low, estimate.high) if value is not None
    ]
    if len(texts) == 1:
        return texts[0]
    inside = f"{texts[1]}, {texts[2]}"
    return f"{texts[0]} [{inside}]" if estimate.over == "seeds" else f"{texts[0]} ({inside})"


def _signed(value: float, digits: float | None, sign: str) -> str:
    text = number(value, digits)
    return text if text.startswith("-") or not sign else sign + text


def _paired(difference: Difference | None) -> str:
    if difference is None:
        return ""
    return "no common seed" if difference.estimate is None else _shown(difference.estimate, "+")


def _parameters(group: Group) -> str:
    found = group.parameters
    if not found or type(found.get("total")) is not int:
        return ""
    total, trainable = found["total"], found.get("trainable")
    return f"{total:,}" if trainable == total or type(trainable) is not int else f"{trainable:,} of {total:,}"


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [[_printable(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in lines)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_printable(cell).replace("|", "\\|") for cell in row) + " |" for row in lines)


def _printable(text: str) -> str:
    """Return a text without what would steer a terminal: names and settings may hold anything."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def _plain(comparison: Comparison) -> dict[str, Any]:
    found = asdict(comparison)
    for group, shown in zip(comparison.groups, found["groups"], strict=True):
        shown.update(minutes=group.minutes, parameters=group.parameters)
    found["level"] = LEVEL
    return _jsonable(found)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return str(value) if isinstance(value, Path) else value
