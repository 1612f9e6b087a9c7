"""The page on guide 003: a row for every key, with the setting that serves it and a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

from quincunx.recipes.compression.names import KEYS

TESTS = Path(__file__).parents[2]
PAGE = (TESTS.parent / "docs/compression_guide.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| `")]


def test_every_key_has_its_row_and_its_setting() -> None:
    found = {row[0].strip("`"): row[1].strip("`").partition(":")[0] for row in ROWS}
    assert found == {**{old: new for old, new, _ in KEYS}, "seed": "seed"}


def test_every_row_names_a_test_that_is_there() -> None:
    known = {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {row[3] for row in ROWS} <= known
