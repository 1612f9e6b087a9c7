"""Finished runs side by side: grouped by the settings in which they differ, each group with its seeds.

An interval over seeds is Student's (what another seed would give); a single run has only the interval of its own
examples, and is said to. Differences are paired: the same seeds, so what a seed brings to both groups cancels out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

from quincunx.config.schema import plain
from quincunx.config.suggest import closest
from quincunx.errors import RunError, UsageError
from quincunx.metrics.intervals import student_interval
from quincunx.metrics.record import Evaluation
from quincunx.report.collect import RunData, collect, flat, is_error_of
from quincunx.report.comparison import (
    LEVEL,
    Comparison,
    Difference,
    Estimate,
    Group,
    LeftOut,
    OneRun,
    Parts,
    render,
)
from quincunx.report.curves import REFERENCE_WORDS
from quincunx.report.grouping import ABSENT, acting, chosen_apart, differing, naming, signature
from quincunx.runs import list_runs, read_json

__all__ = ["Comparison", "compare", "render", "run_folders"]


@dataclass(frozen=True)
class _Candidate:
    data: RunData
    run: OneRun
    evaluation: Evaluation
    settings: Mapping[str, Any]
    fingerprint: str


def compare(
    runs: Sequence[Path],
    metric: str = "test/accuracy",
    by: Sequence[str] | None = None,
    *,
    against: str | None = None,
    any_data: bool = False,
    tables: bool = False,
) -> Comparison:
    """Return finished runs in groups that differ in settings other than the seed, with intervals.

    Args:
        runs: Run folders, or folders that hold some directly.
        metric: `split/name` of the number that is compared, of the evaluation that stands for the run.
        by: Dotted settings that make the groups; None: all in which the runs differ.
        against: The group that the others are held against, by its label or one of its values; None: the first.
        any_data: Compare runs even though their data differs.
        tables: Average the tables of the evaluations as well.

    Raises:
        UsageError: There is no run, or no such metric, setting or group; the text says what there is.
        RunError: No run can be compared, or their data differs.
    """
    split, slash, name = metric.partition("/")
    if not slash or not split or not name:
        raise UsageError(f"the metric is {metric!r}, expected split/name, for example test/accuracy")
    candidates, left_out = _candidates(run_folders(runs), split, name)
    if not candidates:
        reasons = "\n".join(f"  {each.path}: {each.reason}" for each in left_out)
        raise RunError(f"none of the {len(left_out)} runs can be compared:\n{reasons}")
    notes = _same_data(candidates, any_data)
    settings = [each.settings for each in candidates]
    apart = differing(settings)
    named = _checked(by, candidates) if by is not None else naming(settings, apart)
    partition = named if by is not None else apart
    members = _members(candidates, partition, [path for path in apart if path not in partition], left_out)
    groups = [_group(each, named, apart, name) for each in members]
    levels = _levels(members, name)
    groups = [
        replace(group, levels={level: _scalar(each[0], level) for level in levels})
        for group, each in zip(groups, members, strict=True)
    ]
    reference = _reference(groups, against)
    groups = [group if group is reference else replace(group, difference=_paired(group, reference)) for group in groups]
    return Comparison(
        metric=metric,
        by=named,
        follow=[path for path in apart if path not in named and by is None and chosen_apart(settings, path)],
        groups=groups,
        left_out=left_out,
        tables=_parts(members, name) if tables else (),
        notes=notes,
    )


def run_folders(paths: Sequence[Path]) -> list[Path]:
    """Return the run folders that paths mean, each once: a run itself, or all runs directly in a folder, by name.

    Raises:
        UsageError: A path is no folder, or holds no run.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise UsageError(f"{path} is no folder; give run folders, or folders that hold some")
        inside = sorted((run.path for run in list_runs(path)), key=lambda run: run.name)
        if not inside:
            raise UsageError(f"{path} holds no run; give run folders, or folders that hold some")
        for run in inside:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _candidates(paths: Sequence[Path], split: str, name: str) -> tuple[list[_Candidate], list[LeftOut]]:
    candidates: list[_Candidate] = []
    left_out: list[LeftOut] = []
    for path in paths:
        data = collect(path)
        reason = _unusable(data, split, name)
        if reason is not None:
            left_out.append(LeftOut(path, reason))
            continue
        evaluated = data.chosen(split)
        assert evaluated is not None  # `_unusable` has looked
        scalars = evaluated.evaluation.scalars
        seed = data.config.get("seed")
        parameters = data.plan.get("parameters")
        run = OneRun(
            path=path,
            seed=seed if type(seed) is int else None,
            value=scalars[name],
            standard_error=scalars.get(f"{name}_se"),
            update=evaluated.update,
            minutes=data.seconds() / 60,
            parameters=parameters if isinstance(parameters, dict) else None,
        )
        candidates.append(_Candidate(data, run, evaluated.evaluation, acting(data.config), _fingerprint(path)))
    return candidates, left_out


