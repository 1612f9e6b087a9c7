"""Older names move to present paths with their places; what contradicts itself is said once, with both lines."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guide_files import LISTOPS, SERVED
from quincunx.config.document import Document
from quincunx.config.fields import settings_of
from quincunx.config.names import expand, present_path, resolve
from quincunx.config.paths import dotted
from quincunx.config.read import read_text
from quincunx.config.schema import Name
from quincunx.recipes import schema_of

SCHEMA = schema_of("long_range")


def positive(value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"expected a positive number, found {value}")
    return -value


NAMES = (
    Name("model.width", "encoder.dim"),
    Name("width", "encoder.dim"),
    Name("memory.*", "chunks.*"),
    Name("extra.*.ckpt", "options.*.checkpointing"),
    Name("train.sign", "update.sign", transform=positive),
    Name("train.kind", "schedule.kind"),
    Name("optim", "optimizer"),
)


def document(text: str) -> Document:
    return read_text(text, "f.yaml", "yaml")


def resolved(text: str) -> tuple[Any, list[str]]:
    found = document(text)
    return found.tree, [f"{problem.mark}: {problem.message}" for problem in resolve(found, NAMES)]


def test_names_move_with_their_places_and_emptied_parents_go() -> None:
    found = document("model:\n  width: 3\nmemory: {soft: 8}\nextra:\n  soft: {ckpt: true}\n")
    moved: dict[Any, Any] = {}
    assert resolve(found, NAMES, moved) == []
    assert found.tree == {
        "encoder": {"dim": 3},
        "chunks": {"soft": 8},
        "options": {"soft": {"checkpointing": True}},
    }
    assert str(found.places["encoder", "dim"].value) == "f.yaml:2:10"
    assert str(found.mark(("options", "soft", "checkpointing"))) == "f.yaml:5:10"
    assert moved["options", "soft", "checkpointing"] == ("extra", "soft", "ckpt")


def test_unknown_keys_stay_where_they_are() -> None:
    tree, problems = resolved("model: {width: 3, widht: 4}\nextra: {soft: {chkpt: 1}}\n")
    assert tree == {"model": {"widht": 4}, "extra": {"soft": {"chkpt": 1}}, "encoder": {"dim": 3}}
    assert problems == []


def test_empty_blocks_of_a_guide_are_nothing() -> None:
    assert resolved("model: {}\nextra: {soft: {}}\nmemory: {}\nother: {}\n") == ({"other": {}}, [])


def test_a_whole_section_under_another_name_is_merged_key_by_key() -> None:
    tree, problems = resolved("optimizer: {lr: 1}\noptim: {eps: 2, lr: 3}\n")
    assert tree == {"optimizer": {"lr": 1, "eps": 2}}
    assert problems == [
        "f.yaml:2:17: one setting under 2 names: `optim.lr` is also given as `optimizer.lr` (f.yaml:1:13)"
    ]


def test_one_setting_under_three_names_is_one_problem() -> None:
    tree, problems = resolved("encoder: {dim: 1}\nmodel: {width: 2}\nwidth: 3\n")
    assert tree == {"encoder": {"dim": 1}}
    assert problems == [
        "f.yaml:3:1: one setting under 3 names: `width` is also given as `encoder.dim` (f.yaml:1:11) and "
        "`model.width` (f.yaml:2:9)"
    ]


def test_transforms_apply_and_their_refusals_are_placed_at_the_value() -> None:
    assert resolved("train: {sign: 4}") == ({"update": {"sign": -4}}, [])
    tree, problems = resolved("train: {sign: 0}")
    assert (tree, problems) == ({}, ["f.yaml:1:15: `train.sign`: expected a positive number, found 0"])


def test_a_reference_cannot_be_transformed() -> None:
    _, problems = resolved("train: {sign: '${x}'}")
    assert "takes a value and no ${...}" in problems[0]


def test_an_older_name_beside_a_target_is_a_contradiction() -> None:
    tree, problems = resolved("schedule: {_target_: a.b}\ntrain: {kind: cos}\n")
    assert tree == {"schedule": {"_target_": "a.b"}}
    assert problems == [
        "f.yaml:2:9: `train.kind` sets `schedule.kind`, but `schedule` is built from a `_target_` (f.yaml:1:12)"
    ]


def test_a_scalar_in_the_way_is_left_for_the_check() -> None:
    assert resolved("encoder: 3\nmodel: {width: 4}\n") == ({"encoder": 3}, [])


@pytest.mark.parametrize(
    ("written", "present"),
    [
        ("model.width", "encoder.dim"),
        ("memory.soft", "chunks.soft"),
        ("memory", "chunks"),
        ("extra.soft.ckpt", "options.soft.checkpointing"),
        ("optim.betas", "optimizer.betas"),
        ("encoder.dim", "encoder.dim"),
        ("extra.soft", "extra.soft"),
        ("nothing.known", "nothing.known"),
    ],
)
def test_present_path(written: str, present: str) -> None:
    assert dotted(present_path(tuple(written.split(".")), NAMES)) == present


def test_exact_names_come_before_patterns() -> None:
    names = (Name("a.*", "b.*"), Name("a.x", "c.y"))
    assert present_path(("a", "x"), names) == ("c", "y")
    assert present_path(("a", "z"), names) == ("b", "z")


def test_the_whole_guide_is_served() -> None:
    found = read_text(LISTOPS, "lra.py", "python")
    found.tree = found.tree["listops"]
    found.places = {path[1:]: place for path, place in found.places.items() if path}
    assert resolve(found, SCHEMA.names) == []
    assert found.tree == SERVED


pairs = [
    (old, new, name)
    for old, new, name in expand(SCHEMA.names, settings_of(SCHEMA.config))
    if not old[0].startswith(("evaluate", "log"))
]


@given(st.lists(st.sampled_from(pairs), max_size=12, unique_by=lambda pair: pair[1]))
def test_any_choice_of_older_names_is_the_same_as_the_present_ones(chosen: list[tuple[Any, Any, Name]]) -> None:
    older, present = Document({}), Document({})
    for number, (old, new, name) in enumerate(chosen):
        value = bool(number % 2) if name.transform else number
        older.put(old, value)
        present.put(new, name.transform(value) if name.transform else value)
    assert resolve(older, SCHEMA.names) == []
    assert older.tree == present.tree
