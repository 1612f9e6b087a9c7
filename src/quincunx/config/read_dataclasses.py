"""Dataclasses of a Python file -> a tree of plain values: what their defaults say; parsed, never executed.

A class that holds others is the tree, fields of a class of the same file are its blocks. Literal defaults, such classes
called with literals, and factories of either are read; whatever would have to be run is refused with its place.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from quincunx.config.document import Mark, Place
from quincunx.config.paths import KeyPath
from quincunx.config.suggest import closest

MAX_LEVELS = 50
"""Classes within classes, and bases in a row."""
MAX_VALUES = 10_000
"""Settings in all: classes that hold each other several times over grow beyond any bound."""

_WORD = re.compile(r"[A-Za-z_]\w*")
_OMITTED = object()
"""The value of a field that has none."""
_CONTAINERS: dict[str, type] = {"list": list, "tuple": list, "dict": dict}
_SAYS_NOTHING = frozenset({"metadata", "repr", "compare", "hash", "init", "kw_only", "doc"})
"""Arguments of `field` that do not change its value."""


class Reader(Protocol):
    """What reads the literals, notes their places and collects the problems."""

    places: dict[KeyPath, Place]

    def value(self, node: ast.expr, path: KeyPath, key: Mark | None) -> Any:
        """Return the value of a literal; anything else becomes a problem."""
        ...

    def mark(self, node: ast.expr | ast.stmt) -> Mark:
        """Return where a node stands."""
        ...

    def complain(self, node: ast.expr | ast.stmt, message: str, remedy: str, path: KeyPath = ()) -> None:
        """Note a problem."""
        ...


@dataclass(frozen=True)
class _Field:
    """One field of a class: where it is declared, its annotation and default."""

    target: ast.Name
    annotation: ast.expr
    default: ast.expr | None


@dataclass
class _Class:
    """One dataclass of the file."""

    node: ast.ClassDef
    bases: tuple[str, ...] = ()
    own: dict[str, _Field] = field(default_factory=dict[str, _Field])


def read_dataclasses(body: Sequence[ast.stmt], reader: Reader) -> dict[str, Any]:
    """Return the tree of a file of dataclasses, its places noted by the reader; imports are passed over.

    The one class that no other refers to is the root. Where there are several, each is a block under its own name.
    Classes with a `_target_`, and those derived from a class in use, are alternatives and no blocks.
    """
    return _Dataclasses(body, reader).tree()


class _Dataclasses:
    def __init__(self, body: Sequence[ast.stmt], reader: Reader) -> None:
        self._reader = reader
        self._classes: dict[str, _Class] = {}
        self._fields: dict[str, dict[str, _Field]] = {}
        self._left = MAX_VALUES
        for statement in body:
            if isinstance(statement, ast.ClassDef):
                self._declare(statement)
            elif not (isinstance(statement, ast.Import | ast.ImportFrom) or _is_text(statement)):
                reader.complain(statement, "a statement: this file is read, not executed", "keep only dataclasses")
        for each in self._classes.values():
            each.bases = tuple(self._bases(each.node))

    def tree(self) -> dict[str, Any]:
        """Return the values of the root class, or of several classes by their names."""
        tops = self._tops()
        first = self._classes[tops[0]].node if tops else None
        if first is None:
            return {}
        if len(tops) == 1:
            return self._instance(tops[0], (), None, first, {}, ())
        self._reader.places[()] = Place(None, self._reader.mark(first))
        marks = {name: self._reader.mark(self._classes[name].node) for name in tops}
        return {name: self._instance(name, (name,), marks[name], self._classes[name].node, {}, ()) for name in tops}

    def _declare(self, node: ast.ClassDef) -> None:
        """Take a class in; complain about what is no field of it."""
        complain = self._reader.complain
        if not any(_last_name(each) == "dataclass" for each in node.decorator_list) or len(node.decorator_list) > 1:
            complain(node, f"{node.name} is not a plain dataclass", "put @dataclass above it, or take it out")
            return
        if node.name in self._classes:
            complain(node, f"the class {node.name} stands twice", "keep one of them")
            return
        own: dict[str, _Field] = {}
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                if _last_name(statement.annotation) in ("ClassVar", "KW_ONLY"):
                    continue
                if statement.target.id in own:
                    complain(statement, f"the field {statement.target.id} stands twice", "keep one of them")
                own[statement.target.id] = _Field(statement.target, statement.annotation, statement.value)
            elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                remedy = "take it out: fields and their defaults are all that is read"
                complain(statement, f"the method {statement.name} would have to be run", remedy)
            elif not (isinstance(statement, ast.Pass) or _is_text(statement)):
                complain(statement, f"this is no field of {node.name}", "write name: type = value")
        self._classes[node.name] = _Class(node, own=own)

    def _bases(self, node: ast.ClassDef) -> Iterator[str]:
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id in self._classes:
                yield base.id
            elif _last_name(base) not in ("object", "Generic"):
                named = _last_name(base) or "of this class"
                self._reader.complain(base, f"the base {named} is no dataclass of this file", "declare it here as well")
        for keyword in node.keywords:
            self._reader.complain(keyword.value, f"an argument of the class {node.name}", "leave its bases alone here")

    def _tops(self) -> list[str]:
        """Return the classes that are the config: no other refers to them, and they are no alternative to one."""
        used = {other for name in self._classes for other in self._referred(name) if other != name}
        while fresh := {name for name, each in self._classes.items() if name not in used and used & set(each.bases)}:
            used |= fresh
        used |= {base for each in self._classes.values() for base in each.bases}
        tops = [name for name, each in self._classes.items() if name not in used and "_target_" not in each.own]
        return tops or list(self._classes)[:1]

    def _referred(self, name: str) -> set[str]:
        """Return the classes that the annotations and defaults of a class name."""
        words: set[str] = set()
        for each in self._classes[name].own.values():
            words.update(_names(each.annotation, quoted=True))
            words.update(_names(each.default) if each.default else ())
        return words & self._classes.keys()

    def _all_fields(self, name: str, trail: tuple[str, ...] = ()) -> dict[str, _Field]:
        """Return the fields of a class, those of its bases first, in the order in which a call takes them."""
        if name in self._fields:
            return self._fields[name]
        node = self._classes[name].node
        if name in trail or len(trail) > MAX_LEVELS:
            self._reader.complain(node, f"the bases of {name} lead back to it, or too far", "flatten them")
            return {}
        found: dict[str, _Field] = {}
        for base in reversed(self._classes[name].bases):
            found.update(self._all_fields(base, (*trail, name)))
        found.update(self._classes[name].own)
        self._fields[name] = found
        return found

    def _instance(
        self,
        name: str,
        path: KeyPath,
        key: Mark | None,
        node: ast.expr | ast.stmt,
        given: Mapping[str, tuple[Mark | None, ast.expr]],
        trail: tuple[str, ...],
    ) -> dict[str, Any]:
        """Return the values of a class's fields; `given` are those that a call sets, with the places of their names."""
        self._reader.places[path] = Place(key, self._reader.mark(node))
        if name in trail or len(trail) > MAX_LEVELS:
            message = f"{name} holds itself" if name in trail else f"more than {MAX_LEVELS} classes within classes"
            self._reader.complain(node, message, "flatten the classes", path)
            return {}
        values: dict[str, Any] = {}
        for label, each in self._all_fields(name).items():
            self._left -= 1
            if self._left < 0:
                if self._left == -1:
                    self._reader.complain(node, f"more than {MAX_VALUES} settings", "flatten the classes", path)
                break
            mark, default = given.get(label, (self._reader.mark(each.target), each.default))
            value = self._field(default, each.annotation, (*path, label), mark, (*trail, name))
            if value is not _OMITTED:
                values[label] = value
        return values

    def _field(
        self, default: ast.expr | None, annotation: ast.expr, path: KeyPath, key: Mark | None, trail: tuple[str, ...]
    ) -> Any:
        """Return the value of a field; one without a default is an instance of its class, or has no value."""
        factory = False
        if isinstance(default, ast.Call) and _last_name(default.func) == "field":
            default, factory = self._of_field(default, path)
        if default is None:
            held = [word for word in _names(annotation, quoted=True) if word in self._classes]
            here = annotation if len(held) == 1 else None
            return _OMITTED if here is None else self._instance(held[0], path, key, here, {}, trail)
        if factory:
            return self._made(default, path, key, trail)
        return self._value(default, path, key, trail)

    def _of_field(self, call: ast.Call, path: KeyPath) -> tuple[ast.expr | None, bool]:
        """Return the default of a `field(...)`, and whether it is a factory of it."""
        found: tuple[ast.expr | None, bool] = (None, False)
        for argument in call.args:
            self._reader.complain(argument, "an argument of field without a name", "write default=...", path)
        for keyword in call.keywords:
            if keyword.arg in ("default", "default_factory"):
                found = (keyword.value, keyword.arg == "default_factory")
            elif keyword.arg not in _SAYS_NOTHING:
                message = f"field takes no argument {keyword.arg or '**'}"
                self._reader.complain(keyword.value, message, "write default= or default_factory=", path)
        return found

    def _made(self, factory: ast.expr, path: KeyPath, key: Mark | None, trail: tuple[str, ...]) -> Any:
        """Return what a default factory gives: that of a container, of a class, or of a lambda without arguments."""
        if isinstance(factory, ast.Lambda) and not any(ast.iter_child_nodes(factory.args)):
            return self._value(factory.body, path, key, trail)
        if isinstance(factory, ast.Name) and factory.id in _CONTAINERS and factory.id not in self._classes:
            self._reader.places[path] = Place(key, self._reader.mark(factory))
            return _CONTAINERS[factory.id]()
        if isinstance(factory, ast.Name) and factory.id in self._classes:
            return self._instance(factory.id, path, key, factory, {}, trail)
        remedy = "list, dict, a dataclass of this file, or a lambda of a literal"
        message = f"the factory {_last_name(factory)} would have to be run".replace("  ", " ")
        self._reader.complain(factory, message, remedy, path)
        return None

    def _value(self, node: ast.expr, path: KeyPath, key: Mark | None, trail: tuple[str, ...]) -> Any:
        """Return the value of a default: a literal, a class or a call of one, or no value for OmegaConf's MISSING."""
        if isinstance(node, ast.Name) and node.id in self._classes:
            return self._instance(node.id, path, key, node, {}, trail)
        if isinstance(node, ast.Name | ast.Attribute) and _last_name(node) == "MISSING":
            return _OMITTED
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self._classes:
            return self._instance(node.func.id, path, key, node, self._given(node, node.func.id, path), trail)
        return self._reader.value(node, path, key)

    def _given(self, call: ast.Call, name: str, path: KeyPath) -> dict[str, tuple[Mark | None, ast.expr]]:
        """Return the arguments of a class's call by field."""
        labels = list(self._all_fields(name))
        given: dict[str, tuple[Mark | None, ast.expr]] = {}
        for position, argument in enumerate(call.args):
            if isinstance(argument, ast.Starred) or position >= len(labels):
                message = f"{name} has {len(labels)} fields" if position >= len(labels) else "an unpacked value"
                self._reader.complain(argument, message, "write field=value", path)
            else:
                given[labels[position]] = (None, argument)
        for keyword in call.keywords:
            if keyword.arg in labels and keyword.arg not in given:
                given[keyword.arg] = (self._mark_of(keyword), keyword.value)
                continue
            label = f"`{keyword.arg}`" if keyword.arg else "`**`"
            near = closest(keyword.arg or "", labels)
            twice = keyword.arg in given
            message = f"{label} is given twice" if twice else f"{name} has no field {label}"
            remedy = f"did you mean `{near[0]}`?" if near and not twice else f"its fields: {', '.join(labels)}"
            self._reader.complain(keyword.value, message, remedy, path)
        return given

    def _mark_of(self, keyword: ast.keyword) -> Mark:
        """Return the place of an argument's name."""
        name = ast.Name(keyword.arg or "", ast.Load())
        return self._reader.mark(ast.copy_location(name, keyword))


def _names(node: ast.expr, *, quoted: bool = False) -> Iterable[str]:
    """Return the names in an expression, each once; for an annotation those in its quoted parts as well."""
    found: dict[str, None] = {}
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            found[part.id] = None
        elif quoted and isinstance(part, ast.Constant) and isinstance(part.value, str):
            found.update(dict.fromkeys(_WORD.findall(part.value)))
    return found


def _last_name(node: ast.expr) -> str:
    """Return the last word of a name, `dataclass` of `dataclasses.dataclass(frozen=True)`; "" for anything else."""
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_text(statement: ast.stmt) -> bool:
    """Tell whether a statement is a docstring or `...`, which say nothing."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