def _unusable(data: RunData, split: str, name: str) -> str | None:
    """Return why a run cannot be compared."""
    if data.state != "finished":
        return f"it is {data.state}, at update {data.update} of {data.updates or '?'}"
    if not data.config:
        return "; ".join(data.problems) or "config.yaml is missing"
    evaluated = data.chosen(split)
    if evaluated is None:
        splits = ", ".join(data.splits()) or "nothing"
        return f"it has no evaluation of {split}; evaluated: {splits}"
    scalars = evaluated.evaluation.scalars
    if name not in scalars:
        names = ", ".join(each for each in scalars if not is_error_of(each, scalars)) or "nothing"
        return f"its evaluation of {split} has no {name}; measured: {names}"
    return None if math.isfinite(scalars[name]) else f"its {split}/{name} is {scalars[name]}"


def _fingerprint(path: Path) -> str:
    try:
        return json.dumps(read_json(path / "data.json")["fingerprints"], sort_keys=True)
    except (RunError, KeyError, TypeError):
        return ""


def _same_data(candidates: Sequence[_Candidate], any_data: bool) -> list[str]:
    """Return a note where the data of the runs differs; RunError unless that is wanted."""
    kinds: dict[str, list[str]] = {}
    for each in candidates:
        kinds.setdefault(each.fingerprint, []).append(each.run.path.name)
    if len(kinds) == 1:
        return [] if "" not in kinds else ["the runs kept no fingerprints of their data: it may differ"]
    parts = [
        f"{', '.join(names)} ({'no fingerprints kept' if not mark else f'fingerprints {mark:.60}...'})"
        for mark, names in kinds.items()
    ]
    if any_data:
        return [f"NOT the same data: {'; '.join(parts)}"]
    raise RunError(
        "the runs were not made on the same data (their data.json differ), so their results cannot be held against "
        "each other:\n  " + "\n  ".join(parts) + "\nGive runs on the same data, or allow it with --any-data"
    )


def _checked(by: Sequence[str], candidates: Sequence[_Candidate]) -> list[str]:
    known = dict.fromkeys(path for each in candidates for path, _ in flat(each.data.config))
    for path in by:
        if path not in known:
            near = closest(path, known, 3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"no run has a setting {path!r} to group by{hint}")
    return list(dict.fromkeys(by))


def _members(
    candidates: Sequence[_Candidate], partition: Sequence[str], rest: Sequence[str], left_out: list[LeftOut]
) -> list[list[_Candidate]]:
    """Return the runs of each group by seed; a second run of the same settings and seed is left out."""
    found: dict[str, dict[Any, _Candidate]] = {}
    for each in candidates:
        seeds = found.setdefault(signature(each.settings, partition), {})
        key = each.run.path if each.run.seed is None else each.run.seed
        before = seeds.setdefault(key, each)
        if before is each:
            continue
        apart = [path for path in rest if signature(each.settings, [path]) != signature(before.settings, [path])]
        if apart:
            raise UsageError(
                f"{before.run.path} and {each.run.path} are in one group and have the same seed {key}, but differ in "
                f"{', '.join(apart)}: group by that as well (--by {','.join([*partition, apart[0]])})"
            )
        left_out.append(LeftOut(each.run.path, f"it has the settings and the seed of {before.run.path}"))
    return [
        sorted(seeds.values(), key=lambda each: (each.run.seed is None, each.run.seed or 0)) for seeds in found.values()
    ]


