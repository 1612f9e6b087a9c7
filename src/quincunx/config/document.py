"""A config file as plain Python values plus a map of where each one stands.

Readers produce documents, `names` and `merge` transform them, `check` reports against them: because every value keeps
its place through all of that, every problem can be shown as file:line:column with the line and a caret.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from quincunx.config.paths import KeyPath, dotted, is_list, is_mapping, walk
from quincunx.errors import QuincunxError

_LINE_END = re.compile(r"\r\n|\n|\r")
_WORD = re.compile(r"""["']?([\w.-]+)""")
"""A key as files write it."""


@dataclass(frozen=True)
class Source:
    """A file, or another origin such as the command line, with the lines that problems quote."""

    name: str
    lines: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class Mark:
    """A position in a source; line and column count from 1."""

    source: Source
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"


class SourceText:
    """The whole text of a source, which turns character offsets into marks."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.source = Source(name, tuple(_LINE_END.split(text)))
        self._starts = [0, *(end.end() for end in _LINE_END.finditer(text))]

    def mark(self, offset: int) -> Mark:
        """Return the line and column of a character offset (from 0) of the text."""
        line = bisect_right(self._starts, offset)
        return Mark(self.source, line, offset - self._starts[line - 1] + 1)


@dataclass(frozen=True)
class Place:
    """Where a setting stands: its key (None for list items and the root) and its value."""

    key: Mark | None
    value: Mark


@dataclass(frozen=True)
class Origin:
    """A value that stood at a path before something later replaced it."""

    value: Any
    place: Place


Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Problem:
    """One thing to say about a config: what was found, where, and what to do."""

    severity: Severity
    path: KeyPath
    mark: Mark | None
    message: str
    remedy: str = ""

    def render(self) -> str:
        """Return the problem as text: place and message, the quoted line with a caret, the remedy."""
        head = f"{self.mark}: " if self.mark else ""
        lines = [f"{head}{self.severity}: {self.message}"]
        if self.mark and 0 < self.mark.line <= len(self.mark.source.lines):
            lines.extend(quote(self.mark))
        if self.remedy:
            lines.append(f"    {self.remedy}")
        return "\n".join(lines)


def quote(mark: Mark, width: int = 110) -> list[str]:
    """Return the marked line and, below it, a caret under the marked column; long lines are cut around the mark."""
    line = mark.source.lines[mark.line - 1]
    # A control character in a file must not steer the reader's terminal.
    text = "".join(letter if letter.isprintable() else " " for letter in line)
    start = max(0, mark.column - 1 - width // 2) if len(text) > width else 0
    cut = ("..." if start else "", "..." if len(text) > start + width else "")
    gutter = f"{mark.line:>6} | "
    before = cut[0] + text[start : mark.column - 1].ljust(mark.column - 1 - start)
    return [f"{gutter}{cut[0]}{text[start : start + width]}{cut[1]}", " " * (len(gutter) + _cells(before)) + "^"]


def _cells(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for wide letters, none for combining ones."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


class ConfigError(QuincunxError):
    """One or more problems in a config, sorted by place and reported together."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem], salvaged: Sequence[Document] = ()) -> None:
        self.problems = tuple(sort_problems(problems))
        self.salvaged = tuple(salvaged)
        """What could be read all the same, so that later stages can report their problems too."""
        errors = sum(problem.severity == "error" for problem in self.problems)
        count = f"{errors} error" + ("s" if errors != 1 else "")
        super().__init__("\n\n".join(p.render() for p in self.problems) + f"\n\n{count}; nothing was run or written.")

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


def salvage(document: Document | None, problems: Sequence[Problem]) -> list[Document]:
    """Return what a reader made of a text in spite of its problems, without the values that it had to give up."""
    if document is None:
        return []
    for problem in problems:
        place = document.places.get(problem.path)
        if not problem.path or place is None or not document.has(problem.path):
            continue
        # a key that stands twice is marked at its second place: what stands at the first is kept
        if problem.mark in (place.key, place.value):
            document.delete(problem.path)
    return [document]


