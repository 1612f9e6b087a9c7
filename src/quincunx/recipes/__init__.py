"""The table of recipes: name -> where its torch-free schema and its builder are; imported only when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from quincunx.config.schema import RecipeSchema

RECIPES: dict[str, dict[str, str]] = {
    "long_range": {
        "schema": "quincunx.recipes.long_range.config:SCHEMA",
        "recipe": "quincunx.recipes.long_range.recipe:RECIPE",
    },
    "retrieval": {
        "schema": "quincunx.recipes.retrieval.config:SCHEMA",
        "recipe": "quincunx.recipes.retrieval.recipe:RECIPE",
    },
    "compression": {
        "schema": "quincunx.recipes.compression.config:SCHEMA",
        "recipe": "quincunx.recipes.compression.recipe:RECIPE",
    },
    "vision_language": {
        "schema": "quincunx.recipes.vision_language.config:SCHEMA",
        "recipe": "quincunx.recipes.vision_language.recipe:RECIPE",
    },
}


def schema_of(name: str) -> RecipeSchema:
    """Return a recipe's schema; KeyError for a name that is not in the table. Never imports torch."""
    return _attribute(RECIPES[name]["schema"])


def schemas() -> list[RecipeSchema]:
    """Return the schema of every recipe, in the order of the table. Never imports torch."""
    return [schema_of(name) for name in RECIPES]


def recipe_of(name: str) -> Any:
    """Return a recipe's builder; imports torch."""
    return _attribute(RECIPES[name]["recipe"])


def _attribute(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(module), name)
