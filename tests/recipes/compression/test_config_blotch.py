"""The settings of blotching: what contradicts itself is refused, what does nothing is named."""

from __future__ import annotations

from typing import Any

import pytest

from quincunx.config.check import check
from quincunx.config.document import Document, Problem
from quincunx.config.fields import settings_of
from quincunx.config.names import split
from quincunx.config.read import read_text
from quincunx.config.schema import RecipeSchema, Section
from quincunx.config.write import yaml_text
from quincunx.recipes.compression.config_blotch import BLOTCH_RULES, Blotch


class Whole(Section):
    """Blotching alone."""

    blotch: Blotch = Blotch()
    """Blotching."""


SCHEMA = RecipeSchema(name="whole", summary="", config=Whole, rules=BLOTCH_RULES)


def problems(**settings: Any) -> list[Problem]:
    tree = Document({})
    for name, value in settings.items():
        tree.put(("blotch", *split(name.replace("__", "."))), value)
    return list(check(read_text(yaml_text(tree.tree), "f.yaml", "yaml"), SCHEMA).problems)


@pytest.mark.parametrize("rule", BLOTCH_RULES, ids=[rule.name for rule in BLOTCH_RULES])
def test_every_rule_fires_on_its_example(rule):
    settings = {path.removeprefix("blotch.").replace(".", "__"): value for path, value in rule.failing.items()}
    [error] = [found for found in problems(**settings) if found.severity == "error"]
    assert error.path in {split(path) for path in rule.failing} and error.remedy


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"p": 0.3, "spacing": "GEOMETRIC", "mean_run": 2.0, "spans": "fixed", "span_length": 8},
        {"p": 0.5, "contiguous": False, "separator": "\n", "scope": "context", "targets": "keep", "form": "excise"},
        {"p_min": 0.1, "p_max": 0.9, "levels": 5, "intensity_tokens": True},
        {"p_max": 0.9},
        {"step": 2, "separator": "="},
        {"token_p": 0.2},
        {"p": 1.0, "curriculum__updates": 100, "curriculum__stages": 4, "curriculum__begin": 10},
    ],
)
def test_settings_that_fit_one_another_pass_without_a_word(settings):
    assert problems(**settings) == []


@pytest.mark.parametrize(
    ("inert", "settings"),
    [
        ("spacing", {"spacing": "equal"}),
        ("scope", {"scope": "context"}),
        ("levels", {"p": 0.3, "levels": 4}),
        ("mean_run", {"p": 0.3, "mean_run": 2.0}),
        ("span_length", {"p": 0.3, "span_length": 4}),
        ("targets", {"p": 0.3, "scope": "forward", "targets": "keep"}),
        ("p", {"p": 0.3, "step": 1}),
        ("contiguous", {"step": 1, "contiguous": False}),
        ("curriculum.stages", {"p": 0.3, "curriculum__stages": 4}),
        ("curriculum.updates", {"curriculum__updates": 40}),
    ],
)
def test_settings_without_effect_are_named(inert, settings):
    warned = [found.path for found in problems(**settings) if found.severity == "warning"]
    # false is how one switches something off, and never worth a warning
    assert warned == ([] if inert == "contiguous" else [("blotch", *split(inert))])


def test_all_is_documented_and_every_condition_names_a_setting():
    settings = settings_of(Whole)
    for path, setting in settings.items():
        assert setting.doc.endswith("."), path
        for condition in setting.conditions:
            assert all(split(other) in settings for other in condition.paths), path
