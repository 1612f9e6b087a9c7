"""How a place in a config tree is written: `optimizer.betas[0]`, `tasks."v1.0".lr`.

The same grammar serves messages, overrides and `${path}`, so what a message prints can be typed back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

KeyPath = tuple[str | int, ...]
"""The keys and list positions from the root to a value: `("optimizer", "betas", 0)`."""

_PLAIN = re.compile(r"""(?![~+-])(?:[^\s.\[\]"'={}:+$]|\+(?=[^\s.\[\]"'={}:+$]))+""")
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_ESCAPED = re.compile(r'\\(["\\])')
_POSITION = re.compile(r"\[([0-9]+)\]")


class PathSyntaxError(ValueError):
    """A path that cannot be read: the reason, and the offset in the text where it shows."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.offset = offset


def dotted(path: Sequence[str | int]) -> str:
    """Return a path as people write it: `encoder.num_layers`, `log.trackers[0]`, `tasks."v1.0"`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        plain = _PLAIN.fullmatch(part)
        key = part if plain else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
        text += f".{key}" if text else key
    return text


def parse_path(text: str) -> KeyPath:
    """Return the path that a whole text writes; PathSyntaxError when it is not one."""
    path, end = scan_path(text)
    if end != len(text):
        raise PathSyntaxError(f"`{text[end]}` cannot stand in a path; put a key that holds it in double quotes", end)
    return path


def scan_path(text: str, start: int = 0) -> tuple[KeyPath, int]:
    """Return the path that begins at an offset of a text, and the offset of the first character after it.

    Raises PathSyntaxError when no path begins there, or when a key or a list position is broken off.
    """
    parts: list[str | int] = []
    at = start
    while True:
        key = _PLAIN.match(text, at) or _QUOTED.match(text, at)
        if key is None:
            if text.startswith('"', at):
                raise PathSyntaxError("the double quote that opens here is not closed", at)
            raise PathSyntaxError("a key is missing" + (" after the dot" if parts else ""), at)
        parts.append(key[0] if key[0][0] != '"' else _ESCAPED.sub(r"\1", key[1]))
        at = key.end()
        while text.startswith("[", at):
            position = _POSITION.match(text, at)
            if not position:
                raise PathSyntaxError("a list position is written [0], [1], ...", at)
            parts.append(int(position[1]))
            at = position.end()
        if not text.startswith(".", at):
            return tuple(parts), at
        at += 1


def is_mapping(node: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether a node of a config tree is a mapping."""
    return isinstance(node, dict)


def is_list(node: Any) -> TypeGuard[list[Any]]:
    """Tell whether a node of a config tree is a list."""
    return isinstance(node, list)


def walk(tree: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield every path below a node with its value, containers before their contents; the node itself is left out."""
    entries = tree.items() if is_mapping(tree) else enumerate(tree) if is_list(tree) else ()
    for key, value in entries:
        yield (*path, key), value
        yield from walk(value, (*path, key))


def nearest(tree: Any, path: KeyPath) -> str:
    """Return "did you mean `...`?" for the path of a tree that is most like this one, or "" when none is."""
    import difflib

    written = [known for known, _ in walk(tree)]
    namesakes = [known for known in written if known[-1] == path[-1] and isinstance(path[-1], str)]
    if len(namesakes) == 1:
        return f"did you mean `{dotted(namesakes[0])}`?"
    close = difflib.get_close_matches(dotted(path), [dotted(known) for known in written], n=1, cutoff=0.7)
    return f"did you mean `{close[0]}`?" if close else ""
