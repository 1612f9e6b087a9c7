"""From a config file and overrides to a checked config: every stage in order, all problems in one report.

Stages: read the layers, tell the recipe, take out the task, resolve older names, merge, override, interpolate, check.
A stage that finds something wrong leaves it out and lets the next ones go on, so that one run shows everything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from quincunx.config.check import check
from quincunx.config.document import ConfigError, Document, Place, Problem
from quincunx.config.merge import Override, apply_override, interpolate, merge, parse_override, read_layers
from quincunx.config.names import beside_target, present_path, resolve, target_above
from quincunx.config.paths import KeyPath, dotted, is_list, is_mapping, parse_path
from quincunx.config.read import read_file, read_text
from quincunx.config.recognise import disagreement, infer_recipe, unwrap_task
from quincunx.config.schema import RecipeSchema
from quincunx.config.write import canonical, to_yaml, yaml_text

__all__ = ["Loaded", "canonical", "explicit_paths", "load", "origins", "to_yaml"]

MAPPING = "config"
"""Name of the source in problems when a config is given as a Python mapping."""

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
    Raises ConfigError with all problems together.
    """
    stages = _Stages(schemas, task)
    try:
        layers = _layers(source)
    except ConfigError as error:
        stages.problems.extend(error.problems)
        layers = list(error.salvaged)
    changes = stages.parse(overrides)
    if not layers:
        raise ConfigError(stages.problems)
    schema = stages.choose(layers, changes)
    changes = stages.unwrap(layers, changes, schema)
    document = stages.change(stages.merge(stages.resolve(layers, schema)), changes, schema)
    document = stages.interpolate(document, schema)
    if schema.prepare is not None:
        stages.notes.extend(schema.prepare(document))
    checked = check(document, schema, written=stages.written, others=schemas, missing=stages.missing)
    problems = [*stages.problems, *checked.problems]
    if strict:
        problems = [replace(each, severity="error") if each.severity == "warning" else each for each in problems]
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError([problem for problem in problems if problem.severity != "note"])
    stages.notes.extend(problem.message for problem in problems if problem.severity == "note")
    warnings = [problem for problem in problems if problem.severity == "warning"]
    return Loaded(checked.config, schema, document, warnings, list(dict.fromkeys(stages.notes)))


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


class _Stages:
    """The stages before the check; collects what each of them has to say."""

    def __init__(self, schemas: Sequence[RecipeSchema], task: str | None) -> None:
        self.schemas = schemas
        self.task = task
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.written: dict[KeyPath, KeyPath] = {}
        """Present path -> the path under which the value that holds was written."""
        self.missing: set[KeyPath] = set()
        """Present paths whose value was wrong and is left out."""

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        """Return the overrides that can be read, those that set a `_target_` before the arguments of that target."""
        parsed: list[Override] = []
        for number, text in enumerate(overrides, 1):
            try:
                override = parse_override(text, number)
            except ConfigError as error:
                self.problems.extend(error.problems)
                continue
            at = len(parsed)
            if override.kind == "set" and override.path[-1] == "_target_":
                while at and not _must_precede(parsed[at - 1], override.path):
                    at -= 1
            parsed.insert(at, override)
        return parsed

    def choose(self, layers: list[Document], changes: Sequence[Override]) -> RecipeSchema:
        """Return the schema of the recipe; nothing can be judged without one, so ConfigError if there is none."""
        set_there = [_as_document(change) for change in changes if _is_plain_set(change)]
        recipe = infer_recipe([*layers, *set_there], self.schemas)
        if isinstance(recipe, Problem):
            raise ConfigError([*self.problems, recipe])
        if not any(document.has(("recipe",)) for document in (*layers, *set_there)):
            self.notes.append(f"recipe {recipe}, told from the keys of the file")
        return next(schema for schema in self.schemas if schema.name == recipe)

    def unwrap(self, layers: Sequence[Document], changes: list[Override], schema: RecipeSchema) -> list[Override]:
        """Make the chosen task the root of each layer that nests by task; return the overrides still to be applied."""
        task = self._task(layers, changes)
        for layer in layers:
            said = unwrap_task(layer, schema, task)
            if isinstance(said, Problem):
                self.problems.append(said)
                changes = [change for change in changes if change.path != ("task",)]
                said = unwrap_task(layer, schema, None)  # with a single task the rest can still be judged
                if isinstance(said, Problem):
                    raise ConfigError(self.problems)
            elif said is not None:
                self.notes.append(said)
        return changes

    def resolve(self, layers: Sequence[Document], schema: RecipeSchema) -> Sequence[Document]:
        """Move the older names of every layer to their present paths, and leave out comments written as keys."""
        for layer in layers:
            if schema.comments is not None:
                _leave_out(layer, schema.comments)
            self._resolve(layer, schema)
        return layers

    def merge(self, layers: Sequence[Document]) -> Document:
        """Return one document of all layers."""
        merged = layers[0]
        for layer in layers[1:]:
            self._note_replaced(merged, layer)
            merged = merge([merged, layer])
        return merged

    def change(self, document: Document, changes: Sequence[Override], schema: RecipeSchema) -> Document:
        """Return the document with the overrides applied, each under any of the names of its setting."""
        given: dict[KeyPath, Override] = {}
        for change in changes:
            path = present_path(change.path, schema.names)
            if change.kind == "set" and path in given:
                last = change.place.value.source.lines[-1]
                self.notes.append(f"{dotted(path)} is given twice on the command line: the last one holds, {last}")
            given[path] = change
            try:
                if _is_plain_set(change):
                    document = self._lay_over(document, change, schema)
                else:
                    document = apply_override(document, replace(change, path=path))
            except ConfigError as error:
                self.problems.extend(error.problems)
        if self.task is not None and not document.has(("task",)):
            document.put(("task",), self.task)
        elif self.task is not None and str(document.get(("task",))).lower() != self.task.lower():
            self.problems.append(disagreement(document, ("task",), document.get(("task",)), self.task))
        return document

    def interpolate(self, document: Document, schema: RecipeSchema) -> Document:
        """Return the document with its `${path}` replaced; where that fails, without the values that hold one."""

        def known(written: str) -> str | None:
            path = parse_path(written)
            if len(path) > 1 and document.has(("task",)) and path[0] == document.get(("task",)):
                path = path[1:]  # as the file has it, where the whole config stands below the task's name
            return dotted(present_path(path, schema.names))

        try:
            return interpolate(document, known)
        except ConfigError as error:
            self.problems.extend(error.problems)
        cleared = document.copy()
        for path, value in document.leaves():
            if any(isinstance(each, str) and "${" in each for each in (value if is_list(value) else [value])):
                cleared.delete(path)
                self.missing.add(path)
        return cleared

    def _task(self, layers: Sequence[Document], changes: Sequence[Override]) -> str | None:
        """Return the task asked for: by argument, by override, or by the file itself."""
        typed = [change for change in changes if change.kind == "set" and change.path == ("task",)]
        last = typed[-1].value if typed else None
        if isinstance(last, str) and self.task is not None and last.lower() != self.task.lower():
            message = f"task {last} and task {self.task} are both asked for"
            self.problems.append(
                Problem("error", ("task",), typed[-1].place.value, message, "leave one of the two out")
            )
        inside = layers[-1].get(("task",)) if layers[-1].has(("task",)) else None
        wanted = [name for name in (self.task, last, inside) if isinstance(name, str)]
        return wanted[0] if wanted else None

    def _resolve(self, document: Document, schema: RecipeSchema) -> None:
        moved: dict[KeyPath, KeyPath] = {}
        problems = resolve(document, schema.names, moved)
        self.problems.extend(problems)
        self.missing.update(problem.path for problem in problems)
        for path, _ in document.leaves():
            self.written.pop(path, None)
        self.written.update(moved)

    def _lay_over(self, document: Document, change: Override, schema: RecipeSchema) -> Document:
        """Return the document with a value set under any name of its setting."""
        layer = _as_document(change)
        present = present_path(change.path, schema.names)
        node = target_above(document, present) if present != change.path else None
        # an argument of the object itself, under an older name of its section, is as good as under the present one
        renamed = node is not None and present_path(change.path[: len(node) - len(present)], schema.names) == node
        if node is not None and not renamed:
            self.problems.append(beside_target(layer, change.path, present, node))
            return document
        self._resolve(layer, schema)
        self._note_replaced(document, layer)
        changed = document.copy()
        changed.overlay((), layer)
        return changed

    def _note_replaced(self, document: Document, layer: Document) -> None:
        """Say which settings go when a later layer builds their section by a `_target_`."""
        for path, value in layer.leaves():
            node = path[:-1]
            if path[-1] != "_target_" or not document.has(node) or not is_mapping(document.get(node)):
                continue
            before: dict[str, Any] = document.get(node)
            gone = [dotted((*node, key)) for key in before if key not in layer.get(node)]
            if before.get("_target_") != value and gone:
                self.notes.append(f"{dotted(node)} is built from {value}; left out: {', '.join(gone)}")


