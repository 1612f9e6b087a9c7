"""From a config file and overrides to a checked config: every stage in order, all problems in one report.

Stages: read the layers, tell the recipe, take out the task, resolve older names, merge, override, interpolate, check.
A stage that finds something wrong leaves it out and lets the next ones go on, so that one run shows everything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quincunx.config import beside
from quincunx.config.check import check
from quincunx.config.document import ConfigError, Document, Place, Problem, Source, relabel
from quincunx.config.layers import read_source
from quincunx.config.merge import Override
from quincunx.config.paths import dotted
from quincunx.config.schema import RecipeSchema
from quincunx.config.stages import Stages, targets_first
from quincunx.config.write import canonical, to_yaml

__all__ = ["Draft", "Loaded", "canonical", "draft", "explicit_paths", "finish", "load", "origins", "to_yaml"]

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Loaded:
    """A checked config and how it came about."""

    config: Any
    schema: RecipeSchema
    document: Document
    """The merged settings under their present names, each with its place and what it replaced."""
    warnings: list[Problem]
    notes: list[str]
    """What was decided without being asked, in sentences."""
    sweep: Document | None = None
    """The root keys `ranges` and `sweep`, for a config of many runs; only `finish` of a draft gives such a one."""


@dataclass(frozen=True)
class Draft:
    """A config read and merged, its references not yet resolved: further settings can be laid over it, again and again.

    It may hold problems, which `finish` raises.
    """

    layers: Sequence[Document]
    """The files as they were read, bases first."""
    changes: Sequence[Override]
    """The overrides of the settings."""
    document: Document
    """The merged settings under their present names."""
    schema: RecipeSchema
    sweep: Document | None
    """The root keys `ranges` and `sweep`; None without both."""
    stages: Stages

    @property
    def nested(self) -> bool:
        """Whether a file nests whole configs by task, and one of them was chosen."""
        return self.stages.nested


def load(
    source: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    schemas: Sequence[RecipeSchema],
    task: str | None = None,
    strict: bool = False,
) -> Loaded:
    """Return the checked config of a file (or a mapping of plain values) with overrides such as `update.batch_size=8`.

    `task` chooses among the tasks of a file that nests whole configs by task. With `strict` warnings are errors.
    Raises ConfigError with all problems together; a config of many runs (`ranges`, `sweep`) is such a problem.
    """
    read = draft(source, overrides, schemas=schemas, task=task)
    if read.sweep is not None:
        read.stages.problems.append(beside.refusal(read.sweep))
    return finish(read, strict=strict)


def draft(
    source: str | os.PathLike[str] | Mapping[str, Any] | Sequence[Document],
    overrides: Sequence[str] = (),
    *,
    schemas: Sequence[RecipeSchema],
    task: str | None = None,
    ranges: Sequence[Document] = (),
) -> Draft:
    """Return a config as far as it can be had without its values; the arguments are those of `load`.

    The source may also be layers as `read_source` returns them; `ranges` are layers with nothing but the root keys
    `ranges` and `sweep`. Raises ConfigError where nothing can be judged: no
    file can be read, or the recipe cannot be told.
    """
    stages = Stages(schemas, task)
    try:
        layers = read_source(source) if isinstance(source, str | os.PathLike | Mapping) else list(source)
    except ConfigError as error:
        stages.problems.extend(error.problems)
        layers = list(error.salvaged)
    changes, others = beside.split(stages.parse(overrides))
    if not layers:
        raise ConfigError(stages.problems)
    raw = layers
    layers = [layer.copy() for layer in layers]
    outer = stages.apart(layers)
    schema = stages.choose(layers, changes)
    left = stages.unwrap(layers, changes, schema)
    sweep = stages.beside(outer, layers, ranges, others, schema)
    document = stages.change(stages.merge(stages.resolve(layers, schema)), left, schema)
    return Draft(raw, changes, document, schema, sweep, stages)


def finish(read: Draft, above: Sequence[Override] = (), *, strict: bool = False) -> Loaded:
    """Return the checked config of a draft, with further settings laid over it; the draft stays as it is.

    Raises ConfigError with all problems of the draft, of these settings and of the whole.
    """
    stages, schema = read.stages.copy(), read.schema
    document = stages.change(read.document.copy(), targets_first(above), schema) if above else read.document
    document = stages.interpolate(document, schema)
    if schema.prepare is not None:
        stages.notes.extend(_prepare(document, schema.prepare, above))
    checked = check(document, schema, written=stages.written, others=stages.schemas, missing=stages.missing)
    problems = [*stages.problems, *checked.problems]
    if strict:
        problems = [replace(each, severity="error") if each.severity == "warning" else each for each in problems]
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError([problem for problem in problems if problem.severity != "note"])
    stages.notes.extend(problem.message for problem in problems if problem.severity == "note")
    warnings = [problem for problem in problems if problem.severity == "warning"]
    return Loaded(checked.config, schema, document, warnings, list(dict.fromkeys(stages.notes)), read.sweep)


def _prepare(document: Document, prepare: Callable[[Document], list[str]], above: Sequence[Override]) -> list[str]:
    """Let a recipe settle a document in place, and return what it says.

    A recipe may look at how the files are written; settings laid over them say as little about that as overrides do.
    """
    laid = {id(place) for change in above for place in change.content.places.values()}
    hidden: dict[int, Place] = {}
    for path, place in document.places.items():
        if id(place) in laid:
            document.places[path] = shown = relabel(place, Source(COMMAND_LINE, place.value.source.lines))
            hidden[id(shown)] = place
    notes = prepare(document)
    for path, place in document.places.items():
        document.places[path] = hidden.get(id(place), place)
    return notes


def explicit_paths(loaded: Loaded) -> frozenset[str]:
    """Return the dotted paths of the settings that the file, its bases or an override gives."""
    return frozenset(dotted(path) for path, _ in loaded.document.leaves())


def origins(loaded: Loaded) -> list[dict[str, Any]]:
    """Return where every value of a config came from, and what it replaced.

    Each entry has `path`, `value`, `from` (`file:line:column`, `command line: text` or `default`) and `overrode`, a
    list of `value` and `from`, oldest first.
    """
    document = loaded.document
    entries: list[dict[str, Any]] = []
    for path, value in Document(canonical(loaded.config)).leaves():
        history = document.history.get(path, [])
        if path[-1] == "_target_":  # a node that is built in another way replaces the one before it whole
            history = [*document.history.get(path[:-1], []), *history]
        overrode = [{"value": origin.value, "from": _said(origin.place)} for origin in history]
        origin = _said(document.places[path]) if path in document.places else "default"
        entries.append({"path": dotted(path), "value": value, "from": origin, "overrode": overrode})
    return entries


def _said(place: Place) -> str:
    mark = place.value
    if mark.source.name == COMMAND_LINE:
        return f"{COMMAND_LINE}: {mark.source.lines[mark.line - 1]}"
    return str(mark)
