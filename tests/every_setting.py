"""How a table of settings shows that each acts where it does, and is refused or named where it does not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from quincunx.config.check import NEUTRAL, check
from quincunx.config.document import Document, Problem
from quincunx.config.explain import as_json
from quincunx.config.names import split
from quincunx.config.schema import RecipeSchema

TESTS = Path(__file__).parent
Settings = Mapping[str, Any]
SECTIONS = ("section", "section, or a `_target_` node")


@dataclass(frozen=True)
class Shown:
    """A recipe's table, and what its settings are seen by."""

    schema: RecipeSchema
    rows: Sequence[Any]
    shared: Mapping[str, tuple[str, ...]]
    """File of tests -> the settings that it shows."""
    modes: Mapping[str, tuple[str, Settings]]
    """Mode -> its name, and the settings that make it."""
    small: Settings
    seen: Callable[[Settings, Path], Any]
    write_sets: Callable[[Path], Mapping[str, str]]

    def look(self, home: Path) -> Callable[[Settings], Any]:
        """Return a function that makes what is seen of settings, once for the same ones."""
        sets = self.write_sets(home)
        made: dict[str, Any] = {}

        def placed(value: Any) -> Any:
            if isinstance(value, str) and value.startswith("@"):
                return sets.get(value[1:], str(home / value[1:]))
            return value

        def looked(settings: Settings) -> Any:
            whole = {path: placed(value) for path, value in {**self.small, **settings}.items()}
            key = json.dumps(whole, sort_keys=True)
            if key not in made:
                made[key] = self.seen(whole, home / f"seen-{len(made)}")
            return made[key]

        return looked

    def acting(self) -> list[Any]:
        return [
            pytest.param(row, mode, id=f"{row.path}-{row.value}-{self.modes[mode][0]}")
            for row in self.rows
            for mode in (row.modes[0] if row.shown is None else row.shown)
        ]

    def idling(self) -> list[Any]:
        found: list[Any] = []
        for row in self.rows:
            if row.value in NEUTRAL:  # what switches something off is passed over in silence where there is none of it
                continue
            others = [mode for mode in self.modes if mode not in row.modes]
            found += [
                pytest.param(row, mode, {}, id=f"{row.path}-{row.value}-{self.modes[mode][0]}") for mode in others
            ]
            for number, further in enumerate(row.idle):
                found.append(pytest.param(row, row.modes[0], further, id=f"{row.path}-{row.value}-idle{number}"))
        return found

    def acts(self, row: Any, mode: str, look: Callable[[Settings], Any]) -> None:
        given = {**self.modes[mode][1], **row.base}
        first = row.see(look(given))
        then = row.see(look({**given, row.path: row.value}))
        assert first != then
        assert row.wanted is None or row.wanted(first, then), (first, then)

    def is_named(self, row: Any, mode: str, further: Settings) -> None:
        # what lets it act elsewhere may be out of place here itself: only what is said of this setting counts
        given = {**self.small, **self.modes[mode][1], **(row.base if further else {}), **further}
        found = self._problems({**given, row.path: further.get(row.path, row.value)})
        given.pop(row.path, None)
        earlier = {(each.path, each.message) for each in self._problems(given)}
        fresh = [each for each in found if (each.path, each.message) not in earlier]
        assert any(each.path == split(row.path) or row.path in each.message for each in fresh), fresh

    def is_whole(self) -> None:
        listed = {each["path"] for each in as_json([self.schema]) if each["type"] not in SECTIONS}
        shown = {row.path for row in self.rows}
        elsewhere = {path for paths in self.shared.values() for path in paths}
        assert listed - shown - elsewhere == set()
        assert (shown | elsewhere) - listed == set(), "no setting any more"
        assert shown & elsewhere == set()

    def _problems(self, settings: Settings) -> list[Problem]:
        document = Document({"recipe": self.schema.name})
        for path, value in settings.items():
            document.put(split(path), value)
        return list(check(document, self.schema).problems)


def speaks_of(file: str, paths: tuple[str, ...]) -> None:
    text = (TESTS / file).read_text()
    for path in paths:
        word = path.rpartition(".")[2]
        assert re.search(rf"\b{re.escape(word)}\b", text) or f"--{word.replace('_', '-')}" in text, path
