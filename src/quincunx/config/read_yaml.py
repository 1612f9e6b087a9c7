"""YAML 1.2 -> document: ruamel.yaml supplies the events, plain Python values and their places are built here.

Plain scalars follow the core schema of YAML 1.2 (`1e-4` is a float, `no` is text); tags, merge keys, duplicate keys
and runaway aliases are refused with their place.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NoReturn

from quincunx.config.document import ConfigError, Document, Mark, Place, Problem, SourceText, copy_tree, salvage
from quincunx.config.paths import KeyPath, dotted, walk

MAX_NODES = 100_000
"""Values in a document after its aliases are expanded; beyond this a file is taken for an alias bomb."""

MAX_DEPTH = 100
"""Levels of nesting."""

_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LONG_ESCAPE = re.compile(r"\\U([0-9a-fA-F]{8})")
_SURROGATE = re.compile("[\ud800-\udfff]")


def resolve_scalar(text: str) -> Any:
    """Return the value of a plain scalar by the core schema of YAML 1.2; ValueError for a number out of reach."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text) or _BASED.fullmatch(text):
        try:
            return int(text) if text.lstrip("+-").isdigit() else int(text, 0)
        except ValueError:
            raise ValueError(f"a whole number of {len(text)} digits is too long") from None
    if _FLOAT.fullmatch(text):
        if math.isinf(value := float(text)):
            raise ValueError(f"{text} is too large for a float; infinity is written .inf")
        return value
    if special := _SPECIAL.fullmatch(text):
        return math.nan if special[1] is None else float(f"{special[1]}inf")
    return text


def read_yaml(source: SourceText) -> Document | None:
    """Return the document in a YAML text, None when it holds nothing; ConfigError with all problems found."""
    try:
        return compose(source.text, source.mark)
    except ConfigError as error:
        if not source.text.lstrip().startswith(("{", "//", "/*")) or not re.search(r"//|/\*", source.text):
            raise
        hint = "if this is JSON with comments, name the file .json"
        hinted = [replace(each, remedy=f"{each.remedy}; {hint}") for each in error.problems]
        raise ConfigError(hinted, error.salvaged) from None


