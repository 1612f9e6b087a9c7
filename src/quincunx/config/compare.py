"""What may differ between the config a run was started with and the one it is resumed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quincunx.config.paths import is_mapping

HARMLESS = (
    "run",
    "log",
    "checkpoint",
    "evaluate",
    "chunking",
    "data.path",
    *(f"data.{split}.{part}" for split in ("train", "dev", "test") for part in ("path", "corpus", "queries", "qrels")),
    "data.bad_row_limit",
    "data.cache",
    "loading.workers",
    "budget.stop_at",
    "compute.device",
    "compute.processes",
    "compute.threads",
    "compute.compile",
    "debug.profile",
)
"""Sections and settings that leave the weights as they are, up to the order of additions.

Data may have moved: that it is the same is told by its fingerprints.
"""

LENGTHS = ("budget.epochs", "budget.updates")
"""Harmless where the schedule does not look at the total."""


@dataclass(frozen=True)
class Difference:
    """One setting that differs."""

    path: str
    before: Any
    after: Any
    harmless: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.before!r} -> {self.after!r}"


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Return the differences between two canonical configs (plain containers), in the order of the second."""
    old, new = dict(flat(before)), dict(flat(after))
    allowed = HARMLESS + (LENGTHS if new.get("schedule.kind") in ("fixed", "exp_decay") else ())
    paths = [*new, *(path for path in old if path not in new)]
    return [
        Difference(path, old.get(path), new.get(path), within(path, allowed))
        for path in paths
        if old.get(path) != new.get(path) or type(old.get(path)) is not type(new.get(path))
    ]


def within(path: str, allowed: tuple[str, ...]) -> bool:
    """Tell whether a dotted path is one of these settings or sections, or below one."""
    return any(path == prefix or path.startswith(prefix + ".") for prefix in allowed)


def flat(node: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of nested mappings as (dotted path, value)."""
    found: list[tuple[str, Any]] = []
    for key, value in node.items():
        if is_mapping(value):
            found.extend(flat(value, f"{prefix}{key}."))
        else:
            found.append((f"{prefix}{key}", value))
    return found
