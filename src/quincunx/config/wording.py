"""What a problem says: the values that were found and expected in words, and what to write instead."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from quincunx.config.document import Document
from quincunx.config.fields import Setting, choices_of
from quincunx.config.paths import KeyPath, dotted, is_list, is_mapping
from quincunx.config.suggest import Vocabulary, closest

BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
LONGEST = 60


def show(value: Any) -> str:
    """Return a value as a message names it: as a file writes it if it is plain, else its kind."""
    if is_mapping(value):
        return "a mapping" if value else "an empty mapping"
    if is_list(value):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= LONGEST else f'{text[:LONGEST]}..."'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if len(str(value)) <= LONGEST else f"{str(value)[:LONGEST]}..."


def with_article(words: str) -> str:
    """Return accepted values in words with the article that a sentence needs."""
    first = words.split(" ", 1)[0].rstrip(",")
    if first == "int":
        return f"an {words}"
    return f"a {words}" if first in ("float", "string", "list", "non-empty", "mapping", "section") else words


def wrong_value(
    label: str, setting: Setting, path: KeyPath, document: Document, reasons: Sequence[str]
) -> tuple[str, str]:
    """Return message and remedy for a value that its setting does not accept.

    `label` is the setting as it is to be named, `reasons` are what its own validators said.
    """
    value = document.get(path)
    if setting.sections and path == setting.path:
        return _wrong_section(label, setting, value)
    item = path != setting.path
    words = setting.item_words if item else setting.words
    message = f"{label}: expected {with_article(words)}, found {show(value)}"
    return message, "; ".join(reasons) or _remedy(setting, path, document, value, setting.item_kinds if item else None)


def unknown_key(shown: KeyPath, path: KeyPath, value: Any, vocabulary: Vocabulary, advice: str) -> tuple[str, str]:
    """Return message and remedy for a key that is not known at its place."""
    below = vocabulary.levels.get(path)
    if below:
        message = f"`{dotted(shown)}` is a block of settings, found {show(value)}"
        return message, f"leave it out, or give it keys such as {_listed(below, 4)}"
    where = f" under `{dotted(shown[:-1])}`" if shown[:-1] else ""
    known = vocabulary.levels.get(path[:-1], ())
    return f"unknown key `{shown[-1]}`{where}", advice or (f"known here: {_listed(known, 14)}" if known else "")


def _wrong_section(label: str, setting: Setting, value: Any) -> tuple[str, str]:
    key = setting.path[-1]
    if is_mapping(value):
        return f"{label}: its keys do not say which kind of section it is", f"quincunx explain {dotted(setting.path)}"
    message = f"{label} is a section, found {show(value)}"
    if value is None:
        return message, f"leave the line out, or write `{key}: {{}}`, to get its defaults"
    for section in setting.sections:
        for name, info in section.model_fields.items():
            if isinstance(value, str) and value.lower() in choices_of(info.annotation):
                return message, f"write `{key}: {{{info.alias or name}: {value}}}`"
    names = [info.alias or name for name, info in setting.sections[0].model_fields.items()]
    return message, f"its settings stand below it: {_listed(names, 6)}"


def _remedy(setting: Setting, path: KeyPath, document: Document, value: Any, item_kinds: frozenset[type] | None) -> str:
    kinds = setting.kinds if item_kinds is None else item_kinds
    if isinstance(value, str):
        meant = _meant(value, kinds)
        if meant:
            return "remove the quotes" if meant == value and _is_quoted(document, path) else f"write {meant}"
        near = closest(value, setting.choices)
        if near:
            return f"did you mean `{near[0]}`?"
    if isinstance(value, float) and int in kinds and float not in kinds and value.is_integer():
        return f"write {int(value)}"
    if value is None:
        return f"leave the line out to get the default, {show(setting.default)}"
    if is_mapping(value):
        return f"`{path[-1]}` takes a value, not settings below it"
    if list in kinds and not is_list(value):
        return f"write a list: [{show(value)}]"
    if setting.default is not None and item_kinds is None and not is_list(setting.default):
        return f"the default is {show(setting.default)}"
    return f"quincunx explain {dotted(setting.path)} says what it means"


def _meant(text: str, kinds: frozenset[type]) -> str:
    """Return the number or boolean that a string spells, as it should be written; "" for another string."""
    if bool in kinds and text.lower() in BOOLEANS:
        return show(BOOLEANS[text.lower()])
    if int in kinds or float in kinds:
        try:
            number = float(text.replace("_", ""))
        except ValueError:
            return ""
        if float in kinds or number.is_integer():
            plain = text.replace("_", "").strip()
            return plain if float in kinds or plain.lstrip("+-").isdigit() else str(int(number))
    return ""


def _is_quoted(document: Document, path: KeyPath) -> bool:
    """Tell whether the file quotes the value at a path; a string without a text to look at counts as quoted."""
    mark = document.mark(path, key=False)
    if mark is None or not 0 < mark.line <= len(mark.source.lines):
        return True
    return mark.source.lines[mark.line - 1][mark.column - 1 : mark.column] in ('"', "'")


def _listed(keys: Sequence[str], most: int) -> str:
    return ", ".join(keys[:most]) + (", ..." if len(keys) > most else "")
