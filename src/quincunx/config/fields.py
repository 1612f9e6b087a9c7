"""Every setting of a recipe as data: its path, type in words, conditions, documentation.

One walk over the section classes serves `names`, `suggest`, `check` and `explain`, so that they cannot disagree.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Discriminator
from pydantic.fields import FieldInfo

from quincunx.config.paths import KeyPath
from quincunx.config.schema import Accepts, RowsOf, Target, When


@dataclass(frozen=True)
class Setting:
    """One field of a section, at its path."""

    path: KeyPath
    owner: type[BaseModel]
    """The class that holds the field."""
    name: str
    """The field's Python name (the last key of the path is its alias, where it has one)."""
    info: FieldInfo
    sections: tuple[type[BaseModel], ...]
    """The sections that may stand here, `Target` included; empty for a plain value."""
    conditions: tuple[When, ...]
    """When the setting acts, those of the enclosing sections included."""
    rows: RowsOf | None
    """For a table of rows: what chooses the row."""
    tagged: bool
    """Whether pydantic puts the chosen section's tag into the path of an error."""

    @property
    def default(self) -> Any:
        """The value when nothing is set; None for a required setting."""
        return None if self.info.is_required() else self.info.get_default(call_default_factory=True)

    @property
    def required(self) -> bool:
        """Whether the setting must be given where its section is."""
        return self.info.is_required()

    @property
    def words(self) -> str:
        """The accepted values in words: `int >= 1`, `one of mean, cls`, `section`."""
        if self.sections:
            return "section, or a `_target_` node" if Target in self.sections else "section"
        return _words(self.info.annotation, self.info.metadata)

    @property
    def item_words(self) -> str:
        """The accepted items in words, for a list."""
        item = _item(self.info.annotation)
        return self.words if item is None else _words(item, [])

    @property
    def kinds(self) -> frozenset[type]:
        """The plain Python types that are accepted (`str` for words)."""
        return frozenset(_kinds(self.info.annotation))

    @property
    def item_kinds(self) -> frozenset[type]:
        """The plain Python types of the accepted items, for a list."""
        item = _item(self.info.annotation)
        return self.kinds if item is None else frozenset(_kinds(item))

    @property
    def choices(self) -> tuple[str, ...]:
        """The accepted words, for a choice or a list of choices."""
        return choices_of(self.info.annotation)

    @property
    def doc(self) -> str:
        """The docstring below the field."""
        for base in self.owner.__mro__:
            if base is BaseModel:
                break
            if self.name in documentation(base):
                return documentation(base)[self.name]
        return ""


@functools.cache
def settings_of(model: type[BaseModel]) -> Mapping[KeyPath, Setting]:
    """Return every setting of a config class by path, sections included, in declaration order.

    Where several sections may stand at a path and share a key, the first one's is given.
    """
    found: dict[KeyPath, Setting] = {}
    for setting in _walk(model, (), ()):
        found.setdefault(setting.path, setting)
    return types.MappingProxyType(found)


@functools.cache
def levels_of(model: type[BaseModel]) -> Mapping[KeyPath, tuple[str, ...]]:
    """Return the keys of every section of a config class, by the section's path."""
    levels: dict[KeyPath, list[str]] = {}
    for path in settings_of(model):
        levels.setdefault(path[:-1], []).append(str(path[-1]))
    return types.MappingProxyType({path: tuple(keys) for path, keys in levels.items()})


@functools.cache
def documentation(model: type) -> Mapping[str, str]:
    """Return the docstring of each field that a class itself declares, in one line each.

    Read from the source once it is asked for: pydantic would do it for every class at import, which costs more than
    everything else in a check.
    """
    pairs = _module(model.__module__).get(model.__qualname__, [])
    return types.MappingProxyType({field: " ".join(text.split()) for field, text in pairs})


