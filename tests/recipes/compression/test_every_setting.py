"""No setting is accepted without effect: each is seen to act where it does, and refused or named where it does not.

The table is in `settings_rows`. Settings that the engine serves alike in every recipe are shown in the engine's tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from every_setting import Settings, Shown, speaks_of
from quincunx.recipes.compression.config import SCHEMA
from recipes.compression.settings_rows import ROWS, SHARED, Row
from recipes.compression.settings_seen import MODES, SMALL, Seen, write_sets

SHOWN = Shown(SCHEMA, ROWS, SHARED, MODES, SMALL, Seen, write_sets)


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Settings], Any]:
    pytest.importorskip("transformers")
    return SHOWN.look(tmp_path_factory.mktemp("settings"))


@pytest.mark.parametrize(("row", "mode"), SHOWN.acting())
def test_a_setting_acts(row: Row, mode: str, look: Callable[[Settings], Any]):
    SHOWN.acts(row, mode, look)


@pytest.mark.parametrize(("row", "mode", "further"), SHOWN.idling())
def test_a_setting_that_cannot_act_is_refused_or_named(row: Row, mode: str, further: Settings):
    SHOWN.is_named(row, mode, further)


def test_every_setting_that_explain_lists_is_shown():
    SHOWN.is_whole()


@pytest.mark.parametrize(("file", "paths"), SHARED.items())
def test_a_file_named_for_shared_settings_is_there_and_speaks_of_them(file: str, paths: tuple[str, ...]):
    speaks_of(file, paths)