def _layers(source: str | os.PathLike[str] | Mapping[str, Any]) -> list[Document]:
    """Return the documents of a file, or of a mapping written out as YAML, so that its problems have places as well."""
    if not isinstance(source, Mapping):
        return read_layers(source)
    problems: list[Problem] = []
    tree = _plain(source, (), problems)
    if problems:
        raise ConfigError(problems)
    document = read_text(yaml_text(tree), MAPPING, "yaml")
    return read_layers(MAPPING, lambda name: document if name == MAPPING else read_file(name))


def _plain(value: Any, path: KeyPath, problems: list[Problem]) -> Any:
    """Return a value as plain containers and scalars; whatever else it holds becomes a problem."""
    if isinstance(value, Mapping):
        entries = cast("Mapping[Any, Any]", value)
        return {str(key): _plain(entry, (*path, str(key)), problems) for key, entry in entries.items()}
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return [_plain(item, (*path, position), problems) for position, item in enumerate(items)]
    if isinstance(value, os.PathLike):
        return os.fspath(cast("os.PathLike[str]", value))
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a NumPy scalar
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    remedy = "give numbers, texts, true or false, None, lists and mappings"
    message = f"`{dotted(path)}` holds a {type(value).__name__}, and a config holds plain values"
    problems.append(Problem("error", path, None, message, remedy))
    return None


def _leave_out(document: Document, prefix: str) -> None:
    """Take the root keys that begin so out of a document."""
    for key in list(document.tree) if is_mapping(document.tree) else []:
        if str(key).startswith(prefix):
            document.delete((key,))


def _is_plain_set(change: Override) -> bool:
    """Tell whether an override sets a value below keys only, so that it can be laid over like a file of one setting."""
    return change.kind == "set" and all(isinstance(part, str) for part in change.path)


def _as_document(change: Override) -> Document:
    """Return the file of one setting that an override amounts to."""
    document = Document({})
    document.graft(change.path, change.content)
    for end in range(1, len(change.path)):
        document.places.pop(change.path[:end], None)  # only the setting itself stands on the command line
    return document


def _must_precede(other: Override, target: KeyPath) -> bool:
    """Tell whether an override typed before a `_target_` is to be applied before it too."""
    node = target[:-1]
    if other.kind == "delete":
        return other.path[: len(node)] == node or node[: len(other.path)] == other.path
    return other.path == target or node[: len(other.path)] == other.path
