"""A config's source as documents: a file with its bases, or Python mappings, which get places of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from quincunx.config.document import ConfigError, Document, Problem
from quincunx.config.merge import read_layers
from quincunx.config.paths import KeyPath, dotted
from quincunx.config.read import read_file, read_text
from quincunx.config.write import yaml_text

MAPPING = "config"
"""Name of the source in problems when a config is given as a Python mapping."""


def read_source(source: str | os.PathLike[str] | Mapping[str, Any]) -> list[Document]:
    """Return the documents of a file and its bases, or of a mapping; ConfigError as `read_layers` raises it."""
    if not isinstance(source, Mapping):
        return read_layers(source)
    problems: list[Problem] = []
    tree = _plain(source, (), problems)
    if problems:
        raise ConfigError(problems)
    document = read_text(yaml_text(tree), MAPPING, "yaml")
    return read_layers(MAPPING, lambda name: document if name == MAPPING else read_file(name))


def _plain(value: Any, path: KeyPath, problems: list[Problem]) -> Any:
    """Return a value as plain containers and scalars; whatever else it holds becomes a problem."""
    if isinstance(value, Mapping):
        entries = cast("Mapping[Any, Any]", value)
        return {str(key): _plain(entry, (*path, str(key)), problems) for key, entry in entries.items()}
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return [_plain(item, (*path, position), problems) for position, item in enumerate(items)]
    if isinstance(value, os.PathLike):
        return os.fspath(cast("os.PathLike[str]", value))
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a NumPy scalar
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    remedy = "give numbers, texts, true or false, None, lists and mappings"
    message = f"`{dotted(path)}` holds a {type(value).__name__}, and a config holds plain values"
    problems.append(Problem("error", path, None, message, remedy))
    return None
