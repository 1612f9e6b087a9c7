"""The written form of a place in a config tree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.config.paths import PathSyntaxError, dotted, nearest, parse_path, scan_path

keys = st.text(min_size=0, max_size=6) | st.sampled_from(["a", "num_layers", "hrr-bundled", "v1.0", "a=b", "x+", "~y"])
paths = st.tuples(keys).flatmap(
    lambda first: st.lists(keys | st.integers(0, 99), max_size=4).map(lambda rest: (*first, *rest))
)


@given(paths)
def test_what_is_printed_can_be_typed_back(path):
    assert parse_path(dotted(path)) == path


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("encoder", "num_layers"), "encoder.num_layers"),
        (("log", "trackers", 0, "name"), "log.trackers[0].name"),
        (("tasks", "v1.0", "lr"), 'tasks."v1.0".lr'),
        (("gpu_memory", "hrr-bundled"), "gpu_memory.hrr-bundled"),
        (("a", 'say "x"'), 'a."say \\"x\\""'),
        ((), ""),
    ],
)
def test_dotted(path, text):
    assert dotted(path) == text


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("", 0),
        (".a", 0),
        ("a.", 2),
        ("a..b", 2),
        ("a[x]", 1),
        ("a[-1]", 1),
        ("a[0", 1),
        ('a."b', 2),
        ("a b", 1),
        ("a[0]b", 4),
    ],
)
def test_a_broken_path_is_refused_where_it_breaks(text, offset):
    with pytest.raises(PathSyntaxError) as caught:
        parse_path(text)
    assert caught.value.offset == offset


def test_scanning_stops_at_the_end_of_the_path():
    assert scan_path("a.b+=1") == (("a", "b"), 3)
    assert scan_path("x${a[1]} y", 3) == (("a", 1), 7)


def test_the_nearest_path_is_a_namesake_or_a_likely_slip():
    tree = {"optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}, "epochs": 3}
    assert nearest(tree, ("training", "lr")) == "did you mean `optimizer.lr`?"
    assert nearest(tree, ("epoch",)) == "did you mean `epochs`?"
    assert nearest(tree, ("zzz",)) == ""