def compose(text: str, locate: Callable[[int], Mark]) -> Document | None:
    """Return the document in a YAML text whose character offsets `locate` turns into marks; None for no content."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    composer = _Composer(locate)
    for separator in re.finditer("[\x85\u2028\u2029]", text):
        composer.complain(
            separator.start(),
            f"the invisible character U+{ord(separator[0]):04X}, which YAML readers take for a space or a line end",
            f'remove it, or write it in double quotes as "\\u{ord(separator[0]):04x}"',
        )
    try:
        if not composer.problems:
            composer.read(YAML(typ="safe", pure=True).parse(text))  # pyright: ignore[reportUnknownMemberType]
    except YAMLError as error:
        offset, message, remedy = explain_syntax(error, text)
        composer.complain(offset, message, remedy)
    except (ValueError, OverflowError):  # the library does not check the range of \U escapes
        beyond = [found.start() for found in _LONG_ESCAPE.finditer(text) if int(found[1], 16) > sys.maxunicode]
        if not beyond:
            raise
        composer.complain(beyond[0], "an escape beyond the last character of Unicode", "write at most \\U0010ffff")
    except _Stop:
        pass
    if composer.problems:
        raise ConfigError(composer.problems, salvage(composer.document, composer.problems))
    return composer.document


class _Stop(Exception):
    """Reading cannot go on; the reason is among the problems."""


class _Anchor:
    """What an alias stands for: the value, once complete, and how many nodes it has."""

    def __init__(self) -> None:
        self.complete = False
        self.value: Any = None
        self.size = 0


class _Composer:
    """Builds a document from the events of a YAML parser."""

    def __init__(self, locate: Callable[[int], Mark]) -> None:
        self.document: Document | None = None
        self.problems: list[Problem] = []
        self._locate = locate
        self._places: dict[KeyPath, Place] = {}
        self._anchors: dict[str, _Anchor] = {}
        self._events: Iterator[Any] = iter(())
        self._nodes = 0

    def complain(self, offset: int, message: str, remedy: str, path: KeyPath = ()) -> None:
        self.problems.append(Problem("error", path, self._locate(offset), message, remedy))

    def read(self, events: Iterator[Any]) -> None:
        """Read the one document of a stream."""
        self._events = events
        documents = 0
        for event in events:
            if type(event).__name__ != "DocumentStartEvent":
                continue
            documents += 1
            if documents > 1:
                start = event.start_mark.index
                self.complain(start, "a second document begins here", "keep one document in a config file")
                return
            if event.version not in (None, (1, 2)):
                version = ".".join(str(part) for part in event.version)
                self.complain(0, f"the file asks for YAML {version}", "remove the %YAML line: values follow YAML 1.2")
            root = next(events)
            if type(root).__name__ != "ScalarEvent" or root.value or not root.implicit[0] or root.tag:
                self.document = Document(self._node(root, (), None), self._places)

    def _node(self, event: Any, path: KeyPath, key: Mark | None) -> Any:
        """Return the value that begins with an event, and note the places of it and all it holds."""
        start = event.start_mark.index
        place = Place(key, self._locate(start))
        self._places[path] = place
        self._count(1, start, path)
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event, path, place)
        anchor = self._properties(event, path)
        before = self._nodes
        if kind == "ScalarEvent":
            value = self._scalar(event, path)
        elif len(path) >= MAX_DEPTH:
            self._stop_too_deep(start, path)
        elif kind == "SequenceStartEvent":
            value = [self._node(item, (*path, i), None) for i, item in enumerate(self._until("SequenceEndEvent"))]
        else:
            value = self._mapping(event, path)
        anchor.complete, anchor.value, anchor.size = True, value, self._nodes - before + 1
        return value

    def _properties(self, event: Any, path: KeyPath) -> _Anchor:
        """Refuse a tag, and return the anchor under which aliases will look for this node's value."""
        anchor = _Anchor()
        if event.anchor is not None:
            self._anchors[event.anchor] = anchor
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            remedy = "write the plain value; text that would read as a number or a boolean goes in quotes"
            self.complain(
                event.start_mark.index, f"the tag {tag} is refused: a config holds plain values", remedy, path
            )
        return anchor

    def _until(self, end: str) -> Iterator[Any]:
        for event in self._events:
            if type(event).__name__ == end:
                return
            yield event

    def _count(self, nodes: int, offset: int, path: KeyPath) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self.complain(
                offset,
                f"with its aliases written out the file holds more than {MAX_NODES:,} values: an alias bomb",
                "write the values out, or put them in a data file",
                path,
            )
            raise _Stop

    def _stop_too_deep(self, offset: int, path: KeyPath) -> NoReturn:
        self.complain(offset, f"more than {MAX_DEPTH} levels of nesting", "flatten the file", path)
        raise _Stop

    def _scalar(self, event: Any, path: KeyPath) -> Any:
        start = event.start_mark.index
        if event.implicit[0]:
            try:
                return resolve_scalar(event.value)
            except ValueError as error:
                self.complain(start, str(error), "write a number in range, or put text in quotes", path)
                return None
        if not _SURROGATE.search(event.value):
            return event.value
        try:
            return event.value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self.complain(start, "half of a surrogate pair (\\ud800 to \\udfff) without its other half", _PAIR, path)
            return None

    def _alias(self, event: Any, path: KeyPath, place: Place) -> Any:
        start = event.start_mark.index
        anchor = self._anchors.get(event.anchor)
        if anchor is None:
            known = ", ".join(f"&{name}" for name in self._anchors) or "none"
            self.complain(start, f"no anchor &{event.anchor} stands before this alias", f"known here: {known}", path)
            return None
        if not anchor.complete:
            self.complain(start, f"*{event.anchor} stands inside &{event.anchor} itself", "remove the alias", path)
            return None
        self._count(anchor.size - 1, start, path)
        value = copy_tree(anchor.value)
        for below, _ in walk(value, path):
            if len(below) > MAX_DEPTH:
                self._stop_too_deep(start, path)
            self._places[below] = Place(place.value if isinstance(below[-1], str) else None, place.value)
        return value

    def _mapping(self, event: Any, path: KeyPath) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for entry in self._until("MappingEndEvent"):
            key = self._key(entry, path)
            mark = self._locate(entry.start_mark.index)
            content = next(self._events)
            if key in tree:
                first = self._places[(*path, key)].key or mark
                self.complain(
                    entry.start_mark.index,
                    f"the key {dotted((*path, key))} stands twice; the first is on line {first.line}",
                    "keep one of them",
                    (*path, key),
                )
                key = None
            if key is None:
                self._node(content, (*path, "?", self._nodes), None)  # read on, so that its problems are found too
                continue
            if event.flow_style and ":" in key and content.start_mark.index == content.end_mark.index:
                self.complain(entry.start_mark.index, f"`{key}` has no value", "put a space after the colon", path)
            tree[key] = self._node(content, (*path, key), mark)
        return tree

    def _key(self, event: Any, path: KeyPath) -> str | None:
        """Return the text of a key; None when it was refused."""
        start = event.start_mark.index
        if type(event).__name__ != "ScalarEvent":
            kind = "an alias" if type(event).__name__ == "AliasEvent" else "a list or a mapping"
            self.complain(start, f"{kind} as a key", "write the key as text", path)
            if kind != "an alias":
                self._node(event, (*path, "?", self._nodes), None)
            return None
        problems = len(self.problems)
        anchor = self._properties(event, path)
        value = self._scalar(event, path)
        anchor.complete, anchor.value, anchor.size = True, value, 1
        if event.implicit[0] and event.value == "<<":
            remedy = "write the keys out, or keep shared settings in a file of their own and name it under `base:`"
            self.complain(start, "the merge key << is not part of YAML 1.2", remedy, path)
        elif event.implicit[0] and not event.value:
            self.complain(start, "a key is missing before the colon", "write the key", path)
        elif not isinstance(value, str) and len(self.problems) == problems:
            kind = "null" if value is None else "a boolean" if isinstance(value, bool) else "a number"
            self.complain(
                start, f"the key {event.value} is {kind}, not text", f'put it in quotes: "{event.value}"', path
            )
        return value if isinstance(value, str) and len(self.problems) == problems else None


