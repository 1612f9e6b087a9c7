"""Ranges as files write them: lists, zipped groups and spans, and every way to write one wrongly, at its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quincunx.config.document import Document
from quincunx.config.paths import KeyPath
from quincunx.config.read import read_text
from quincunx.recipes import schema_of
from quincunx.sweep.choosing.space import Condition, Listed, Range, Span
from quincunx.sweep.reading.meaning import Names
from quincunx.sweep.reading.ranges import key_path, read_ranges, value_path

AT: KeyPath = ("ranges",)
NAMES = Names(schema_of("compression"))


def document(tree: Any) -> Document:
    return read_text(json.dumps({"ranges": tree}, indent=1), "r.json", "json")


def read(tree: Any) -> tuple[Range, ...]:
    found, problems = read_ranges(document(tree), AT, NAMES)
    assert problems == []
    return found


def refused(tree: Any) -> list[str]:
    _, problems = read_ranges(document(tree), AT, NAMES)
    assert all(problem.mark is not None and problem.remedy for problem in problems)
    return [f"{problem.mark}: {problem.message}" for problem in problems]


def test_the_form_of_the_guide() -> None:
    found = read({"lr": [0.1, 0.01], "combos": {"n_layers": [2, 4], "d_model": [64, 128]}})
    assert found == (
        Listed("lr", ("lr",), ((0.1,), (0.01,))),
        Listed("combos", ("n_layers", "d_model"), ((2, 64), (4, 128))),
    )


def test_items_may_be_any_plain_value() -> None:
    values = [None, True, 1, 1.0, "a", [1, [2]], {"a": {"b": 1}}]
    assert read({"lr": values}) == (Listed("lr", ("lr",), tuple((each,) for each in values)),)


def test_spans() -> None:
    assert read({"lr": {"low": 0.001, "high": 0.1, "log": True, "n": 3}}) == (Span("lr", 0.001, 0.1, True, None, 3),)
    assert read({"n_layers": {"low": 2, "high": 8, "step": 2}}) == (Span("n_layers", 2, 8, False, 2, None, True),)


def test_a_span_between_whole_numbers_is_of_floats_where_the_setting_takes_any_number() -> None:
    [dropout, layers, either] = read(
        {
            "drop_p": {"low": 0, "high": 1},
            "n_layers": {"low": 1, "high": 3},
            "evaluate.every": {"low": 1, "high": 9},
        }
    )
    assert isinstance(dropout, Span) and isinstance(layers, Span) and isinstance(either, Span)
    assert (dropout.whole, type(dropout.low), layers.whole, either.whole) == (False, float, True, True)
    assert read({"drop_p": {"low": 0, "high": 1, "n": 5}})[0].count == 5


def test_conditions_stand_in_every_form() -> None:
    when = {"lr": 0.1, "l2": [0, 0.1]}
    conditions = (Condition("lr", (0.1,)), Condition("l2", (0, 0.1)))
    found = read(
        {
            "n_layers": {"values": [2, 4], "when": when},
            "combos": {"d_model": [64], "n_heads": [2], "when": when},
            "drop_p": {"low": 0.1, "high": 0.2, "when": when},
        }
    )
    assert [each.when for each in found] == [conditions] * 3
    assert found[1].keys == ("d_model", "n_heads")


def test_values_and_keys_are_found_again() -> None:
    tree = {"a": [1, [2, 3]], "b": {"values": [4]}, "c": {"d": [5], "lr": [6]}, "e": {"low": 0.5, "high": 1.5}}
    there = document(tree)
    found = read(tree)
    places = [
        value_path(there, AT, one, key, position)
        for one in found
        for key in one.keys
        for position in ((one.low, one.high, 1.0) if isinstance(one, Span) else range(len(one.choices)))
    ]
    assert [path[1:] for path in places] == [
        ("a", 0), ("a", 1), ("b", "values", 0), ("c", "d", 0), ("c", "lr", 0), ("e", "low"), ("e", "high"), ("e",),
    ]  # fmt: skip
    assert [key_path(there, AT, one, key)[1:] for one in found for key in one.keys] == [
        ("a",), ("b",), ("c", "d"), ("c", "lr"), ("e",),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ([1], ["r.json:2:12: `ranges` is a mapping from settings to ranges, found a list of 1"]),
        (None, ["r.json:2:12: `ranges` is a mapping from settings to ranges, found null"]),
        ({}, ["r.json:2:2: `ranges` holds no range"]),
        ({"lr": 0.1}, ["r.json:3:9: `lr` has no range: found 0.1"]),
        ({"lr": None}, ["r.json:3:9: `lr` has no range: found null"]),
        ({"lr": []}, ["r.json:3:9: `lr`: the list is empty, so there would be no run"]),
        ({"lr": {}}, ["r.json:3:9: `lr` has no range: found an empty mapping"]),
        ({"lr": [1, 2, 1]}, ["r.json:6:4: `lr`: 1 is there again"]),
        ({"lr": ["${l2}"]}, ["r.json:4:4: `${l2}`: there are no references within ranges"]),
        ({"c": {"lr": [1, 2], "l2": [1]}}, ["r.json:8:4: `c` zips lists of unequal lengths: lr 2, l2 1"]),
        ({"c": {"lr": [1, 1], "l2": [2, 2]}}, ["r.json:6:5: `c`: row 2 is there the same as row 1"]),
        ({"c": {"lr": [1], "l2": 2}}, ["r.json:7:10: `l2`: expected a list of values, found 2"]),
        ({"c": {"when": {"lr": 1}}}, ["r.json:3:3: `c` has a condition and no values"]),
        ({"lr": {"values": 3}}, ["r.json:4:14: `lr`: expected a list of values, found 3"]),
        ({"lr": {"values": [3], "low": 1}}, ["r.json:7:4: `low` beside the values of `lr`"]),
        ({"lr": {"low": 1}}, ["r.json:3:3: the span of `lr` has no `high`"]),
        ({"lr": {"low": 1, "hihg": 2}}, ["r.json:5:4: unknown key `hihg` in the span of `lr`"]),
        ({"lr": {"low": "1", "high": 2}}, ['r.json:4:11: `low` of `lr`: expected a number, found "1"']),
        ({"lr": {"low": True, "high": 2}}, ["r.json:4:11: `low` of `lr`: expected a number, found true"]),
        ({"lr": {"low": 2.0, "high": 2.0}}, ["r.json:4:11: `lr`: low (2.0) is not below high (2.0)"]),
        ({"lr": {"low": 0, "high": 2.0, "log": True}}, ["r.json:4:11: `lr`: log needs low above 0, found 0"]),
        ({"lr": {"low": 1, "high": 2, "log": 1}}, ["r.json:6:11: `log` of `lr`: expected true or false, found 1"]),
        (
            {"lr": {"low": 0.1, "high": 2.0, "log": True, "step": 0.1}},
            ["r.json:7:12: `lr`: log and step contradict each other"],
        ),
        (
            {"lr": {"low": 0.1, "high": 2.0, "n": 3, "step": 0.1}},
            ["r.json:6:9: `lr`: step and n both say how many points there are"],
        ),
        (
            {"lr": {"low": 0.1, "high": 2.0, "step": 3.0}},
            ["r.json:6:12: `lr`: expected a step above 0 and at most high - low, found 3.0"],
        ),
        (
            {"n_layers": {"low": 1, "high": 3, "n": 4}},
            ["r.json:6:9: `n_layers`: there are 3 whole numbers from 1 to 3, found n 4"],
        ),
        (
            {"lr": {"low": 0.1, "high": 1.0, "n": 1}},
            ["r.json:6:9: `n` of `lr`: expected an int >= 2: how many points, both ends among them, found 1"],
        ),
        ({"lr": {"values": [1], "when": 3}}, ["r.json:7:12: `when` of `lr`: expected a mapping, found 3"]),
        ({"lr": {"values": [1], "when": {"l2": []}}}, ["r.json:8:5: `when` of `lr`: no value of `l2` is wanted"]),
        (
            {"optimizer": {"learning_rate": [1], "weight_decay": {"low": 0.1, "high": 0.2}}},
            [
                "r.json:4:4: `learning_rate` is no setting; a range has its setting's whole name",
                "r.json:7:4: `weight_decay` is no setting; a range has its setting's whole name",
            ],
        ),
    ],
)
def test_what_is_wrong_is_told_at_its_place(tree: Any, said: list[str]) -> None:
    assert refused(tree) == said


def test_every_mistake_is_told_at_once_and_the_rest_is_read() -> None:
    tree = {"lr": [], "l2": [0.1], "n_layers": {"min": 1, "max": 2}}
    found, problems = read_ranges(document(tree), AT, NAMES)
    assert found == (Listed("l2", ("l2",), ((0.1,),)),)
    assert [problem.remedy for problem in problems] == [
        "give it a value, or leave the range out", "did you mean `low`?", "did you mean `high`?",
    ]  # fmt: skip


def test_a_section_taken_for_a_group_is_told_how_to_write_its_setting() -> None:
    _, problems = read_ranges(document({"optimizer": {"learning_rate": [1]}}), AT, NAMES)
    assert problems[0].remedy == "write `optimizer.learning_rate` as one key, without the mapping round it"