@functools.cache
def _module(name: str) -> Mapping[str, list[tuple[str, str]]]:
    """Return (field, docstring) pairs by qualified class name for the source of a module; empty without a source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[name]))
    except (OSError, KeyError, TypeError):
        return {}
    found: dict[str, list[tuple[str, str]]] = {}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                found[prefix + child.name] = list(_documented(child.body))
                visit(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                visit(child, f"{prefix}{child.name}.<locals>.")

    visit(tree, "")
    return found


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, following in itertools.pairwise(body):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = following.value.value
            if isinstance(text, str):
                yield statement.target.id, text


def _walk(model: type[BaseModel], prefix: KeyPath, conditions: tuple[When, ...]) -> Iterator[Setting]:
    for name, info in model.model_fields.items():
        metadata = [*info.metadata, *_metadata(info.annotation)]
        acts = (*conditions, *(entry for entry in metadata if isinstance(entry, When)))
        rows = next((entry for entry in metadata if isinstance(entry, RowsOf)), None)
        tagged = info.discriminator is not None or any(isinstance(entry, Discriminator) for entry in metadata)
        path = (*prefix, info.alias or name)
        sections = tuple(_sections(info.annotation))
        yield Setting(path, model, name, info, sections, acts, rows, tagged)
        for section in sections:
            yield from _walk(section, path, acts)


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the parts of a union, `Annotated` taken off."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _members(part)
    else:
        yield annotation


def _metadata(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        for entry in get_args(annotation)[1:]:
            yield from entry.metadata if isinstance(entry, FieldInfo) else (entry,)
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        for part in get_args(annotation):
            yield from _metadata(part)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    for part in _members(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part


def _kinds(annotation: Any) -> Iterator[type]:
    for part in _members(annotation):
        if get_origin(part) is Literal:
            yield from (type(choice) for choice in get_args(part))
        elif isinstance(part, type):
            yield get_origin(part) or part
        elif get_origin(part) is not None:
            yield get_origin(part)


def choices_of(annotation: Any) -> tuple[str, ...]:
    """Return the words that an annotation accepts, or that the items of its list may be."""
    found: list[str] = []
    for part in _members(annotation):
        if get_origin(part) is Literal:
            found.extend(choice for choice in get_args(part) if isinstance(choice, str))
        elif get_origin(part) is list:
            found.extend(choices_of(get_args(part)[0]))
    return tuple(found)


def _item(annotation: Any) -> Any:
    """Return the annotation of a list's items, None for anything but a list."""
    return next((get_args(part)[0] for part in _members(annotation) if get_origin(part) is list), None)


_NAMES: dict[Any, str] = {int: "int", float: "float", str: "string", bool: "true or false", dict: "mapping"}
_BOUNDS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))


def _words(annotation: Any, metadata: list[Any]) -> str:
    """Return what an annotation accepts: bounds behind their type, null last."""
    metadata = [*metadata, *_metadata(annotation)]
    said = next((entry.text for entry in metadata if isinstance(entry, Accepts)), None)
    members = list(_members(annotation))
    null = type(None) in members
    words = [said] if said else [_word(part, metadata) for part in members if part is not type(None)]
    return " or ".join(words) + (", or null" if null else "")


def _word(part: Any, metadata: list[Any]) -> str:
    if get_origin(part) is Literal:
        choices = [str(choice) for choice in get_args(part)]
        return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    if get_origin(part) is list:
        low, high = _bound(metadata, "min_length"), _bound(metadata, "max_length")
        count = "" if low is None else f" {low}" if low == high else f" at least {low}"
        return f"list of{count}{':' if count else ''} {_words(get_args(part)[0], [])}"
    if part in (int, float):
        bounds = [f"{sign} {_bound(metadata, name)}" for name, sign in _BOUNDS if _bound(metadata, name) is not None]
        return " ".join([_NAMES[part], " and ".join(bounds)]) if bounds else _NAMES[part]
    if part is str and _bound(metadata, "min_length"):
        return "non-empty string"
    if part is Any:
        return "any value"
    return _NAMES.get(get_origin(part) or part, getattr(part, "__name__", str(part)))


def _bound(metadata: list[Any], name: str) -> Any:
    return next((getattr(entry, name) for entry in metadata if getattr(entry, name, None) is not None), None)