_PAIR = "write both halves, or the character itself"


def explain_syntax(error: Any, text: str) -> tuple[int, str, str]:
    """Return offset, message and remedy for an error that ruamel.yaml raised on a text."""
    if hasattr(error, "position"):
        message = f"the character U+{error.character:04X} is not allowed in YAML"
        return error.position, message, f'remove it, or write it in double quotes as "\\u{error.character:04x}"'
    found = str(error.problem or error.context or error)
    at, opened = error.problem_mark or error.context_mark, error.context_mark
    offset = at.index if at else 0
    since = f" (opened on line {opened.line + 1})" if opened else ""
    if r"'\t'" in found:
        return offset, "a tab stands where YAML wants spaces", "replace the tab by spaces"
    if "cannot start any token" in found:
        letter = text[offset : offset + 1]
        return offset, f"a plain value cannot begin with `{letter}`", "put the value in quotes"
    if "mapping values are not allowed" in found:
        remedy = "check the indentation of this line and the one before it, that a space follows each key's colon, "
        return offset, "no key can stand before this colon", remedy + "and that a text with `: ` in it is in quotes"
    if "could not find expected ':'" in found:
        start = opened.index if opened else offset
        return start, "a key without a colon", "write `key: value`, or indent the line if it continues the one before"
    if "unexpected end of stream" in found:
        return opened.index if opened else offset, "the quote that opens here is never closed", "close the quote"
    if "expected ','" in found:
        remedy = f"put a comma between entries and close the bracket{since}"
        remedy += "; inside brackets ${path} stands in quotes" if "${" in text else ""
        return offset, "neither a comma nor the closing bracket follows this entry", remedy
    if "expected the node content" in found:
        return offset, "a value is missing here", f"write it, and close every bracket{since}"
    if "expected <block end>" in found:
        return offset, "this line does not fit the lines before it", "give the keys of one level the same indentation"
    if "unknown escape" in found:
        remedy = "write a backslash twice, or use single quotes, in which it stands for itself"
        return offset, f"the backslash before `{text[offset : offset + 1]}` is no escape of YAML", remedy
    if "<document start>" in found:
        remedy = "remove it, or put all of it in quotes; a space follows the colon after a quoted key"
        return offset, "more text after the end of the value", remedy
    return offset, f"not readable as YAML: {found}", "check indentation, colons, quotes and brackets around this place"
