"""Names of run folders as guide 003 writes them: `<name>_<number>_<key><value>_<key><value>...`, within what file
systems take, and never the same for other settings. Their numbers are given out by the storage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

UNFIT = re.compile(r"[^\w.+=:@%~^-]")
"""Spaces, brackets, quotes, commas and slashes, as in the guide, and what else a shell or a file system may mistake."""

HASHED = re.compile(r"_[0-9a-f]{8}$")


def folder_name(name: str, number: int, settings: Mapping[str, Any], limit: int = 200) -> str:
    """Return the name of a run's folder.

    Where the plain form is too long, or would not tell these settings from all others of the same keys (`[1, 2]` and
    `12` look alike without brackets), a hash of the settings follows.

    Args:
        name: The word that all run folders of the sweep begin with.
        number: The run's number.
        settings: The ranged settings as written -> value, in the order of the ranges.
        limit: Most bytes of the name (file systems take 255); room for the number and the hash there always is.

    Returns:
        For example `study_3_lr1e-05_n_layers4`.
    """
    texts = [_text(value) for value in settings.values()]
    parts = [f"_{UNFIT.sub('', key)}{text}" for key, text in zip(settings, texts, strict=True)]
    plain = f"{name}_{number}{''.join(parts)}"
    if len(plain.encode("utf-8", "replace")) <= limit and _tells(settings, texts, "".join(parts)):
        return plain
    ending = "_" + _hash(settings)
    head = f"_{number}"
    name = _cut(name, limit - len(head) - len(ending))
    body = name + head
    for part in parts:
        if len((body + part + ending).encode("utf-8", "replace")) > limit:
            break
        body += part
    return body + ending


def _text(value: Any) -> str:
    return UNFIT.sub("", repr(value) if isinstance(value, float) else str(value))


def _tells(settings: Mapping[str, Any], texts: list[str], body: str) -> bool:
    """Whether the plain name can be read back, given the keys: every value by itself, and where each one ends."""
    if HASHED.search(body) or not all(_readable(value) for value in settings.values()):
        return False
    keys = [f"_{UNFIT.sub('', key)}" for key in settings]
    if any(UNFIT.search(key) for key in settings):
        return False
    rest, found = body, []
    for index, key in enumerate(keys):
        rest = rest.removeprefix(key)
        end = rest.find(keys[index + 1]) if index + 1 < len(keys) else len(rest)
        found.append(rest[:end])
        rest = rest[end:]
    return found == texts


def _readable(value: Any) -> bool:
    """Whether no other value is written like this one without quotes and brackets."""
    if not isinstance(value, str):
        return value is None or isinstance(value, bool | int | float)
    return not UNFIT.search(value) and value not in ("None", "True", "False") and not _is_number(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cut(text: str, limit: int) -> str:
    """Shorten to so many bytes, at a whole character."""
    return text.encode("utf-8", "replace")[: max(limit, 0)].decode("utf-8", "ignore")


def _hash(settings: Mapping[str, Any]) -> str:
    return blake2b(_spelt(list(settings.items())).encode(), digest_size=4).hexdigest()


def _spelt(value: Any) -> str:
    """Write a value with its types, mappings in one order whatever theirs."""
    if isinstance(value, Mapping):
        return "{" + ",".join(sorted(f"{_spelt(key)}:{_spelt(item)}" for key, item in value.items())) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_spelt(item) for item in value) + "]"
    return ascii(value)
