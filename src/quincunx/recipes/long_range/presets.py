"""Config files to start from that carry published settings, with their sources and what differs as comments."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from quincunx.config.paths import is_mapping
from quincunx.config.suggest import closest
from quincunx.config.write import scalar
from quincunx.errors import UsageError
from quincunx.recipes.long_range.published import EVERY, PRESETS, Preset, Values

__all__ = ["PRESETS", "Preset", "nested", "preset_text", "starter"]

WIDTH = 110
COPIES = {
    "text": "the IMDb reviews",
    "retrieval": "the AAN pairs (new_aan_pairs.*.tsv)",
    "image": "CIFAR-10",
}
"""Tasks that need a user's own files, and which."""


def starter(preset: str, task: str | None = None) -> str:
    """Return the config file of a preset for a task, its only one or ListOps where none is named.

    Raises:
        UsageError: There is no such preset, or it has no such task; the text lists what there is.
    """
    if preset not in PRESETS:
        near = closest(preset, PRESETS)
        hint = f"did you mean {near[0]}? " if near else ""
        names = "; ".join(f"{name} ({', '.join(each.tasks)})" for name, each in PRESETS.items())
        raise UsageError(f"there is no preset {preset!r}; {hint}presets and their tasks: {names}")
    tasks = PRESETS[preset].tasks
    chosen = next(iter(tasks)) if task is None else task.lower()
    if chosen not in tasks:
        others = ", ".join(name for name, each in PRESETS.items() if chosen in each.tasks)
        has = f"; {chosen} is in: {others}" if others else ""
        raise UsageError(f"preset {preset} has no task {task!r}, but: {', '.join(tasks)}{has}")
    return preset_text(preset, chosen)


def preset_text(name: str, task: str) -> str:
    """Return a preset as a commented YAML file in canonical form; KeyError for a preset or task that is not there."""
    preset = PRESETS[name]
    values = preset.tasks[task]
    file = preset.files.get(task)
    remarks = [
        f"Preset {name}, {task}: {preset.summary}.",
        f"Source: {preset.source}" + (f", {file}." if file else "."),
        *(f"- {note}" for note in (*preset.notes.get(EVERY, ()), *preset.notes.get(task, ()))),
        "Train it with: quincunx train FILE",
    ]
    lines = [line for remark in remarks for line in _comment(remark)]
    lines += ["recipe: long_range", f"task: {values.get('task', task)}"]
    if task in COPIES:
        lines += ["", "# data:", f"#   path: FOLDER   # where your copy of {COPIES[task]} lies"]
    idle = {path: value for path, value in values.items() if path in preset.idle}
    tree = nested({path: value for path, value in values.items() if path != "task" and path not in idle})
    return "\n".join([*lines, *_sections(tree, nested(idle)), ""])


def nested(values: Values) -> dict[str, Any]:
    """Return dotted paths and their values as nested mappings."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *sections, last = path.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return tree


def _comment(text: str) -> list[str]:
    further = "#   " if text.startswith("- ") else "# "
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent=further)


def _sections(tree: Mapping[str, Any], idle: Mapping[str, Any]) -> Iterator[str]:
    for name, section in tree.items():
        yield ""
        yield f"{name}:"
        yield from _lines(section, "  ")
        for key, value in idle.get(name, {}).items():
            yield f"  # {key}: {scalar(value)}   # has no effect beside the settings above"


def _lines(node: Mapping[str, Any], pad: str) -> Iterator[str]:
    for key, value in node.items():
        if is_mapping(value):
            yield f"{pad}{key}:"
            yield from _lines(value, pad + "  ")
        else:
            yield f"{pad}{key}: {scalar(value)}"
