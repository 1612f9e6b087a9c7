"""`${path}`: a setting that takes its value, or part of its text, from another setting of the same config.

Nothing else is looked up: an environment variable would be written into the run folder, and with it, perhaps, a secret.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from quincunx.config.document import ConfigError, Document, Place, Problem, copy_tree
from quincunx.config.paths import KeyPath, PathSyntaxError, dotted, is_list, is_mapping, nearest, parse_path, walk

MAX_NODES = 100_000
"""Values that references may copy in all; beyond this they are taken for a bomb, as with aliases in YAML."""

MAX_TEXT = 1_000_000
"""Characters that one text may have with its references written out."""

MAX_CHAIN = 160
"""References and levels of nesting that may depend on each other in a row."""

_MARKER = re.compile(r"\$\$\{|\$\{")
_REFERENCE = re.compile(r"""\$\{((?:"(?:[^"\\]|\\.)*"|[^{}"])*)\}""")


def interpolate(document: Document, known: Callable[[str], str | None] | None = None) -> Document:
    """Return a document in which every `${path}` is replaced by the value that stands at that path.

    A text that is one reference and nothing else takes the value with its type, mappings and lists copied; within a
    longer text the value is written as YAML would write it. `$${` is the text `${`. References may lead to further
    ones. All of a copied value has the place of the text that holds the reference.

    `known` turns a path that the document does not have into the one it is now called by, or None.

    Raises ConfigError with all references that lead nowhere, in a circle, outside the config, or cannot be read.
    """
    if not any(isinstance(value, str) and "${" in value for _, value in walk(document.tree)):
        return document.copy()
    resolver = _Resolver(document, known)
    resolved = document.copy()
    with contextlib.suppress(_Stop):
        resolved.tree = resolver.resolve(())
    if resolver.problems:
        raise ConfigError(resolver.problems)
    for path, _ in walk(resolved.tree):
        above = resolved.places.get(path[:-1])
        if above is not None and not document.has(path):
            resolved.places[path] = Place(above.value if isinstance(path[-1], str) else None, above.value)
    return resolved


class _Stop(Exception):
    """Resolving cannot go on; the reason is among the problems."""


@dataclass(frozen=True)
class _Failed:
    """Stands for a value that has a problem, so that what depends on it is not reported as well."""


_FAILED = _Failed()


class _Resolver:
    """Resolves values on demand, each once."""

    def __init__(self, document: Document, known: Callable[[str], str | None] | None) -> None:
        self.problems: list[Problem] = []
        self._document = document
        self._known = known
        self._done: dict[KeyPath, Any] = {}
        self._active: list[KeyPath] = []
        self._copied = 0

    def resolve(self, path: KeyPath) -> Any:
        """Return the value at a path of the document, all references in it resolved."""
        if path in self._done:
            return self._done[path]
        if path in self._active:
            circle = [*self._active[self._active.index(path) :], path]
            names = [dotted(each) for i, each in enumerate(circle) if i == 0 or each[:-1] != circle[i - 1]]
            return self._fail(path, f"a circle of references: {' -> '.join(names)}", "give one of them a value")
        if len(self._active) >= MAX_CHAIN:
            return self._stop(path, "too long a chain of references", "refer to the value itself")
        node = self._document.get(path)
        self._active.append(path)
        if is_mapping(node):
            value: Any = {key: self.resolve((*path, key)) for key in node}
        elif is_list(node):
            value = [self.resolve((*path, position)) for position in range(len(node))]
        else:
            value = self._text(path, node) if isinstance(node, str) and "${" in node else node
        self._active.pop()
        self._done[path] = value
        return value

    def _text(self, path: KeyPath, text: str) -> Any:
        whole = _REFERENCE.fullmatch(text)
        if whole:
            value = self._lookup(path, whole[1])
            self._copied += 1 + (sum(1 for _ in walk(value)) if is_mapping(value) or is_list(value) else 0)
            if self._copied > MAX_NODES:
                self._stop(path, f"references copy more than {MAX_NODES:,} values", "refer to less, or write it out")
            return copy_tree(value)
        pieces: list[str] = []
        at = 0
        while marker := _MARKER.search(text, at):
            pieces.append(text[at : marker.start()])
            at = marker.end()
            if marker[0] == "$${":
                pieces.append("${")
                continue
            reference = _REFERENCE.match(text, marker.start())
            if not reference:
                inner = "${" in text[at:].partition("}")[0]
                message = "a reference within a reference" if inner else "`${` without its closing `}`"
                return self._fail(path, message, "write ${path} with a plain path; the text `${` itself is written $${")
            value = self._lookup(path, reference[1])
            if value is _FAILED:
                return value
            if is_mapping(value) or is_list(value):
                kind = "mapping" if is_mapping(value) else "list"
                remedy = f"refer to a value in it, or make ${{{reference[1]}}} the whole value"
                return self._fail(path, f"${{{reference[1]}}} is a {kind}, which has no place within a text", remedy)
            pieces.append(_written(value))
            at = reference.end()
        result = "".join((*pieces, text[at:]))
        if len(result) > MAX_TEXT:
            self._stop(path, f"a text of more than {MAX_TEXT:,} characters", "refer to less")
        return result

    def _lookup(self, path: KeyPath, written: str) -> Any:
        """Return the resolved value that a reference written at `path` means."""
        written = written.strip()
        scheme = written.partition(":")[0] if ":" in written and not written.startswith('"') else ""
        if scheme in ("env", "oc.env"):
            remedy = "write the value itself; secrets are not settings, and stay in the environment"
            reason = "environment variables are not read, because they would be written into run folders"
            return self._fail(path, f"${{{written}}}: {reason}", remedy)
        if scheme:
            return self._fail(path, f"${{{written}}}: there are no resolvers", "only ${path} is resolved")
        if written.startswith("."):
            return self._fail(path, f"${{{written}}}: a relative path", "write the path from the root, without the dot")
        try:
            target = parse_path(written)
        except PathSyntaxError as error:
            return self._fail(path, f"${{{written}}} is no path: {error}", "write ${section.key}; $${ is the text `${`")
        found = self._follow(target)
        if found is None and self._known and (present := self._known(written)) is not None:
            found = self._follow(parse_path(present))
        if found is None:
            return self._fail(path, f"${{{written}}}: nothing stands at {dotted(target)}", self._suggest(target))
        return found[0]

    def _suggest(self, target: KeyPath) -> str:
        return nearest(self._document.tree, target) or "only what the config sets can be referred to, not defaults"

    def _follow(self, target: KeyPath) -> tuple[Any] | None:
        """Return the resolved value at a path, references on the way followed; None when there is none."""
        for end in range(1, len(target)):
            if not self._document.has(target[:end]):
                return None
            node = self._document.get(target[:end])
            if isinstance(node, str) and "${" in node:
                value = self.resolve(target[:end])
                if value is _FAILED:
                    return (value,)
                inside = Document(value)
                return (inside.get(target[end:]),) if inside.has(target[end:]) else None
        return (self.resolve(target),) if self._document.has(target) else None

    def _fail(self, path: KeyPath, message: str, remedy: str) -> _Failed:
        mark = self._document.mark(self._active[-1] if self._active else path, key=False)
        self.problems.append(Problem("error", path, mark, message, remedy))
        return _FAILED

    def _stop(self, path: KeyPath, message: str, remedy: str) -> NoReturn:
        self._fail(path, message, remedy)
        raise _Stop


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
