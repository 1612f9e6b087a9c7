"""The settings of positions."""

from __future__ import annotations

from typing import Any

import pytest

from quincunx.config.check import Checked, check, check_sizes
from quincunx.config.document import Document
from quincunx.config.read import read_text
from quincunx.config.schema import RecipeSchema, Section, Sizes
from quincunx.config.write import yaml_text
from quincunx.recipes.compression.config_positions import POSITION_RULES, Positions, position_kind, samples


class Whole(Section):
    """Positions alone."""

    positions: Positions = Positions()
    """Positions."""


SCHEMA = RecipeSchema(name="whole", summary="", config=Whole, rules=POSITION_RULES)


def document(**settings: Any) -> Document:
    return read_text(yaml_text({"positions": settings}), "f.yaml", "yaml")


def checked(**settings: Any) -> Checked:
    return check(document(**settings), SCHEMA)


@pytest.mark.parametrize(
    ("kind", "sample", "follows"),
    [
        ("random", None, "integer"),
        ("sinusoidal", None, "none"),
        ("rope", None, "none"),
        ("random", "none", "none"),
        ("sinusoidal", "float", "float"),
        ("model", "integer", "integer"),
    ],
)
def test_sampling_follows_from_the_kind_where_it_is_unset(kind, sample, follows):
    found = checked(kind=kind, sample=sample, size=50) if sample != "none" else checked(kind=kind, sample=sample)
    assert found.config is not None and samples(found.config) == follows


def test_the_guides_classes_are_kinds_and_kinds_are_themselves():
    assert position_kind("RandPositionalEncoding") == "random"
    assert position_kind("SinPositionalEncoding") == "sinusoidal"
    assert position_kind("alibi") == "alibi"
    with pytest.raises(ValueError, match="expected a name"):
        position_kind(3)


def test_a_name_that_nobody_knows_is_refused():
    [problem] = checked(kind=position_kind("RandPositionEncoding")).problems
    assert problem.severity == "error" and problem.path == ("positions", "kind")


@pytest.mark.parametrize(
    ("inert", "settings"),
    [
        ("learnable", {"kind": "rope", "learnable": True}),
        ("dropout", {"kind": "alibi", "dropout": 0.2}),
        ("size", {"kind": "rope", "size": 50}),
        ("sample", {"kind": "none", "sample": "float"}),
        ("evaluate", {"kind": "sinusoidal", "evaluate": "even"}),
    ],
)
def test_settings_without_effect_are_named(inert, settings):
    warned = [found.path for found in checked(**settings).problems]
    assert warned == [("positions", inert)]


def test_a_range_that_does_not_hold_the_sequences_is_refused():
    longest = Sizes(train=10, longest=100)
    for settings, count in (({"size": 99}, 1), ({"size": 100}, 0), ({}, 0)):
        found = document(kind="sinusoidal", **settings)
        config = check(found, SCHEMA).config
        problems = check_sizes(config, SCHEMA, longest, found)
        assert len(problems) == count
        if count:
            assert problems[0].severity == "error" and "positions.size (99)" in problems[0].message
