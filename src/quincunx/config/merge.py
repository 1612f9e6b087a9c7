"""Config layers -> one document: `base:` files below the file that names them, later values over earlier ones.

Overrides and `${path}` references belong to the same step and are found here too; what a value replaced stays in the
document's history, so that every value can tell where it came from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from quincunx.config.document import ConfigError, Document, Problem
from quincunx.config.interpolate import interpolate
from quincunx.config.override import Override, apply_override, parse_override
from quincunx.config.paths import KeyPath, is_list
from quincunx.config.read import expand, read_file

__all__ = ["Override", "apply_override", "interpolate", "merge", "parse_override", "read_layers"]


def read_layers(path: str | os.PathLike[str], read: Callable[[str], Document] = read_file) -> list[Document]:
    """Return the documents that make up a config file: its bases first, itself last, each without its `base` key.

    `base:` at the root names one file or a list of files, relative to the folder of the file that names them; later
    ones win over earlier ones. A file that several others are based on is read once, at its first place.

    Raises ConfigError with the problems of all files; a base that cannot be opened, or that leads back to a file
    based on it, is placed at the `base:` that names it.
    """
    reading = _Reading(read)
    reading.add(os.fspath(path), ())
    if reading.problems:
        raise ConfigError(reading.problems, reading.layers)
    return reading.layers


def merge(layers: Sequence[Document]) -> Document:
    """Return one document of all layers, later ones over earlier ones; the layers are left as they are.

    Mappings are merged key by key; scalars and lists are replaced, and so is a mapping by one with another
    `_target_`. What was replaced goes to the history.
    """
    merged = layers[0].copy() if layers else Document({})  # a copy: its history may name paths that are gone
    for layer in layers[1:]:
        if () in layer.places:
            merged.places[()] = layer.places[()]
        merged.overlay((), layer)
    return merged


class _Reading:
    """Collects the layers of a file and of its bases, and the problems of all of them."""

    def __init__(self, read: Callable[[str], Document]) -> None:
        self.layers: list[Document] = []
        self.problems: list[Problem] = []
        self._read = read
        self._seen: set[str] = set()

    def add(self, name: str, above: tuple[str, ...]) -> None:
        """Append the layers of one file, its bases before it; `above` are the files that led to it."""
        self._seen.add(_identity(name))
        try:
            document = self._read(name).copy()
        except ConfigError as error:
            self.problems.extend(error.problems)
            if not error.salvaged:
                return
            document = error.salvaged[0].copy()
        chain = (*above, name)
        for at, base in _bases(document, self.problems):
            mark = document.mark(at, key=False)
            below = str(Path(name).parent / expand(base))
            circle = [_identity(link) for link in chain]
            if _identity(below) in circle:
                shown = " -> ".join((*chain[circle.index(_identity(below)) :], below))
                remedy = "move what both need to a third file, and base both on it"
                self.problems.append(Problem("error", at, mark, f"a file cannot be its own base: {shown}", remedy))
            elif _identity(below) not in self._seen:
                known = len(self.problems)
                self.add(below, chain)
                # A file that cannot even be opened has no place of its own: the line that names it has.
                self.problems[known:] = [p if p.mark else replace(p, mark=mark) for p in self.problems[known:]]
        if document.has(("base",)):
            document.delete(("base",))
        self.layers.append(document)


def _identity(name: str) -> str:
    return os.path.realpath(expand(name))


def _bases(document: Document, problems: list[Problem]) -> list[tuple[KeyPath, str]]:
    """Return path and value of each base that a document names."""
    value = document.get(("base",)) if document.has(("base",)) else None
    entries = list(enumerate(value)) if is_list(value) else []
    named: list[tuple[KeyPath, object]] = [(("base", position), entry) for position, entry in entries]
    if value is not None and not is_list(value):
        named = [(("base",), value)]
    found: list[tuple[KeyPath, str]] = []
    for at, entry in named:
        if isinstance(entry, str) and entry and "\0" not in entry:
            found.append((at, entry))
        else:
            mark = document.mark(at, key=False)
            remedy = "write `base: other.yaml`, or a list of files; their settings come below this file's"
            problems.append(Problem("error", at, mark, "`base` names files, and this is no file name", remedy))
    return found
