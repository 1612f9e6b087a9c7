"""No setting is accepted without effect: each is seen to act where it does, and refused or named where it does not.

The table is in `settings_rows`. Settings that the engine serves alike in every recipe are shown in the engine's tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from quincunx.config.check import NEUTRAL, check
from quincunx.config.document import Document, Problem
from quincunx.config.explain import as_json
from quincunx.config.names import split
from quincunx.recipes.vision_language.config import SCHEMA
from recipes.vision_language.settings_rows import ROWS, SHARED, Row
from recipes.vision_language.settings_seen import MODES, SMALL, Seen, write_sets

TESTS = Path(__file__).parents[2]
Settings = Mapping[str, Any]
SECTIONS = ("section", "section, or a `_target_` node")


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Settings], Seen]:
    """Return a function that makes what is seen of settings, once for the same ones."""
    pytest.importorskip("transformers")
    home = tmp_path_factory.mktemp("settings")
    sets = write_sets(home)
    made: dict[str, Seen] = {}

    def placed(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("@"):
            return sets.get(value[1:], str(home / value[1:]))
        return value

    def looked(settings: Settings) -> Seen:
        whole = {path: placed(value) for path, value in {**SMALL, **settings}.items()}
        key = json.dumps(whole, sort_keys=True)
        if key not in made:
            made[key] = Seen(whole, home / f"seen-{len(made)}")
        return made[key]

    return looked


def acting() -> list[Any]:
    return [
        pytest.param(row, mode, id=f"{row.path}-{row.value}-{MODES[mode][0]}")
        for row in ROWS
        for mode in (row.modes[0] if row.shown is None else row.shown)
    ]


def idling() -> list[Any]:
    found: list[Any] = []
    for row in ROWS:
        if row.value in NEUTRAL:  # what switches something off is passed over in silence where there is none of it
            continue
        others = [mode for mode in MODES if mode not in row.modes]
        found += [pytest.param(row, mode, {}, id=f"{row.path}-{row.value}-{MODES[mode][0]}") for mode in others]
        for number, further in enumerate(row.idle):
            found.append(pytest.param(row, row.modes[0], further, id=f"{row.path}-{row.value}-idle{number}"))
    return found


def before(row: Row, mode: str) -> dict[str, Any]:
    return {**MODES[mode][1], **row.base}


@pytest.mark.parametrize(("row", "mode"), acting())
def test_a_setting_acts(row: Row, mode: str, look: Callable[[Settings], Seen]):
    given = before(row, mode)
    first = row.see(look(given))
    then = row.see(look({**given, row.path: row.value}))
    assert first != then
    assert row.wanted is None or row.wanted(first, then), (first, then)


def problems(settings: Settings) -> list[Problem]:
    document = Document({"recipe": "vision_language"})
    for path, value in settings.items():
        document.put(split(path), value)
    return list(check(document, SCHEMA).problems)


@pytest.mark.parametrize(("row", "mode", "further"), idling())
def test_a_setting_that_cannot_act_is_refused_or_named(row: Row, mode: str, further: Settings):
    # what lets it act elsewhere may be out of place here itself: only what is said of this setting counts
    given = {**SMALL, **MODES[mode][1], **(row.base if further else {}), **further}
    found = problems({**given, row.path: further.get(row.path, row.value)})
    given.pop(row.path, None)
    earlier = {(each.path, each.message) for each in problems(given)}
    fresh = [each for each in found if (each.path, each.message) not in earlier]
    assert any(each.path == split(row.path) or row.path in each.message for each in fresh), fresh


def test_every_setting_that_explain_lists_is_shown():
    listed = {each["path"] for each in as_json([SCHEMA]) if each["type"] not in SECTIONS}
    shown = {row.path for row in ROWS}
    elsewhere = {path for paths in SHARED.values() for path in paths}
    assert listed - shown - elsewhere == set()
    assert (shown | elsewhere) - listed == set(), "no setting any more"
    assert shown & elsewhere == set()


@pytest.mark.parametrize(("file", "paths"), SHARED.items())
def test_a_file_named_for_shared_settings_is_there_and_speaks_of_them(file: str, paths: tuple[str, ...]):
    text = (TESTS / file).read_text()
    for path in paths:
        word = path.rpartition(".")[2]
        assert re.search(rf"\b{re.escape(word)}\b", text) or f"--{word.replace('_', '-')}" in text, path
