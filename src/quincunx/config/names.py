"""Older names: a setting written as a guide writes it is moved to its present path, keeping its place in the file.

Each recipe brings a table of names; everything here only reads such tables, so that a new guide is a new table.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from quincunx.config.document import Document, Problem
from quincunx.config.paths import KeyPath, dotted, is_mapping
from quincunx.config.schema import Name

ANY = "*"
"""The part of a pattern that stands for any one key."""


def split(pattern: str) -> KeyPath:
    """Return the path that a dotted pattern of a table writes."""
    return tuple(pattern.split("."))


def resolve(document: Document, names: Sequence[Name], moved: dict[KeyPath, KeyPath] | None = None) -> list[Problem]:
    """Move every older name in a document to its present path, places and history included.

    Values are transformed where the older form differs. Parents that are emptied by the moves go, unknown keys stay
    where they are. `moved` receives present path -> path as written. Returns the problems: a value that cannot be
    transformed, a setting given under two names, an older name for a part that the file builds by `_target_`.
    """
    patterns = _Patterns.of(names)
    before = document.copy()
    moved = {} if moved is None else moved
    problems: list[Problem] = []
    twice: dict[KeyPath, list[KeyPath]] = {}
    for written, present, name in list(_older(patterns, before.tree, ())):
        _remove(document, written)
        value = before.get(written)
        try:
            value = _transformed(name.transform, value) if name.transform else value
        except ValueError as error:
            mark = before.mark(written, key=False)
            remedy = f"write that, or give `{dotted(present)}` in its place"
            problems.append(Problem("error", present, mark, f"`{dotted(written)}`: {error}", remedy))
            continue
        node = target_above(document, present)
        if node is not None:
            problems.append(beside_target(before, written, present, node))
            continue
        for clash, origin in insert(document, present, before, written, moved):
            twice.setdefault(clash, []).append(origin)
        if name.transform and moved.get(present) == written:
            document.get(present[:-1])[present[-1]] = value
    for path in list(_empty_blocks(patterns, document.tree, ())):
        _remove(document, path)
    for present, others in twice.items():
        problems.append(given_twice(before, present, [moved.get(present, present), *others]))
    return problems


def present_path(path: KeyPath, names: Sequence[Name]) -> KeyPath:
    """Return the present path of a setting written under any of its names; an unknown path is returned as it is."""
    patterns = _Patterns.of(names)
    for end in range(len(path), 0, -1):
        found = patterns.match(path[:end])
        if found is not None:
            return found[0] + path[end:]
    for name in names:  # a block of rows is also known without its rows: gpu_memory for gpu_memory.*
        old, new = split(name.old), split(name.new)
        if old == (*path, ANY) and new[-1] == ANY:
            return new[:-1]
    return path


def expand(names: Iterable[Name], present: Iterable[KeyPath]) -> Iterator[tuple[KeyPath, KeyPath, Name]]:
    """Yield (older path, present path, name) for every name, each `*` written out for the settings that there are."""
    known = list(present)
    for name in names:
        old, new = split(name.old), split(name.new)
        if ANY not in old:
            yield old, new, name
            continue
        for path in known:
            bound = _bind(new, path)
            if bound is not None:
                yield _fill(old, bound), path, name


@dataclass
class _Patterns:
    """The older paths of a table as a tree, so that a document is matched in one walk."""

    children: dict[str | int, _Patterns] = field(default_factory=dict)
    name: Name | None = None

    @classmethod
    def of(cls, names: Sequence[Name]) -> _Patterns:
        return _patterns(tuple(names))

    def match(self, path: KeyPath) -> tuple[KeyPath, Name] | None:
        """Return the present path and the name for an older path; exact keys come before `*`."""
        return self._match(path, ())

    def _match(self, path: KeyPath, bound: KeyPath) -> tuple[KeyPath, Name] | None:
        if not path:
            return (_fill(split(self.name.new), bound), self.name) if self.name else None
        wild = self.children.get(ANY)
        exact = self.children.get(path[0]) if path[0] != ANY else None  # a key that is a star is a name like any other
        found = exact._match(path[1:], bound) if exact else None
        if found is None and wild is not None and isinstance(path[0], str):
            found = wild._match(path[1:], (*bound, path[0]))
        return found


@functools.lru_cache(maxsize=16)
def _patterns(names: tuple[Name, ...]) -> _Patterns:
    """Return the tree of a table; it is never changed, and a table is asked for again with every setting."""
    root = _Patterns()
    for name in names:
        node = root
        for part in split(name.old):
            node = node.children.setdefault(part, _Patterns())
        node.name = node.name or name
    return root


def _older(patterns: _Patterns, node: Any, path: KeyPath) -> Iterator[tuple[KeyPath, KeyPath, Name]]:
    """Yield every older name in a tree as (written path, present path, name), in the order of the file."""
    found = patterns.match(path) if path else None
    if found is not None:
        yield path, *found
    elif is_mapping(node):
        for key, value in node.items():
            yield from _older(patterns, value, (*path, key))


def _empty_blocks(patterns: _Patterns, node: Any, path: KeyPath) -> Iterator[KeyPath]:
    """Yield the paths of empty mappings where older names could have stood."""
    for key, value in node.items() if is_mapping(node) else ():
        below = patterns.children.get(key) or patterns.children.get(ANY)
        if below is not None and value == {}:
            yield (*path, key)
        elif below is not None:
            yield from _empty_blocks(below, value, (*path, key))


def _fill(pattern: KeyPath, bound: KeyPath) -> KeyPath:
    keys = iter(bound)
    return tuple(next(keys) if part == ANY else part for part in pattern)


def _bind(pattern: KeyPath, path: KeyPath) -> KeyPath | None:
    if len(pattern) != len(path) or any(part not in (ANY, key) for part, key in zip(pattern, path, strict=True)):
        return None
    return tuple(key for part, key in zip(pattern, path, strict=True) if part == ANY)


def _transformed(transform: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, str) and "${" in value:
        raise ValueError("the present form of this older name differs, so it takes a value and no ${...}")
    return transform(value)


def _remove(document: Document, path: KeyPath) -> None:
    """Take a value out of a document, and every parent that this leaves empty."""
    document.delete(path)
    for end in range(len(path) - 1, 0, -1):
        if document.get(path[:end]) != {}:
            return
        document.delete(path[:end])


def insert(
    document: Document, goal: KeyPath, source: Document, origin: KeyPath, moved: dict[KeyPath, KeyPath]
) -> Iterator[tuple[KeyPath, KeyPath]]:
    """Put a subtree of another document at a path; yield (path, path in the other) of what already stands there."""
    value = source.get(origin)
    if document.has(goal):
        if is_mapping(value) and is_mapping(document.get(goal)):
            for key in value:
                yield from insert(document, (*goal, key), source, (*origin, key), moved)
        else:
            yield goal, origin
        return
    for end in range(1, len(goal)):
        if document.has(goal[:end]) and not is_mapping(document.get(goal[:end])):
            return  # `update: 3` beside `training.batch_size`: the check says what is wrong with `update`
    document.graft(goal, source, origin)
    if goal != origin:
        moved[goal] = origin


def target_above(document: Document, path: KeyPath) -> KeyPath | None:
    """Return the path of a `_target_` node on the way to a path, if there is one."""
    for end in range(1, len(path)):
        if document.has((*path[:end], "_target_")):
            return path[:end]
    return None


def beside_target(before: Document, written: KeyPath, present: KeyPath, node: KeyPath) -> Problem:
    target = before.mark((*node, "_target_"))
    return Problem(
        "error",
        present,
        before.mark(written),
        f"`{dotted(written)}` sets `{dotted(present)}`, but `{dotted(node)}` is built from a `_target_`"
        + (f" ({target})" if target else ""),
        f"leave one of the two out; an argument of the target is written `{dotted((*node, 'name'))}`",
    )


def given_twice(before: Document, present: KeyPath, written: Sequence[KeyPath]) -> Problem:
    """Return the problem of one setting under several names, placed at the last of them."""
    marks = {path: before.mark(path) for path in written}
    last = max(written, key=lambda path: (mark.line, mark.column) if (mark := marks[path]) else (0, 0))
    others = [f"`{dotted(path)}`" + (f" ({marks[path]})" if marks[path] else "") for path in written if path != last]
    return Problem(
        "error",
        present,
        marks[last],
        f"one setting under {len(written)} names: `{dotted(last)}` is also given as {' and '.join(others)}",
        "keep one of them"
        + (f"; the present name is `{dotted(present)}`" if present not in (last, *written[:1]) else ""),
    )
