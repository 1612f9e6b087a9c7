"""Names of run folders: the guide's form, never too long, never ambiguous; numbers that no two processes share."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quincunx.sweep.choosing.space import canonical
from quincunx.sweep.naming import folder_name


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "study_7"),
        ({"lr": 1e-5, "l2": 0.1}, "study_7_lr1e-05_l20.1"),
        ({"lr": 0.0001, "n_layers": 2, "d_model": 64}, "study_7_lr0.0001_n_layers2_d_model64"),
        ({"optimizer.learning_rate": 0.001}, "study_7_optimizer.learning_rate0.001"),
        ({"schedule": "linear_warmup", "tied": True, "cap": None}, "study_7_schedulelinear_warmup_tiedTrue_capNone"),
        ({"n": 2, "x": 2.0, "y": -3, "z": 1e22}, "study_7_n2_x2.0_y-3_z1e+22"),
    ],
)
def test_names_as_the_guide_writes_them(settings: dict[str, Any], expected: str) -> None:
    assert folder_name("study", 7, settings) == expected


@pytest.mark.parametrize(
    ("settings", "beginning"),
    [
        ({"sizes": [1, 2]}, "study_7_sizes12_"),
        ({"files": ["a b/c.txt", 'd"e']}, "study_7_filesabc.txtde_"),
        ({"n": "1e3"}, "study_7_n1e3_"),
        ({"n": "True"}, "study_7_nTrue_"),
        ({"a": "x_b1", "b": 2}, "study_7_ax_b1_b2_"),
        ({"a": {"k": (1, None)}}, "study_7_ak:1None_"),
        ({"a": "\n\0*?\ud800é"}, "study_7_aé_"),
    ],
)
def test_names_that_would_not_tell_get_a_hash(settings: dict[str, Any], beginning: str) -> None:
    name = folder_name("study", 7, settings)
    assert name.startswith(beginning)
    assert len(name) == len(beginning) + 8
    assert name == folder_name("study", 7, dict(settings))


def test_long_names_end_after_a_whole_value() -> None:
    settings = {f"key{index}": f"word{index}" for index in range(40)}
    name = folder_name("study", 12, settings, limit=60)
    assert name.startswith("study_12_key0word0_key1word1_key2word2_key3word3_")
    assert len(name) == len("study_12_key0word0_key1word1_key2word2_key3word3_") + 8
    assert name != folder_name("study", 12, {**settings, "key39": "other"}, limit=60)
    whole = folder_name("study", 12, {"a": "b" * 50}, limit=60)
    assert whole == "study_12_a" + "b" * 50
    assert folder_name("study", 12, {"a": "b" * 51}, limit=60)[:9] == "study_12_"


@given(
    name=st.text(alphabet="aé漢", min_size=1, max_size=80),
    values=st.lists(st.text(max_size=30), max_size=6),
    limit=st.integers(30, 120),
)
def test_names_are_never_longer_than_the_limit(name: str, values: list[str], limit: int) -> None:
    found = folder_name(name, 123456, {f"k{index}": value for index, value in enumerate(values)}, limit)
    assert len(found.encode()) <= limit
    assert "_123456" in found
    assert not set(found) & set(" ()[]{}'\",/\\\0\n")


PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(alphabet="ab_1.e-, '[", max_size=5)
)
VALUES = PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(st.text(alphabet="ab", max_size=2), PLAIN, max_size=2)
KEYS = st.lists(st.sampled_from(["a", "b", "a_b", "l2", "x.y", "_", "b_1"]), unique=True, min_size=1, max_size=3)


@given(keys=KEYS, data=st.data())
def test_different_settings_never_share_a_name(keys: list[str], data: st.DataObject) -> None:
    first, second = ({key: data.draw(VALUES) for key in keys} for _ in range(2))
    if canonical(first) != canonical(second):
        assert folder_name("s", 0, first) != folder_name("s", 0, second)


@given(first=VALUES, second=VALUES)
@example(first=[1, 2], second=12)
@example(first=1, second="1")
@example(first=True, second="True")
@example(first=1, second=1.0)
@example(first="a b", second="ab")
@example(first="x_0123abcd", second="x")
def test_different_values_never_share_a_name(first: Any, second: Any) -> None:
    if canonical(first) != canonical(second):
        assert folder_name("s", 0, {"k": first}) != folder_name("s", 0, {"k": second})
