"""Whether a sweep may go on in the folder of one that was begun: what may have changed since, and what may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quincunx.config.compare import LENGTHS, compare, within
from quincunx.config.wording import show
from quincunx.config.write import scalar
from quincunx.errors import RunError
from quincunx.sweep.choosing.space import canonical
from quincunx.sweep.reading.spec import Spec, restore
from quincunx.sweep.settings import Sweep

FREE = (
    "dir", "trials", "updates", "hours", "retries", "fail_fast", "workers", "devices", "threads", "storage", "lease",
)  # fmt: skip
"""Settings of `sweep` that say how far and where it runs, and not what a configuration is or is worth."""

OF_DRAWS = ("seed", "exclude")
"""Settings that a grid does without, or that only make it larger or smaller."""


def compatible(before: Mapping[str, Any], spec: Spec) -> list[str]:
    """Return what changed since a sweep was begun, in sentences.

    A grid may grow or shrink; what a sampler drew holds only for the ranges and the seed that it drew from.

    Args:
        before: The snapshot of the sweep that was begun.
        spec: The sweep that is to go on.

    Raises:
        RunError: It would not be the same sweep; with every difference that makes it another.
    """
    after = spec.snapshot()
    blocking: list[str] = []
    notes: list[str] = []
    if before["recipe"] != after["recipe"]:
        blocking.append(f"recipe: {before['recipe']} -> {after['recipe']}")
    ranged = (*before["ranged"], *after["ranged"])
    for each in compare(before["config"], after["config"]) if not blocking else ():
        if within(each.path, ranged):
            continue
        same = each.harmless and not within(each.path, LENGTHS)  # runs of different lengths are not compared
        (notes if same else blocking).append(str(each))
    grid = before["sampler"] == after["sampler"] == "grid"
    # a setting that the version before did not have stood at its default
    old, new = _over(Sweep().model_dump(by_alias=True), before["settings"]), after["settings"]
    for name in Sweep.model_fields:
        if canonical(old[name]) == canonical(new[name]):
            continue
        allowed = name in FREE or (grid and name in OF_DRAWS)
        if name == "metric" and before["metric"] == after["metric"]:
            continue  # what is unset is decided, and was decided the same
        if name == "goal" and before["goal"] == after["goal"]:
            continue
        (notes if allowed else blocking).append(f"sweep.{name}: {_shown(old[name])} -> {_shown(new[name])}")
    for name in ("metric", "goal"):
        if before[name] != after[name] and not any(each.startswith(f"sweep.{name}:") for each in blocking):
            blocking.append(f"sweep.{name}: {before[name]} -> {after[name]}")
    if canonical(list(before["ranges"].items())) != canonical(list(after["ranges"].items())):
        changed = _ranges(before, spec)
        (notes if grid else blocking).extend(changed)
    if blocking:
        raise RunError(
            f"{spec.dir} holds a sweep that was begun otherwise; going on would mix what cannot be compared:\n  "
            + "\n  ".join(blocking)
            + "\nUndo these changes, or begin another sweep with sweep.dir=FOLDER"
        )
    return notes


def _over(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {**defaults, **given, "pruning": {**defaults["pruning"], **given.get("pruning", {})}}


def _ranges(before: Mapping[str, Any], spec: Spec) -> list[str]:
    """Return how the ranges differ, in sentences; of grids by their combinations."""
    old, new = restore(before).space, spec.space
    if spec.sampler == "grid" and old.finite:
        first = {canonical(old.settings(point)) for point in old.grid()}
        second = {canonical(new.settings(point)) for point in new.grid()}
        added, gone = len(second - first), len(first - second)
        if added or gone:
            return [f"ranges: new combinations {added}, left out from now on {gone}"]
        return ["ranges: the same combinations in another order"]
    had, has = before["ranges"], spec.snapshot()["ranges"]
    names = [name for name in (*has, *had) if canonical(had.get(name)) != canonical(has.get(name))]
    changed = [f"ranges.{name}: {_shown(had.get(name))} -> {_shown(has.get(name))}" for name in dict.fromkeys(names)]
    return changed or ["ranges: another order, which the sampler goes by"]


def _shown(value: Any) -> str:
    text = scalar(value)
    return text if len(text) <= 80 else show(value)
