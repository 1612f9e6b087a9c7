"""The model card of an exported model, in Markdown: what it is, data, settings, measures, commands; all of it read from
the run's folder, so that nothing stands in it that the run did not write down.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quincunx.errors import RunError
from quincunx.report.collect import RunData, collect
from quincunx.report.kept import METRICS
from quincunx.report.markup import number
from quincunx.runs import read_json, read_lines


@dataclass(frozen=True)
class Exported:
    """What the run folder does not know: what was exported, how, and how it is used."""

    command: Sequence[str]
    """That exported it."""
    format: str
    checkpoint: str
    """Name of the checkpoint's folder."""
    update: int
    """Updates after which it was saved."""
    facts: Mapping[str, str]
    """What the model is, name by name."""
    usage: str
    """Python that loads the folder and calls the model."""
    notes: Sequence[str] = ()
    """On what was compared."""
    head: Mapping[str, Any] = field(default_factory=dict)
    """Entries of the card's own head that hubs read, such as `library_name`."""


def card(run: Path, exported: Exported) -> str:
    """Return the text of a model card.

    Args:
        run: The run folder.
        exported: What else there is to say.

    Raises:
        RunError: There is no such folder.
    """
    data = collect(run)
    parts = [
        _head(exported.head),
        f"# {_plain(data.name)}",
        _about(data, exported),
        "## Use\n\n" + _code("python", exported.usage),
        _compared(exported),
        _data(data),
        _measures(data, exported),
        _settings(data),
        _commands(data, exported),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(entries: Mapping[str, Any]) -> str:
    if not entries:
        return ""
    # JSON is YAML, and needs no care for colons, quotes and the like
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in entries.items()]
    return "\n".join(["---", *lines, "---"])


def _about(data: RunData, exported: Exported) -> str:
    planned = f" of {data.updates}" if data.updates else ""
    parameters = data.plan.get("parameters")
    rows = [("format", exported.format), *exported.facts.items()]
    if isinstance(parameters, Mapping) and type(parameters.get("total")) is int:
        rows.append(("parameters", f"{parameters['total']:,}, {parameters.get('trainable', 0):,} of them trained"))
    rows.append(("checkpoint", f"{exported.checkpoint}, after {exported.update}{planned} updates"))
    note = data.config.get("run", {}).get("note") if isinstance(data.config.get("run"), Mapping) else None
    return (f"{_plain(note)}\n\n" if note else "") + _table(("", ""), rows)


def _compared(exported: Exported) -> str:
    return "## Compared with the run\n\n" + _list(exported.notes) if exported.notes else ""


def _data(data: RunData) -> str:
    file = data.folder.path / "data.json"
    try:
        found = read_json(file) if file.is_file() else {}
    except RunError:
        found = {}
    prints = found.get("fingerprints") if isinstance(found, Mapping) else None
    rows = [(name, f"`{value}`") for name, value in prints.items()] if isinstance(prints, Mapping) else []
    given = [(setting.path, setting.value) for setting in data.given() if setting.path.startswith("data.")]
    train = data.plan.get("train_examples")
    lines: list[str] = []
    if given:
        lines.append(_table(("setting", "value"), [(path, _shown(value)) for path, value in given]))
    if rows:
        lines.append(_table(("set", "fingerprint of what was read"), rows))
    if type(train) is int:
        lines.append(f"{train:,} training examples.")
    try:
        starts = list(read_lines(data.folder.path / "starts.jsonl"))
    except RunError:
        starts = []
    notes = starts[0].get("notes") if starts else None
    if isinstance(notes, list) and notes:
        lines.append("What the run said when it began:\n\n" + _list([str(note) for note in notes]))
    return "## Data\n\n" + "\n\n".join(lines) if lines else ""


def _measures(data: RunData, exported: Exported) -> str:
    lines: list[str] = []
    for one in data.evaluations:
        if one.update != exported.update:
            continue
        for table in one.evaluation.tables:
            if table.columns and table.columns[0] == "measure":
                lines.append(f"{_plain(one.split)}. {_plain(table.title)}:\n\n" + _table(table.columns, table.rows))
                break
        else:
            rows = [(name, number(value)) for name, value in one.evaluation.scalars.items()]
            lines.append(f"{_plain(one.split)}:\n\n" + _table(("measure", "value"), rows))
    for file in sorted(data.folder.evaluations.glob(f"*/{METRICS}")):
        lines += _kept(file, exported.checkpoint)
    if not lines:
        return "## Measures\n\nThe run holds no evaluation of this checkpoint."
    return "## Measures\n\nOf this checkpoint, measured by the run in its own precision.\n\n" + "\n\n".join(lines)


def _kept(file: Path, checkpoint: str) -> list[str]:
    """Return a table of an evaluation that `quincunx evaluate` kept, if it is of this checkpoint."""
    try:
        found = read_json(file)
    except RunError:
        return []
    if not isinstance(found, Mapping) or found.get("checkpoint") != checkpoint or "mean" not in found:
        return []
    intervals = found.get("intervals") or {}
    rows = [
        (name, number(value), *(number(each) for each in _ends(intervals.get(name))))
        for name, value in found["mean"].items()
        if value is not None
    ]
    level = found.get("level")
    what = f"{_plain(file.parent.name)}, {found.get('queries')} queries"
    said = f"; low and high: {100 * level:.0f} % bootstrap interval over queries" if isinstance(level, float) else ""
    data = f"; data `{found['data']}`" if "data" in found else ""
    return [f"{what}{said}{data}:\n\n" + _table(("measure", "mean", "low", "high"), rows)]


def _ends(interval: Any) -> tuple[Any, Any]:
    return (interval.get("low", ""), interval.get("high", "")) if isinstance(interval, Mapping) else ("", "")


def _settings(data: RunData) -> str:
    rows = [(setting.path, _shown(setting.value)) for setting in data.given() if not setting.path.startswith("data.")]
    if not rows:
        return ""
    return "## Settings\n\nThose that were given, besides the data's; all others have their defaults.\n\n" + _table(
        ("setting", "value"), rows
    )


def _commands(data: RunData, exported: Exported) -> str:
    command = data.environment.get("command")
    lines = [shlex.join([str(word) for word in command])] if isinstance(command, list) and command else []
    lines.append(shlex.join(exported.command))
    packages = data.environment.get("packages")
    text = "## Commands\n\n" + _code("", "\n".join(lines))
    if isinstance(packages, Mapping) and packages:
        text += "\n\nTrained with " + ", ".join(f"{name} {found}" for name, found in packages.items()) + "."
    return text


def _shown(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False, default=str)}`"


def _plain(text: Any) -> str:
    """Return one line in which nothing is taken for a tag."""
    return " ".join(str(text).split()).replace("<", "&lt;")


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_plain(line)}" for line in lines)


def _table(columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(columns), "|" + " --- |" * len(columns), *(line(row) for row in rows)])


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"
