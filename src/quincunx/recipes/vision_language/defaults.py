"""The last step before a config is judged: what guide 002's form takes for granted, and switches that say one thing."""

from __future__ import annotations

from typing import Any

from quincunx.config.document import Document
from quincunx.config.load import COMMAND_LINE
from quincunx.config.paths import KeyPath, is_mapping
from quincunx.recipes.vision_language.names import KEYS

FOLDER = "datasets"
"""Where the guide's programs look for data, beside which they have no key for it."""
COMMON = frozenset({"recipe", "seed", "run", "init_partial", "chunking", "compute", "debug", "log"})
"""Sections that say nothing about the form: their settings may be added to a guide's file."""
_GUIDE: dict[KeyPath, str] = {tuple(new.split(".")): old for old, new, _ in KEYS}


def prepare(document: Document) -> list[str]:
    """Settle a document of present names in place, and return sentences on what was taken for granted."""
    if not is_mapping(document.tree):
        return []
    notes: list[str] = []
    _processes(document)
    if is_guide_form(document):
        if not document.has(("data", "path")):
            document.put(("data", "path"), FOLDER)
            notes.append(f"in the form of guide 002: data.path {FOLDER}")
        if _pretrains(document):
            document.put(("objective",), "pretraining")
            notes.append("losses are given and no tasks: objective pretraining")
    return notes


def is_guide_form(document: Document) -> bool:
    """Tell whether the files are written in the guide's form: more of their settings have its names than ours."""
    guide = ours = 0
    for path, _ in document.leaves():
        place = document.places.get(path)
        if place is None or place.value.source.name == COMMAND_LINE:
            continue
        word = document.written_word(path)
        if _GUIDE.get(path) == word:
            guide += word != path[-1]  # a word that both have says nothing
        elif path[0] not in COMMON:
            ours += 1
    return guide > ours


def _pretrains(document: Document) -> bool:
    path: KeyPath = ("data", "tasks")
    named = document.get(path) if document.has(path) else None
    return document.has(("pretraining", "losses")) and not named and not document.has(("objective",))


def _processes(document: Document) -> None:
    """Make `compute.processes: auto` of the switches that ask for several; leave contradictions to the check."""
    asked: list[KeyPath] = [("compute", "multi_gpu"), ("compute", "distributed")]
    on = [path for path in asked if document.has(path) and document.get(path) is True]
    if on and not document.has(("compute", "processes")):
        value: Any = "auto"
        document.put(("compute", "processes"), value, document.places.get(on[0]))
