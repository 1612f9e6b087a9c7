"""The page that maps the guides' keys names each of them beside the setting that serves it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quincunx.config.fields import settings_of
from quincunx.config.names import split
from quincunx.recipes.retrieval.config import SCHEMA
from quincunx.recipes.retrieval.names import KEYS_000, KEYS_001

PAGE = (Path(__file__).parents[4] / "docs/retrieval_guides.md").read_text()
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| `")]


def written(cell: str) -> list[str]:
    """Return the words of a cell with the section of the first before those that leave it out."""
    words = re.findall(r"`([^`]+)`", cell)
    section = words[0].rpartition(".")[0] if words else ""
    return [word if "." in word else f"{section}.{word}" for word in words]


@pytest.mark.parametrize(("old", "new"), [key[:2] for key in (*KEYS_000, *KEYS_001)])
def test_every_key_stands_beside_its_setting(old: str, new: str):
    [row] = [row for row in ROWS if old in written(row[0])]
    names = written(row[1]) if "." in row[1] else re.findall(r"`([^`]+)`", row[1])
    assert names[written(row[0]).index(old)] == new


def test_settings_that_the_page_names_are_there():
    sections = {str(path[0]) for path in settings_of(SCHEMA.config)}
    named = {word for word in re.findall(r"`([a-z_]+(?:\.[a-z_*]+)+)[:`]", PAGE) if word.partition(".")[0] in sections}
    assert len(named) > 60
    known = settings_of(SCHEMA.config)
    for word in named:
        for part in ("train", "dev", "test") if "*" in word else ("",):
            assert split(word.replace("*", part)) in known, word
