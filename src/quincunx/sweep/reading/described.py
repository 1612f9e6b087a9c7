"""The sections `sweep` and `ranges` as people and editors read about them; the same beside every recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from quincunx.config.schema import Accepts
from quincunx.sweep.settings import SCHEMA, Sweep, SweepOf

_WHEN = {
    "type": "object",
    "minProperties": 1,
    "description": "The range acts only where these settings have one of these values.",
}
_SPAN = {
    "type": "object",
    "additionalProperties": False,
    "required": ["low", "high"],
    "properties": {
        "low": {"type": "number", "description": "The smallest value."},
        "high": {"type": "number", "description": "The largest value."},
        "log": {"type": "boolean", "description": "Whether ratios are spread evenly in place of differences."},
        "step": {"type": "number", "exclusiveMinimum": 0, "description": "Only low and whole steps above it."},
        "n": {"type": "integer", "minimum": 2, "description": "Only so many points, both ends among them."},
        "when": _WHEN,
    },
}
_VALUES = {
    "type": "object",
    "additionalProperties": False,
    "required": ["values"],
    "properties": {
        "values": {"type": "array", "minItems": 1, "description": "Values that are crossed with the other ranges."},
        "when": _WHEN,
    },
}
_GROUP = {
    "type": "object",
    "minProperties": 1,
    "description": "Settings that go together: lists of equal lengths.",
    "properties": {"when": _WHEN},
    "propertyNames": {"not": {"enum": ["low", "high", "values"]}},
    "additionalProperties": {"type": "array", "minItems": 1},
}
RANGE: dict[str, Any] = {"anyOf": [{"type": "array", "minItems": 1}, _SPAN, _VALUES, _GROUP]}
"""JSON Schema of one range."""


class Sweeping(SweepOf):
    """What makes many runs of a config."""

    sweep: Sweep = Field(default_factory=Sweep)
    """How configurations are chosen, run, stopped early and shared, for `quincunx sweep`."""
    ranges: Annotated[
        dict[str, Any],
        Accepts("mapping from settings to ranges"),
        Field(json_schema_extra={"additionalProperties": RANGE}),
    ] = Field(default_factory=dict)
    """Setting, under any of its names and as one key, to its range: a list of values is crossed with the other ranges;
    a mapping of lists of equal lengths is zipped, its own name only a label; `{low, high}` is a span, with `log: true`,
    `step` or `n` points. `when: {setting: value}` lets a range (a list as `{values: [...]}`) act only there."""


BESIDE = replace(SCHEMA, config=Sweeping)
"""The sections as a schema, for `explain` and for editors."""
