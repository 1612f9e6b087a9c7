"""A config in its canonical form: present names only, as plain values or as YAML that reads back equal.

The YAML is written here and not by a library, because what counts is that every reader takes each scalar for what it
is: floats always with a point, every string that could be something else in quotes.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from quincunx.config.fields import Setting, settings_of
from quincunx.config.paths import KeyPath, is_list, is_mapping

WIDTH = 110
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def canonical(config: BaseModel, *, full: bool = True, keep: Collection[str] = ()) -> dict[str, Any]:
    """Return a config as plain containers under its present names.

    With `full=False` whatever equals its default is left out, but for the recipe's name and the dotted paths in `keep`.
    """
    if full:
        return config.model_dump(by_alias=True)
    named = {name: getattr(config, name) for name in ("recipe",) if name in type(config).model_fields}
    return named | _set(config, keep)


def to_yaml(config: BaseModel, *, full: bool = False, comments: bool = False, keep: Collection[str] = ()) -> str:
    """Return a config as YAML that reads back as an equal config.

    With `full=False` whatever equals its default is left out, but for the dotted paths in `keep`: a setting that
    somebody wrote can mean more than a default (a count of examples that must be there). With `comments` each
    setting's meaning stands above it.
    """
    settings: Mapping[KeyPath, Setting] = settings_of(type(config)) if comments else {}
    return "\n".join(_lines(literal(canonical(config, full=full, keep=keep)), (), settings)) + "\n"


def yaml_text(tree: Mapping[str, Any]) -> str:
    """Return a mapping of plain values as YAML that reads back equal; TypeError for any other value in it."""
    return "\n".join(_lines(tree, (), {})) + "\n"


def scalar(value: Any) -> str:
    """Return a plain value in YAML's flow form."""
    if is_mapping(value):
        return "{" + ", ".join(f"{scalar(key)}: {scalar(entry)}" for key, entry in value.items()) + "}"
    if is_list(value):
        return "[" + ", ".join(scalar(entry) for entry in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        bare = _BARE.fullmatch(value) and value.lower() not in _WORDS
        return value if bare else '"' + "".join(_escaped(letter) for letter in value) + '"'
    raise TypeError(f"a config holds plain values, found {type(value).__name__}")


def literal(node: Any) -> Any:
    """Return a tree in which every `${` of a text is written so that it is read as a text and not as a reference."""
    if is_mapping(node):
        return {key: literal(value) for key, value in node.items()}
    if is_list(node):
        return [literal(value) for value in node]
    return node.replace("${", "$${") if isinstance(node, str) else node


def _lines(node: Mapping[str, Any], path: KeyPath, settings: Mapping[KeyPath, Setting]) -> Iterator[str]:
    pad = "  " * len(path)
    for number, (key, value) in enumerate(node.items()):
        below = (*path, key)
        setting = settings.get(below)
        if not path and number and (setting is not None or isinstance(value, Mapping)):
            yield ""
        if setting is not None and setting.doc:
            yield from textwrap.wrap(setting.doc, WIDTH, initial_indent=f"{pad}# ", subsequent_indent=f"{pad}# ")
        if is_mapping(value) and value:
            yield f"{pad}{scalar(key)}:"
            yield from _lines(value, below, settings)
        else:
            yield f"{pad}{scalar(key)}: {scalar(value)}"


def _set(section: BaseModel, keep: Collection[str] = (), prefix: str = "") -> dict[str, Any]:
    """Return the settings of a section that differ from what a file gets that leaves them out, or are to be kept."""
    found: dict[str, Any] = {}
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        path = f"{prefix}{info.alias or name}"
        kept = any(each == path or each.startswith(f"{path}.") for each in keep)
        if info.is_required() or kept or not _same(value, default):
            found[info.alias or name] = _set(value, keep, f"{path}.") if isinstance(value, BaseModel) else value
    return {**found, **(section.model_extra or {})}


def _same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal and of the same kinds: `1` and `1.0` are different frequencies."""
    if type(one) is not type(other):
        return False
    if isinstance(one, BaseModel):
        return _same(one.model_dump(by_alias=True), other.model_dump(by_alias=True))
    if is_mapping(one):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if is_list(one):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def _float(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    mantissa, exponent, power = repr(value).partition("e")
    return (mantissa if "." in mantissa else f"{mantissa}.0") + exponent + power


def _escaped(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable():
        return letter
    code = ord(letter)
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
