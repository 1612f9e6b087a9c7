"""Generated pages are as fresh as the code, and nothing in the project speaks of where it was made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quincunx.config import explain
from quincunx.recipes import schemas
from quincunx.sweep.reading.described import BESIDE

ROOT = Path(__file__).parents[1]


def test_the_reference_page_is_fresh():
    page = explain.markdown(schemas(), BESIDE).rstrip("\n") + "\n"
    assert (ROOT / "docs/config.md").read_text(encoding="utf-8") == page, "docs/config.md is stale: run make docs"


def test_the_schema_for_editors_is_fresh():
    written = json.loads((ROOT / "docs/config.schema.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(explain.json_schema(schemas(), BESIDE))), "run make docs"


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=lambda path: path.name)
def test_no_room_is_too_large(path: Path):
    limit = 250 if path.name in ("loop.py", "step.py") else 500
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
SWEEPS = [path for path in EXAMPLES if path.parent.name == "sweeps"]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_every_example_of_a_sweep_is_a_good_one(path: Path):
    from quincunx.sweep.reading.spec import open_sweep

    spec = open_sweep(path, strict=True)
    assert spec.space.size() and spec.metric


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path not in SWEEPS], ids=lambda path: path.name)
def test_every_example_is_a_good_config(path: Path):
    from quincunx.config.load import load

    loaded = load(path, (), schemas=schemas(), strict=True)
    assert loaded.config.recipe == path.relative_to(ROOT / "examples").parts[0]
