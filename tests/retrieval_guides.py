"""Config files in the forms of source guides 000 and 001, with values of their own, for the tests of the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quincunx.config.load import Loaded, load
from quincunx.config.read import read_text
from quincunx.recipes import schema_of
from quincunx.recipes.retrieval.config import SCHEMA

HERE = Path(__file__).parent / "recipes/retrieval/config"
GUIDE_000 = (HERE / "guide_000.txt").read_text()
GUIDE_001 = (HERE / "guide_001.txt").read_text()
ARGS_001 = (HERE / "guide_001_args.txt").read_text()
SCHEMAS = (schema_of("long_range"), SCHEMA)


def loaded(source: Any, *overrides: str, strict: bool = False) -> Loaded:
    return load(source, overrides, schemas=SCHEMAS, strict=strict)


def tree_of(text: str, form: Any = "yaml") -> dict[str, Any]:
    return read_text(text, "guide", form).tree


def changed(tree: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return a tree with one of its keys at another value."""
    *parents, last = key.split(".")
    node = tree
    for part in parents:
        node = node[part]
    assert last in node, "a key of the guide"
    node[last] = value
    return tree