def sort_problems(problems: Sequence[Problem]) -> list[Problem]:
    """Return problems by source (in order of first appearance), line and column; those without a place last."""
    order: dict[str, int] = {}
    for problem in problems:
        if problem.mark:
            order.setdefault(problem.mark.source.name, len(order))

    def key(problem: Problem) -> tuple[int, int, int]:
        mark = problem.mark
        return (order[mark.source.name], mark.line, mark.column) if mark else (len(order), 0, 0)

    return sorted(problems, key=key)


@dataclass
class Document:
    """A tree of plain values (dict, list, str, int, float, bool, None) with the place and history of each.

    `history` holds the values that a later layer or override replaced, oldest first.
    """

    tree: Any
    places: dict[KeyPath, Place] = field(default_factory=dict[KeyPath, Place])
    history: dict[KeyPath, list[Origin]] = field(default_factory=dict[KeyPath, list[Origin]])

    def has(self, path: KeyPath) -> bool:
        """Tell whether a value stands at exactly this path."""
        node = self.tree
        for part in path:
            if not _holds(node, part):
                return False
            node = node[part]
        return True

    def get(self, path: KeyPath) -> Any:
        """Return the value at a path; KeyError when nothing stands there."""
        if not self.has(path):
            raise KeyError(dotted(path))
        node = self.tree
        for part in path:
            node = node[part]
        return node

    def mark(self, path: KeyPath, *, key: bool = True) -> Mark | None:
        """Return where a path stands (its key if wanted and there, else its value), or its nearest ancestor."""
        for end in range(len(path), -1, -1):
            place = self.places.get(path[:end])
            if place is not None:
                return place.key if key and place.key is not None else place.value
        return None

    def written_word(self, path: KeyPath) -> str:
        """Return the last word of the key under which the file has a setting, "" where it shows none."""
        mark = self.places[path].key if path in self.places else None
        if mark is None or not 0 < mark.line <= len(mark.source.lines):
            return ""
        found = _WORD.match(mark.source.lines[mark.line - 1][mark.column - 1 :])
        return found[1].rpartition(".")[2] if found else ""

    def put(self, path: KeyPath, value: Any, place: Place | None = None) -> None:
        """Set the value at a path, making the mappings on the way; what stood there goes to the history.

        A scalar on the way is replaced by a mapping. A list takes positions up to its length (the length appends).
        Raises ValueError for the root, for a key into a list and for a position into a mapping or past the end.
        """
        if not path:
            raise ValueError("the root of a document cannot be replaced")
        self._check_kinds(path)
        for end in range(1, len(path)):
            here = self.get(path[:end]) if self.has(path[:end]) else None
            if not (is_mapping(here) or is_list(here)):
                self._set(path[:end], {}, place)
        self._set(path, value, place)

    def delete(self, path: KeyPath) -> None:
        """Remove the value at a path and its places, without history; KeyError when nothing stands there.

        The places of the later items of a list move up with them. Raises ValueError for the root.
        """
        if not path:
            raise ValueError("the root of a document cannot be removed")
        self._forget_places(path, self.get(path))
        parent = self.get(path[:-1])
        del parent[path[-1]]
        if is_list(parent):
            self._close_gap(path)

    def graft(self, path: KeyPath, other: Document, origin: KeyPath = ()) -> None:
        """Put a copy of the subtree of another document (or of this one) here, places and history included."""
        value = copy_tree(other.get(origin))
        places: dict[KeyPath, Place] = {}
        history: dict[KeyPath, list[Origin]] = {}
        for known in _paths(value):
            if (*origin, *known) in other.places:
                places[known] = other.places[(*origin, *known)]
            if (*origin, *known) in other.history:
                history[known] = list(other.history[(*origin, *known)])
        self.put(path, value, places.get(()))
        for known, place in places.items():
            self.places[(*path, *known)] = place
        for known, entries in history.items():
            self.history.setdefault((*path, *known), []).extend(entries)

    def overlay(self, path: KeyPath, other: Document, origin: KeyPath = ()) -> None:
        """Lay a value of another document over the one here: mappings are merged key by key, all else is replaced.

        A mapping with a `_target_` other than the one here replaces it whole, so that the arguments of two callables
        never mix. A merged mapping takes the place of the later one.
        """
        new = other.get(origin)
        old = self.get(path) if self.has(path) else None
        if not (is_mapping(new) and is_mapping(old)) or (path and _another_target(old, new)):
            self.graft(path, other, origin)
            return
        if origin in other.places:
            self.places[path] = other.places[origin]
        for key in new:
            self.overlay((*path, key), other, (*origin, key))

    def leaves(self) -> Iterator[tuple[KeyPath, Any]]:
        """Yield every path that holds a scalar, a list or an empty mapping, in the order of the file."""
        yield from _leaves((), self.tree)

    def copy(self) -> Document:
        """Return a document whose tree and maps can be changed without touching this one."""
        return Document(copy_tree(self.tree), dict(self.places), {k: list(v) for k, v in self.history.items()})

    def _check_kinds(self, path: KeyPath) -> None:
        """Raise ValueError when a key leads into a list, or a position into something else or past the end."""
        node = self.tree
        for end, part in enumerate(path):
            reason = ""
            if is_list(node) and not (isinstance(part, int) and 0 <= part <= len(node)):
                reason = f"{dotted(path[:end])} is a list of {len(node)}"
            elif isinstance(part, int) and not is_list(node):
                reason = f"{dotted(path[:end]) or 'the root'} is not a list"
            if reason:
                raise ValueError(f"{reason}: {dotted(path)} has no place in it")
            node = self.get(path[: end + 1]) if self.has(path[: end + 1]) else None

    def _set(self, path: KeyPath, value: Any, place: Place | None) -> None:
        """Set a value in a container that is there, moving what it replaces from the places to the history."""
        if self.has(path):
            old = self.get(path)
            if path in self.places:
                self.history.setdefault(path, []).append(Origin(old, self.places[path]))
            self._forget_places(path, old)
        parent = self.get(path[:-1])
        if not self.has(path) and is_list(parent):
            parent.append(value)
        else:
            _assign(parent, path[-1], value)
        if place is not None:
            self.places[path] = place

    def _forget_places(self, path: KeyPath, value: Any) -> None:
        for known in _paths(value):
            self.places.pop((*path, *known), None)

    def _close_gap(self, path: KeyPath) -> None:
        """After the removal of a list item, let the places and history of the later items move up with them."""
        parent, removed = path[:-1], path[-1]
        for table in (self.places, self.history):
            for known, entry in list(table.items()):
                position = known[len(parent)] if len(known) > len(parent) and known[: len(parent)] == parent else None
                if isinstance(position, int) and isinstance(removed, int) and position >= removed:
                    del table[known]
                    if position > removed:
                        table[(*parent, position - 1, *known[len(path) :])] = entry  # pyright: ignore[reportArgumentType]


def relabel(place: Place, source: Source) -> Place:
    """Return the same place said to be in another source."""
    key = replace(place.key, source=source) if place.key else None
    return Place(key, replace(place.value, source=source))


def copy_tree(node: Any) -> Any:
    """Return a copy of a tree of plain values that shares no mapping and no list with it."""
    if is_mapping(node):
        return {key: copy_tree(value) for key, value in node.items()}
    if is_list(node):
        return [copy_tree(value) for value in node]
    return node


def _assign(parent: Any, part: str | int, value: Any) -> None:
    parent[part] = value


def _holds(node: Any, part: str | int) -> bool:
    if isinstance(part, int):
        return is_list(node) and 0 <= part < len(node)
    return is_mapping(node) and part in node


def _leaves(path: KeyPath, node: Any) -> Iterator[tuple[KeyPath, Any]]:
    if is_mapping(node) and node:
        for key, value in node.items():
            yield from _leaves((*path, key), value)
    elif path:
        yield path, node


def _paths(value: Any) -> Iterator[KeyPath]:
    yield ()
    for path, _ in walk(value):
        yield path


def _another_target(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return "_target_" in new and new["_target_"] != old.get("_target_")
