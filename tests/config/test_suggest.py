"""Did you mean: distances against the plain definition, and the advice for keys that people really mistype."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.config.fields import settings_of
from quincunx.config.names import expand
from quincunx.config.suggest import Vocabulary, closest, distance
from quincunx.recipes import schema_of

words = st.text("abcd", max_size=7)


@functools.cache
def plain_distance(one: str, other: str) -> int:
    """The definition, by recursion: insert, delete, replace, or swap two neighbours."""
    if not one or not other:
        return len(one) + len(other)
    choices = [
        plain_distance(one[1:], other) + 1,
        plain_distance(one, other[1:]) + 1,
        plain_distance(one[1:], other[1:]) + (one[0] != other[0]),
    ]
    if len(one) > 1 and len(other) > 1 and one[0] == other[1] and one[1] == other[0]:
        choices.append(plain_distance(one[2:], other[2:]) + 1)
    return min(choices)


@given(words, words, st.integers(0, 8))
def test_distance_is_the_definition_cut_at_the_limit(one: str, other: str, limit: int) -> None:
    expected = plain_distance(one, other)
    assert distance(one, other, limit) == (expected if expected <= limit else None)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("learning_rat", "learning_rate"),
        ("learningRate", "learning_rate"),
        ("weight-decay", "weight_decay"),
        ("wieght_decay", "weight_decay"),
        ("lr", "learning_rate"),
        ("rate", "learning_rate"),
        ("beta", "betas"),
        ("momentum", None),
        ("zzz", None),
        ("", None),
    ],
)
def test_closest(word: str, expected: str | None) -> None:
    found = closest(word, ["kind", "learning_rate", "weight_decay", "betas", "eps"])
    assert found == ([expected] if expected else [])


def vocabulary() -> Vocabulary:
    schema = schema_of("long_range")
    present = settings_of(schema.config)
    return Vocabulary.of(present, [(old, new) for old, new, _ in expand(schema.names, present)])


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("encoder.num_head", "did you mean `num_heads`?"),
        ("model.num_headd", "did you mean `num_head`?"),
        ("modell", "did you mean `model`?"),
        ("optimiser", "did you mean `optimizer`?"),
        ("num_layers", "`num_layers` belongs under `encoder`"),
        ("training.num_head", "`num_head` belongs under `model`"),
        ("update.seed", "`seed` belongs at the root or under `data`"),
        ("log.stop_at", "`stop_at` belongs under `budget`"),
        ("optimizer._targt_", "did you mean `_target_`?"),
        ("gpu_memory.hrr-bundeld", "did you mean `hrr-bundled`?"),
        ("pooling_mode", "`model.pooling_mode` is an older name: write `encoder.pooling`"),
        ("update.learning_rat", "did you mean `optimizer.learning_rate` or `pretraining.learning_rate`?"),
        ("qqqqqqq", ""),
    ],
)
def test_advice_looks_at_the_level_then_at_the_whole_tree(path: str, advice: str) -> None:
    assert vocabulary().advise(tuple(path.split("."))) == advice


def test_an_unknown_section_is_explained_by_what_is_in_it() -> None:
    assert vocabulary().advise(("zzzz",), {"stop_at": 3}) == "`stop_at` belongs under `budget`"
