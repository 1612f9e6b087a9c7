"""No setting is accepted without effect: each is seen to act in the modes in which it does, and refused in the others.

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
from quincunx.config.document import Document
from quincunx.config.explain import as_json
from quincunx.config.names import split
from quincunx.recipes.retrieval.config import SCHEMA
from recipes.retrieval.settings_rows import ROWS, SHARED, Row
from recipes.retrieval.settings_seen import MODES, SMALL, Seen, write_sets

TESTS = Path(__file__).parents[2]
Settings = Mapping[str, Any]


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Settings], Seen]:
    """Return a function that makes what is seen of settings, once for the same ones."""
    pytest.importorskip("transformers")
    home = tmp_path_factory.mktemp("settings")
    sets = write_sets(home)
    made: dict[str, Seen] = {}

    def placed(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("@"):
            return sets[value[1:]] if value[1:] in sets else str(home / value[1:])
        if isinstance(value, list):
            return [placed(item) for item in value]
        return {key: placed(item) for key, item in value.items()} if isinstance(value, dict) else value

    def looked(settings: Settings) -> Seen:
        whole = {path: placed(value) for path, value in {"data.path": "@beir", **SMALL, **settings}.items()}
        key = json.dumps(whole, sort_keys=True)
        if key not in made:
            made[key] = Seen(whole, home / f"seen-{len(made)}")
            made[key].folder.mkdir()
        return made[key]

    sets["first"] = str(looked({"optimizer.learning_rate": 0.05}).run.path)
    return looked


def cases(kind: str) -> list[Any]:
    found: list[Any] = []
    for row in ROWS:
        # a value that switches something off is passed over in silence where there is nothing to switch off
        idle = set("bpc") - set(row.modes) if row.value not in NEUTRAL else ()
        letters = set(row.shown or row.modes) if kind == "acts" else idle
        found += [pytest.param(row, mode, id=f"{row.path}-{MODES[mode]}") for mode in sorted(letters)]
    return found


def before(row: Row, mode: str) -> dict[str, Any]:
    return {"mode": MODES[mode], **row.base}


@pytest.mark.parametrize(("row", "mode"), cases("acts"))
def test_a_setting_acts(row: Row, mode: str, look: Callable[[Settings], Seen]):
    given = before(row, mode)
    first = row.see(look(given))
    then = row.see(look({**given, row.path: row.value}))
    assert first != then
    assert row.wanted is None or row.wanted(first, then), (first, then)


@pytest.mark.parametrize(("row", "mode"), cases("idle"))
def test_a_setting_that_cannot_act_is_refused_or_named(row: Row, mode: str):
    document = Document({"recipe": "retrieval"})
    for path, value in {"data.path": "somewhere", **before(row, mode), row.path: row.value}.items():
        document.put(split(path), value)
    problems = check(document, SCHEMA).problems
    named = [problem for problem in problems if problem.path == split(row.path) or row.path in problem.message]
    assert named or any(problem.severity == "error" for problem in problems)


def test_every_setting_that_explain_lists_is_shown():
    listed = {each["path"] for each in as_json([SCHEMA]) if each["type"] not in SECTIONS}
    shown = {row.path for row in ROWS}
    elsewhere = {path for paths in SHARED.values() for path in paths}
    assert listed - shown - elsewhere == set()
    assert (shown | elsewhere) - listed == set(), "no setting any more"
    assert shown & elsewhere == set()


SECTIONS = ("section", "section, or a `_target_` node")


@pytest.mark.parametrize(("file", "paths"), SHARED.items())
def test_a_file_named_for_shared_settings_is_there_and_speaks_of_them(file: str, paths: tuple[str, ...]):
    text = (TESTS / file).read_text()
    for path in paths:
        word = path.rpartition(".")[2]
        assert re.search(rf"\b{re.escape(word)}\b", text) or f"--{word.replace('_', '-')}" in text, path
