"""The stages between the layers of a config and its check, each collecting what it finds wrong.

A stage that finds something wrong leaves it out and lets the next ones go on, so that one run shows everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from quincunx.config import beside
from quincunx.config.document import ConfigError, Document, Problem
from quincunx.config.fields import settings_of
from quincunx.config.merge import Override, apply_override, interpolate, merge, parse_override
from quincunx.config.names import beside_target, present_path, resolve, target_above
from quincunx.config.paths import KeyPath, dotted, is_list, is_mapping, parse_path
from quincunx.config.recognise import disagreement, infer_recipe, unwrap_task
from quincunx.config.schema import RecipeSchema


class Stages:
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
        self.nested = False
        """Whether a file nests whole configs by task."""

    def copy(self) -> Stages:
        """Return stages that go on from here, on their own."""
        other = Stages(self.schemas, self.task)
        other.problems, other.notes = list(self.problems), list(self.notes)
        other.written, other.missing, other.nested = dict(self.written), set(self.missing), self.nested
        return other

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        """Return the overrides that can be read, in the order in which they are to be applied."""
        parsed: list[Override] = []
        for number, text in enumerate(overrides, 1):
            try:
                override = parse_override(text, number)
            except ConfigError as error:
                self.problems.extend(error.problems)
                continue
            parsed.append(override)
        return targets_first(parsed)

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
                self.nested = True
        return changes

    def apart(self, layers: Sequence[Document]) -> list[Document]:
        """Return what each layer has beside its settings (`ranges`, `sweep`), taken out of it."""
        return [beside.take_out(layer) for layer in layers]

    def beside(
        self,
        outer: Sequence[Document],
        layers: Sequence[Document],
        further: Sequence[Document],
        changes: Sequence[Override],
        schema: RecipeSchema,
    ) -> Document | None:
        """Return what stands beside the settings of all layers, overridden; None where there is nothing.

        `outer` is what stood at the roots of the files; what stood in a task's block is still in the layers. `further`
        are layers of nothing else, from a file of their own.
        """
        merged = Document({})
        for own, layer in zip(outer, layers, strict=True):
            self.problems.extend(beside.join(own, beside.take_out(layer)))
            if schema.comments is not None:
                beside.leave_out(own, schema.comments)
            beside.lay_over(merged, own)
        self.problems.extend(beside.in_two_files(merged, further))
        for own in further:
            if schema.comments is not None:
                beside.leave_out(own, schema.comments)
            beside.lay_over(merged, own)
        settings = settings_of(schema.config)
        for change in changes:
            try:
                merged = beside.change(merged, change, lambda path: present_path(path, schema.names) in settings)
            except ConfigError as error:
                self.problems.extend(error.problems)
        return merged if merged.tree else None

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
        """Return the document with the overrides applied, each under any of the names of its setting.

        The document is changed where a task is asked for and it names none.
        """
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


def targets_first(changes: Sequence[Override]) -> list[Override]:
    """Return the overrides in their order, but those that set a `_target_` before the arguments of that target."""
    ordered: list[Override] = []
    for change in changes:
        at = len(ordered)
        if change.kind == "set" and change.path[-1] == "_target_":
            while at and not _must_precede(ordered[at - 1], change.path):
                at -= 1
        ordered.insert(at, change)
    return ordered


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
