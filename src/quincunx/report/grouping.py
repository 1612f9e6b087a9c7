"""By which settings runs are told apart: those that matter and act, named by as few of them as will do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from quincunx.config.fields import settings_of
from quincunx.config.paths import dotted
from quincunx.config.schema import lookup
from quincunx.recipes import RECIPES, schema_of
from quincunx.report.collect import flat

Settings = Mapping[str, Any]
"""A run's settings by dotted path."""

NO_MATTER = (
    "seed",
    "run",
    "log",
    "checkpoint",
    "chunking",
    "data.path",
    "data.cache",
    "loading.workers",
    "evaluate.batch_size",
    "compute.device",
    "compute.threads",
    "compute.compile",
    "debug.profile",
)
"""Sections and settings that make no experiment another one: same weights up to the order of additions. That data at
another place is the same is told by its fingerprints."""

ABSENT = "-"
"""Stands for a setting that a run does not have, or that has no effect in it."""


def acting(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a resolved config without those that have no effect beside its others.

    Which these are is known for configs of our recipes; of one that no longer fits its recipe, every setting counts.
    """
    settings = dict(flat(config))
    recipe = config.get("recipe")
    if recipe not in RECIPES:
        return settings
    schema = schema_of(recipe)
    try:
        found = schema.config.model_validate(config)
    except ValidationError:  # of another version
        return settings
    idle: list[str] = []
    for path, setting in settings_of(schema.config).items():
        if any(not condition.test(found) for condition in setting.conditions):
            idle.append(dotted(path))
        if setting.rows is not None:
            chosen = lookup(found, setting.rows.path) or setting.rows.unset
            table = dotted(path)
            idle.extend(each for each in settings if _within(each, table) and not _within(each, f"{table}.{chosen}"))
    return {path: value for path, value in settings.items() if not any(_within(path, each) for each in idle)}


def _within(path: str, section: str) -> bool:
    return path == section or path.startswith(f"{section}.")


def signature(settings: Settings, paths: Sequence[str]) -> str:
    """Return a text that is the same for runs with the same values at these paths."""
    return json.dumps([settings.get(path, ABSENT) for path in paths], sort_keys=True, default=str)


def differing(runs: Sequence[Settings]) -> list[str]:
    """Return the settings that matter in which runs differ, in the order of the config."""
    paths = dict.fromkeys(path for settings in runs for path in settings)
    return [
        path
        for path in paths
        if not any(_within(path, each) for each in NO_MATTER)
        and len({signature(settings, [path]) for settings in runs}) > 1
    ]


def chosen_apart(runs: Sequence[Settings], path: str) -> bool:
    """Tell whether runs in which a setting acts have different values of it; where it acts in one only, it follows."""
    return len({signature(settings, [path]) for settings in runs if path in settings}) > 1


def naming(runs: Sequence[Settings], paths: Sequence[str]) -> list[str]:
    """Return few of the paths that tell apart as many groups as all of them; the others follow from these.

    Each one chosen splits the most; a word says more than a number, and an earlier setting goes before a later one.
    """

    def count(among: Sequence[str]) -> int:
        return len({signature(settings, among) for settings in runs})

    chosen: list[str] = []
    while count(chosen) < count(paths):
        rest = [path for path in paths if path not in chosen]
        worded = {path: all(isinstance(settings.get(path, ABSENT), str) for settings in runs) for path in rest}
        chosen.append(max(rest, key=lambda path: (count([*chosen, path]), worded[path])))
    return [path for path in paths if path in chosen]
