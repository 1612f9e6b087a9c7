"""The section `sweep` beside its config: what it refers to there, and what it leaves to it: metric and folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from quincunx.config.document import Document, Problem
from quincunx.config.load import Draft, Loaded
from quincunx.config.paths import KeyPath
from quincunx.config.schema import RecipeSchema
from quincunx.config.suggest import closest
from quincunx.sweep.reading.laying import AT
from quincunx.sweep.settings import Sweep

Goal = Literal["max", "min"]

METRIC: KeyPath = ("sweep", "metric")


def section_of(read: Draft, document: Document) -> tuple[Document, list[Problem]]:
    """Return the section alone, its references resolved in the config, and what is wrong with these."""
    section = Document({"sweep": {}})
    if not document.has(("sweep",)):
        return section, []
    whole = read.document.copy()
    whole.graft(("sweep",), document, ("sweep",))
    stages = read.stages.copy()
    before = len(stages.problems)
    resolved = stages.interpolate(whole, read.schema)
    if resolved.has(("sweep",)):
        section.graft(("sweep",), resolved, ("sweep",))
    return section, [each for each in stages.problems[before:] if each.path[:1] == ("sweep",)]


def metric_of(schema: RecipeSchema, settings: Sweep, configs: Sequence[Loaded]) -> tuple[str | None, Goal]:
    """Return what is compared, known without data; None where the recipe does not tell.

    Args:
        schema: The recipe's.
        settings: The section `sweep`.
        configs: Some of the runs' configs, at least one.
    """
    if schema.metrics is None:
        return settings.metric, settings.goal or "max"
    found = [(schema.metrics(each.config), each.config) for each in configs]
    chosen = list(dict.fromkeys(metrics.chosen(config) for metrics, config in found))
    if settings.metric is None:
        return chosen[0]
    return settings.metric, settings.goal or dict(chosen).get(settings.metric) or found[0][0].goal_of(settings.metric)


def metric_problem(
    schema: RecipeSchema, settings: Sweep, configs: Sequence[Loaded], ranges: Document, section: Document
) -> Problem | None:
    """Return why the runs cannot be compared by a metric, None where they can.

    Args:
        schema: The recipe's.
        settings: The section `sweep`.
        configs: Some of the runs' configs.
        ranges: Has the ranges at `ranges`.
        section: Has the section as it is written.
    """
    if schema.metrics is None:
        return None
    found = [(schema.metrics(each.config), each.config) for each in configs]
    if settings.metric is None:
        chosen = dict.fromkeys(metrics.chosen(config) for metrics, config in found)
        if len(chosen) < 2:
            return None
        names = " and ".join(f"{metric} ({goal})" for metric, goal in chosen)
        message = f"the configurations choose their best checkpoints by different metrics: {names}"
        return Problem("error", METRIC, ranges.mark(AT), message, "set sweep.metric to one that all of them have")
    split, _, name = settings.metric.partition("/")
    names = next((metrics.names for metrics, _ in found if name not in metrics.names), None)
    if split not in ("dev", "test") or names is None:
        return None
    near = closest(name, names)
    remedy = f"did you mean {split}/{near[0]}?" if near else f"there are: {', '.join(names)}"
    message = f"sweep.metric is {settings.metric}, which the runs do not measure"
    return Problem("error", METRIC, section.mark(METRIC, key=False), message, remedy)


def idle_beside(section: Document, configs: Sequence[Loaded]) -> list[Problem]:
    """Return a warning for each setting of the section that has no effect with these configs of runs.

    Args:
        section: Has the section as it is written.
        configs: Some of the runs' configs.
    """
    found: list[Problem] = []
    for name, acts, because in (
        ("threads", lambda compute: compute.threads is None, "the runs have compute.threads of their own"),
        ("devices", lambda compute: compute.device != "cpu", "compute.device is cpu in every run"),
    ):
        at: KeyPath = ("sweep", name)
        given = section.has(at) and section.get(at) not in (None, "auto")
        if given and not any(acts(each.config.compute) for each in configs):
            message = f"`sweep.{name}` has no effect: {because}"
            found.append(Problem("warning", at, section.mark(at), message, "leave one of the two out"))
    return found


def folder_of(settings: Sweep, read: Draft) -> Path:
    """Return the sweep's folder, by the settings of `run` as the files have them where the section names none."""
    if settings.dir is not None:
        return Path(settings.dir).expanduser()
    # not from the config: a recipe may make the folder of a run of these
    resolved = read.stages.copy().interpolate(read.document, read.schema)
    root, name, own = (
        resolved.get(("run", key)) if resolved.has(("run", key)) else None for key in ("root", "name", "dir")
    )
    if own is not None:
        return Path(f"{own}-sweep").expanduser()
    if root is not None and name is not None:
        return Path(root, name).expanduser()
    return Path(root or "runs", f"{name or read.schema.name}-sweep").expanduser()
