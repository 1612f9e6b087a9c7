"""Overrides as they are typed on the command line: `path=value`, `path+=item`, `~path`, `path=@file`.

Each is parsed with marks into its own text, so that a problem with its value is shown under the words that were typed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

from quincunx.config.document import ConfigError, Document, Mark, Origin, Place, Problem, Source
from quincunx.config.paths import KeyPath, PathSyntaxError, dotted, is_list, is_mapping, nearest, scan_path
from quincunx.config.read import FORMS, read_content, read_file
from quincunx.config.read_yaml import compose, resolve_scalar

_GRAMMAR = "an override is path=value, path+=item, ~path or path=@file"
_FLAG = re.compile(r"--?([A-Za-z_][\w.\-]*)(?:[= ](.*))?", re.DOTALL)
_COLON = re.compile(r"([A-Za-z_][\w.\-]*):\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class Override:
    """One change to a config: `value` set at, or appended to the list at, or whatever stands at `path` deleted."""

    kind: Literal["set", "append", "delete"]
    path: KeyPath
    content: Document
    """The value, with the places of all it holds; None for a deletion."""
    place: Place
    """Where path and value stand in the text of the override."""

    @property
    def value(self) -> Any:
        """The value to set or to append."""
        return self.content.tree


def parse_override(text: str, number: int) -> Override:
    """Return the override that a text writes; `number` counts those of one command line, from 1.

    A value is a plain scalar by the rules of YAML 1.2 (`1e-4`, `true`, `null`; nothing is the empty text), a flow
    collection (`[1, 2]`, `{a: 1}`) or a quoted text; `@file` stands for what a file holds: a tree for `.yaml`, `.json`
    and `.py`, text for any other suffix, one final line end removed. Raises ConfigError for anything else.

    Marks are at line `number` of a source named "command line".
    """
    parser = _Parser(text, number)
    if text.startswith("~"):
        path, end = parser.path(1)
        if end < len(text):
            parser.refuse(end, "a deletion is ~path and nothing more", f"write ~{dotted(path)}")
        mark = parser.mark(1)
        return Override("delete", path, Document(None), Place(mark, mark))
    path, end = parser.path(0)
    kind: Literal["set", "append"] = "append" if text.startswith("+=", end) else "set"
    end += 1 if kind == "append" else 0
    if not text.startswith("=", end):
        quotes = f", or put a key that holds `{text[end]}` in double quotes" if end < len(text) else ""
        parser.refuse(end, f"no `=` after {dotted(path)}", f"write {dotted(path)}=value{quotes}; {_GRAMMAR}")
    place = Place(parser.mark(0), parser.mark(end + 1))
    content = parser.value(end + 1)
    content.places[()] = Place(place.key, content.places[()].value if () in content.places else place.value)
    return Override(kind, path, content, place)


def apply_override(document: Document, override: Override) -> Document:
    """Return a document with one override applied; the given one is left as it is.

    Setting makes the mappings on the way, and lays a mapping over the one that is there; appending makes the list
    when nothing (or null) is there. What was replaced or deleted goes to the history.

    Raises ConfigError for a key into a list, a position outside one, appending to something else than a list, and
    deleting what is not there.
    """
    changed = document.copy()
    path, kind = override.path, override.kind
    present = changed.get(path) if changed.has(path) else None
    if kind == "delete":
        if not changed.has(path):
            _refuse(override, f"{dotted(path)} is not set, so it cannot be deleted", nearest(changed.tree, path))
        if path in changed.places and isinstance(path[-1], str):
            changed.history.setdefault(path, []).append(Origin(present, changed.places[path]))
        changed.delete(path)
        return changed
    _check_way(changed, override)
    if kind == "append" and not is_list(present):
        if present is not None:
            what = "a mapping" if is_mapping(present) else f"{present!r}"
            remedy = f"replace it: {dotted(path)}=[...]"
            _refuse(override, f"{dotted(path)} is {what}, and only a list takes a further item", remedy)
        changed.put(path, [], override.place)
        present = []
    changed.overlay((*path, len(present)) if is_list(present) and kind == "append" else path, override.content)
    return changed


def _check_way(document: Document, override: Override) -> None:
    """Refuse a path that enters a list by a key, or anything else by a position, or a position that is not there."""
    path = override.path
    for end, part in enumerate(path):
        node = document.get(path[:end]) if document.has(path[:end]) else None
        here = dotted(path[:end])
        if is_list(node) and isinstance(part, str):
            _refuse(override, f"{here} is a list, which has no key {part}", f"name an item by its position: {here}[0]")
        if is_list(node) and isinstance(part, int) and part >= len(node):
            remedy = f"its positions are 0 to {len(node) - 1}; " if node else "it is empty; "
            _refuse(override, f"{here} has no position {part}", f"{remedy}{here}+=item appends one")
        if isinstance(part, int) and not is_list(node):
            _refuse(override, f"no list stands at {here}", f"set it whole: {here}=[...]")


def _refuse(override: Override, message: str, remedy: str) -> NoReturn:
    raise ConfigError([Problem("error", override.path, override.place.key, message, remedy)])


class _Parser:
    """The text of one override, with marks into it."""

    def __init__(self, text: str, number: int) -> None:
        self._text = text
        self._number = number
        # The line number of a mark is the number of the override, so that problems come in the order of typing.
        self._source = Source("command line", ("",) * (number - 1) + (text,))

    def mark(self, offset: int) -> Mark:
        return Mark(self._source, self._number, offset + 1)

    def refuse(self, offset: int, message: str, remedy: str) -> NoReturn:
        raise ConfigError([Problem("error", (), self.mark(offset), message, remedy)])

    def path(self, start: int) -> tuple[KeyPath, int]:
        """Return the path that begins at an offset and where it ends; refuse, with the likely repair, what is none."""
        text = self._text
        flag, colon = _FLAG.fullmatch(text), _COLON.fullmatch(text)
        if flag:
            repaired = f"{flag[1]}={flag[2] or 'value'}"
            self.refuse(0, "settings are given without dashes", f"write {repaired}; {_GRAMMAR}")
        if colon and "=" not in colon[1]:
            self.refuse(colon.end(1), "a colon where `=` was expected", f"write {colon[1]}={colon[2]}; {_GRAMMAR}")
        if text.startswith("+"):
            plain = text.lstrip("+")
            self.refuse(0, "no + in front: a setting is added or replaced alike", f"write {plain}; {_GRAMMAR}")
        try:
            path, end = scan_path(text, start)
        except PathSyntaxError as error:
            self.refuse(error.offset, f"{error}: {text}" if text else "an empty override", _GRAMMAR)
        return path, end

    def value(self, start: int) -> Document:
        """Return the value that begins at an offset: a file's content, a flow collection, a quoted or plain scalar."""
        text = self._text[start:]
        if text.startswith("@"):
            return self._file(start)
        if text.lstrip().startswith(("[", "{", '"', "'")):
            # Blanks in front keep the offsets true; line ends would end the one line that marks know.
            padded = " " * start + re.sub(r"[\r\n]", " ", text)
            content = compose(padded, self.mark) or Document(None)
            kinds = {"[": list, "{": dict, '"': str, "'": str}
            if not isinstance(content.tree, kinds[text.lstrip()[0]]):
                self.refuse(start, "more than one value", "put the whole value in quotes, brackets or braces")
            return content
        try:
            value = resolve_scalar(text.strip()) if text.strip() else ""
        except ValueError as error:
            self.refuse(start, str(error), "write a number in range, or put text in quotes")
        return Document(value, {(): Place(None, self.mark(start))})

    def _file(self, start: int) -> Document:
        name = self._text[start + 1 :]
        if not name:
            self.refuse(start, "@ without a file name", "write path=@file; the text @ itself goes in quotes: '@'")
        try:
            if Path(name).suffix.lower() in FORMS:
                return read_file(name, mapping=False)
            text = read_content(name).removesuffix("\n").removesuffix("\r")
            return Document(text, {(): Place(None, self.mark(start))})
        except ConfigError as error:
            placed = [each if each.mark else replace(each, mark=self.mark(start)) for each in error.problems]
            raise ConfigError(placed) from None
