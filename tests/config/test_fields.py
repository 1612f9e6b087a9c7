"""The walk over section classes: documentation, conditions of enclosing sections, names of Python and of files."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, Tag

from quincunx.config.fields import levels_of, settings_of
from quincunx.config.schema import (
    Accepts,
    AnyCase,
    Frequency,
    Section,
    Target,
    TargetNode,
    lookup,
    target_or,
    unless,
    when,
)


class Parent(Section):
    size: Annotated[int, Accepts("a size")] = 3
    """How large,
    over two lines."""
    undocumented: int = 1


class Child(Parent):
    undocumented: int = 2
    """Documented here."""
    own: Annotated[Literal["a", "b"], AnyCase] | None = None
    """Its own."""


class Root(Section):
    mode: str = "x"
    """Mode."""
    part: Annotated[Child, when("mode", "x")] = Child()
    """A part."""
    deep: Annotated[int, unless("mode", None, "y"), Field(ge=2, lt=9)] | None = Field(default=None, alias="deep-er")
    """Deep."""
    node: Annotated[Annotated[Child, Tag("ours")] | TargetNode, target_or("ours")] = Child()
    """Ours or a target."""
    often: list[Frequency] = Field(default_factory=list)
    """Often."""
    table: dict[str, int] = Field(default_factory=dict)
    """Free rows."""


SETTINGS = {".".join(map(str, path)): setting for path, setting in settings_of(Root).items()}


def test_documentation_is_read_from_the_source_and_inherited() -> None:
    assert SETTINGS["part.size"].doc == "How large, over two lines."
    assert SETTINGS["part.undocumented"].doc == "Documented here."
    assert SETTINGS["node._target_"].doc.startswith("Dotted path")


def test_documentation_of_a_class_within_a_function() -> None:
    class Local(Section):
        inner: int = 1
        """Inside."""

    assert settings_of(Local)["inner",].doc == "Inside."


def test_conditions_of_the_enclosing_section_hold_inside() -> None:
    assert [each.text for each in SETTINGS["part.size"].conditions] == ["mode is x"]
    assert [each.text for each in SETTINGS["deep-er"].conditions] == ["mode is set and is not y"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("part.size", "a size"),
        ("part.own", "one of a, b, or null"),
        ("deep-er", "int >= 2 and < 9, or null"),
        ("node", "section, or a `_target_` node"),
        ("part", "section"),
        ("often", 'list of "epoch", an int number of updates, or a float share of an epoch in (0, 1]'),
        ("table", "mapping"),
    ],
)
def test_words(path: str, words: str) -> None:
    assert SETTINGS[path].words == words


def test_levels_hold_the_keys_of_files() -> None:
    assert levels_of(Root)[()] == ("mode", "part", "deep-er", "node", "often", "table")
    assert levels_of(Root)[("node",)] == (
        "size",
        "undocumented",
        "own",
        *(info.alias or name for name, info in Target.model_fields.items()),
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("part.size", 3),
        ("deep-er", 4),
        ("deep", 4),
        ("node._target_", "a.b"),
        ("node.target", "a.b"),
        ("node.lr", 0.1),
        ("node.size", None),
        ("node.copy", None),
        ("mode.x", None),
        ("table.row", 3),
        ("nothing", None),
    ],
)
def test_lookup(path: str, value: Any) -> None:
    tree = {"deep-er": 4, "node": {"_target_": "a.b", "lr": 0.1}, "table": {"row": 3}}
    assert lookup(Root.model_validate(tree), path) == value