def _group(members: Sequence[_Candidate], named: Sequence[str], apart: Sequence[str], name: str) -> Group:
    settings = {path: members[0].settings.get(path, ABSENT) for path in named}
    words = [
        plain(value) if len(settings) == 1 or path.endswith(".kind") else f"{_short(path)} {plain(value)}"
        for path, value in settings.items()
        if value is not ABSENT or len(settings) == 1
    ]
    return Group(
        label=", ".join(words) or name,
        settings=settings,
        runs=[each.run for each in members],
        estimate=_estimate([each.run.value for each in members], members[0].run.standard_error),
        levels={},
        varied=[path for path in apart if len({signature(each.settings, [path]) for each in members}) > 1],
    )


def _short(path: str) -> str:
    """Return the end of a dotted path that still says what it is about."""
    return ".".join(path.split(".")[-2:]) if path.endswith((".kind", ".every", ".seed")) else path.rpartition(".")[2]


def _estimate(values: Sequence[float], standard_error: float | None) -> Estimate:
    """Return the mean of one value a seed with its t-interval; of a single one, with that of its standard error."""
    if len(values) > 1:
        interval = student_interval(values, LEVEL)
        return Estimate(interval.value, interval.low, interval.high, "seeds")
    if standard_error is None or not math.isfinite(standard_error):
        return Estimate(values[0])
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * standard_error
    return Estimate(values[0], values[0] - half, values[0] + half, "examples")


def _scalar(candidate: _Candidate, name: str) -> float:
    return candidate.evaluation.scalars.get(name, math.nan)


def _levels(members: Sequence[Sequence[_Candidate]], metric: str) -> list[str]:
    """Return the scalars that no seed changes: what is told from groups of several runs, else over all the runs."""
    everybody = [each for group in members for each in group]
    names = [name for name in everybody[0].evaluation.scalars if name not in (metric, f"{metric}_se")]
    if len(everybody) == 1:  # nothing to tell it from but the names
        return [name for name in names if not REFERENCE_WORDS.isdisjoint(name.lower().split("_"))]
    several = [group for group in members if len(group) > 1] or [everybody]
    return [name for name in names if all(len({_scalar(each, name) for each in group}) == 1 for group in several)]


def _reference(groups: Sequence[Group], against: str | None) -> Group:
    if against is None:
        return groups[0]
    named = [
        group for group in groups if against in {f"{path}={plain(value)}" for path, value in group.settings.items()}
    ]
    # by its value alone: of the setting that comes first, should several have it
    valued = [
        [group for group in groups if plain(group.settings.get(path, ABSENT)) == against] for path in groups[0].settings
    ]
    for fits in ([group for group in groups if group.label == against], named, *valued):
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise UsageError(f"{against} is in several groups: {'; '.join(group.label for group in fits)}; name one")
    raise UsageError(f"there is no group {against!r}; groups: {'; '.join(group.label for group in groups)}")


def _paired(group: Group, reference: Group) -> Difference:
    theirs = {run.seed: run.value for run in reference.runs if run.seed is not None}
    common = {run.seed: run.value - theirs[run.seed] for run in group.runs if run.seed in theirs}
    seeds = [seed for seed in common if seed is not None]
    return Difference(reference.label, seeds, _estimate(list(common.values()), None) if common else None)


def _parts(members: Sequence[Sequence[_Candidate]], name: str) -> list[Parts]:
    """Return the tables that have a column of the metric's name, averaged over the seeds of each group."""
    titles = dict.fromkeys(table.title for group in members for each in group for table in each.evaluation.tables)
    found: list[Parts] = []
    for title in titles:
        cells: dict[Any, tuple[set[Any], list[list[tuple[float, float | None]]]]] = {}
        column = ""
        for number, group in enumerate(members):
            for table in (table for each in group for table in each.evaluation.tables if table.title == title):
                if name not in table.columns:
                    continue
                column = table.columns[0]
                for row in table.rows:
                    entry = dict(zip(table.columns, row, strict=False))
                    if not isinstance(entry.get(name), int | float):
                        continue
                    counts, values = cells.setdefault(entry[column], (set(), [[] for _ in members]))
                    counts.add(entry.get("examples"))
                    values[number].append((entry[name], entry.get("standard error")))
        rows = [
            (
                part,
                next(iter(counts)) if len(counts) == 1 else None,
                [_estimate([value for value, _ in each], each[0][1]) if each else None for each in values],
            )
            for part, (counts, values) in cells.items()
        ]
        if rows:
            found.append(Parts(title, column, rows))
    return found
