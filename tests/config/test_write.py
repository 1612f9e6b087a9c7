"""The canonical form reads back as the same config, whatever the config."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.config.fields import Setting, settings_of
from quincunx.config.interpolate import interpolate
from quincunx.config.read import read_text
from quincunx.config.schema import Target
from quincunx.config.write import canonical, scalar, to_yaml, yaml_text
from quincunx.recipes import schema_of
from quincunx.recipes.long_range.config import LongRangeConfig

SCHEMA = schema_of("long_range")

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
tricky = st.sampled_from(
    [
        "true",
        "No",
        "null",
        "~",
        "1e-4",
        "0x1f",
        "3",
        "-",
        "",
        " a",
        "a: b",
        "a #b",
        "${x}",
        "$${x}",
        "{a}",
        "[1]",
        "é\x85",
        "<<",
    ]
)
strings = texts | tricky
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | strings
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=3))


def reread(text: str) -> Any:
    return interpolate(read_text(text, "f.yaml", "yaml")).tree


def values(setting: Setting) -> st.SearchStrategy[Any]:
    """Values that a setting accepts, at its bounds as well."""
    name = ".".join(map(str, setting.path))
    special: dict[str, st.SearchStrategy[Any]] = {
        "run.name": texts.filter(lambda text: text and not set(text) & set("/\\")),
        "compute.device": st.sampled_from(["auto", "cpu", "cuda:3"]),
        "compute.processes": st.sampled_from([1, 3, "auto", None]),
        "optimizer.betas": st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=2),
        "log.trackers": st.lists(st.sampled_from(["jsonl", "tensorboard"]), max_size=3),
        "evaluate.every": st.sampled_from(["epoch", 1, 7, 1.0, 0.1, 1e-9, None]),
        "checkpoint.every": st.sampled_from(["epoch", 1, 7, 1.0, 0.1, 1e-9, None]),
    }
    if name in special:
        return special[name]
    low, high = bound(setting, Ge, Gt), bound(setting, Le, Lt)
    choices: list[st.SearchStrategy[Any]] = []
    for kind in setting.kinds:
        if kind is bool:
            choices.append(st.booleans())
        elif kind is int:
            choices.append(st.integers(low, high))
        elif kind is float:
            strict = [any(isinstance(entry, cut) for entry in setting.info.metadata) for cut in (Gt, Lt)]
            choices.append(
                st.floats(
                    low, high, exclude_min=strict[0], exclude_max=strict[1], allow_nan=False, allow_infinity=False
                )
            )
        elif kind is type(None):
            choices.append(st.none())
        elif kind is str:
            choices.append(st.sampled_from(setting.choices) if setting.choices else strings.filter(bool))
    return st.one_of(choices)


def bound(setting: Setting, *kinds: type) -> Any:
    for entry in setting.info.metadata:
        if isinstance(entry, kinds):
            return (
                next(iter(vars(entry).values())) if hasattr(entry, "__dict__") else getattr(entry, entry.__slots__[0])
            )
    return None


plain_settings = [
    setting
    for path, setting in settings_of(LongRangeConfig).items()
    if not setting.sections and setting.owner is not Target and path != ("recipe",)
]


@st.composite
def configs(draw: st.DrawFn) -> LongRangeConfig:
    tree: dict[str, Any] = {}
    for setting in draw(st.lists(st.sampled_from(plain_settings), max_size=25, unique_by=lambda each: each.path)):
        node = tree
        for part in setting.path[:-1]:
            node = node.setdefault(part, {})
        node[setting.path[-1]] = draw(values(setting))
    if draw(st.booleans()):
        arguments = draw(st.dictionaries(strings.filter(lambda key: not key.startswith("_")), trees, max_size=3))
        tree["optimizer"] = {"_target_": "torch.optim.SGD", **arguments}
    return LongRangeConfig.model_validate(tree)


@settings(deadline=None, max_examples=150)
@given(configs(), st.booleans(), st.booleans())
def test_every_config_reads_back_equal(config: LongRangeConfig, full: bool, comments: bool) -> None:
    again = LongRangeConfig.model_validate(reread(to_yaml(config, full=full, comments=comments)))
    assert again == config
    assert repr(canonical(again)) == repr(canonical(config))  # 1 and 1.0 are equal, and different frequencies


@settings(deadline=None)
@given(st.dictionaries(strings, trees, max_size=4))
def test_every_tree_reads_back_equal(tree: dict[str, Any]) -> None:
    assert repr(read_text(yaml_text(tree), "f.yaml", "yaml").tree) == repr(tree)


def test_defaults_are_left_out_unless_asked_for() -> None:
    assert to_yaml(LongRangeConfig()) == "recipe: long_range\n"
    config = LongRangeConfig.model_validate({"update": {"batch_size": 4}, "optimizer": {"learning_rate": 1e-4}})
    assert to_yaml(config) == (
        "recipe: long_range\n\nupdate:\n  batch_size: 4\n\noptimizer:\n  learning_rate: 0.0001\n"
    )
    assert "  num_heads: 8\n" in to_yaml(config, full=True)


def test_a_frequency_of_another_kind_is_no_default() -> None:
    config = LongRangeConfig.model_validate({"evaluate": {"every": 1.0}, "checkpoint": {"every": 1}})
    assert "every: 1.0\n" in to_yaml(config)
    assert "every: 1\n" in to_yaml(config)


def test_comments_hold_the_meaning() -> None:
    text = to_yaml(LongRangeConfig.model_validate({"update": {"batch_size": 4}}), comments=True)
    assert "  # Examples in a logical batch, over all processes together.\n  batch_size: 4\n" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-5, "1.0e-05"),
        (1e16, "1.0e+16"),
        (0.1, "0.1"),
        (math.inf, ".inf"),
        (-math.inf, "-.inf"),
        ("no", '"no"'),
        ("a/b.py", "a/b.py"),
        ("1e5", '"1e5"'),
        ({"a": [1, {}]}, "{a: [1, {}]}"),
    ],
)
def test_scalars(value: Any, text: str) -> None:
    assert scalar(value) == text


def test_what_is_no_plain_value_is_refused() -> None:
    with pytest.raises(TypeError, match="found object"):
        yaml_text({"a": object()})


def test_the_strategy_reaches_every_setting() -> None:
    for setting in plain_settings:
        annotation = setting.info.annotation
        assert setting.kinds, setting.path
        if get_origin(annotation) is Literal:
            assert set(setting.choices) == set(get_args(annotation))
