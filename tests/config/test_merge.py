"""Layers: `base:` files, deep merging, and what each value replaced."""

import copy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quincunx.config.document import ConfigError, Document, Mark, Origin, Place, Source
from quincunx.config.merge import merge, read_layers
from quincunx.config.paths import walk
from quincunx.config.read import read_file, read_text


def document(text, name="f"):
    return read_text(text, name, "yaml")


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def problems(path):
    with pytest.raises(ConfigError) as caught:
        read_layers(path)
    return caught.value.problems


def test_a_file_without_bases_is_one_layer(tmp_path):
    write(tmp_path, only="a: 1")
    assert [layer.tree for layer in read_layers(tmp_path / "only.yaml")] == [{"a": 1}]


def test_bases_come_first_in_their_order_and_lose_the_key(tmp_path):
    (tmp_path / "shared").mkdir()
    write(tmp_path / "shared", low="base: lower.yaml\nname: low", lower="name: lower")
    write(tmp_path, side="name: side", top="name: top\nbase: [shared/low.yaml, side.yaml]\n")
    layers = read_layers(str(tmp_path / "top.yaml"))
    assert [layer.tree for layer in layers] == [{"name": "lower"}, {"name": "low"}, {"name": "side"}, {"name": "top"}]
    assert all(("base",) not in layer.places and ("base", 0) not in layer.places for layer in layers)
    assert layers[0].places[("name",)].key.source.name == str(tmp_path / "shared" / "lower.yaml")


def test_a_base_may_have_another_form_and_stand_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "mine.json").write_text('{"a": 1}')
    write(tmp_path, top="base: ~/mine.json\nb: 2")
    assert merge(read_layers(tmp_path / "top.yaml")).tree == {"a": 1, "b": 2}


def test_a_file_on_which_two_bases_stand_is_read_once(tmp_path):
    write(tmp_path, d="x: d", b="base: d.yaml\nx: b", c="base: ./d.yaml", a="base: [b.yaml, c.yaml]")
    read = []

    def counting(name):
        read.append(name.rpartition("/")[2])
        return read_file(name)

    layers = read_layers(tmp_path / "a.yaml", counting)
    assert read == ["a.yaml", "b.yaml", "d.yaml", "c.yaml"]
    assert merge(layers).tree == {"x": "b"}


def test_reading_leaves_what_the_reader_returned_as_it_was(tmp_path):
    kept = document("base: null\na: 1")
    assert read_layers("x.yaml", lambda name: kept)[0].tree == {"a": 1}
    assert kept.tree == {"base": None, "a": 1}


@pytest.mark.parametrize(
    "files", [{"a": "base: a.yaml"}, {"a": "x: 1\nbase: b.yaml", "b": "base: [c.yaml]", "c": "base: ./a.yaml"}]
)
def test_a_circle_is_named_where_it_closes(tmp_path, files):
    write(tmp_path, **files)
    (problem,) = problems(tmp_path / "a.yaml")
    last = list(files)[-1]
    assert "own base" in problem.message and " -> " in problem.message
    assert str(problem.mark).startswith(str(tmp_path / f"{last}.yaml"))
    assert problem.mark.column == 7


def test_a_missing_base_is_placed_where_it_is_named_and_all_are_reported(tmp_path):
    write(
        tmp_path, top="a: 1\nbase: [good.yaml, gone.yaml, bad.yaml, x.txt]", good="base: nowhere.yaml", bad="b: 1\nb: 2"
    )
    (tmp_path / "x.txt").write_text("")
    found = {
        (str(p.mark).rpartition("/")[2], p.message.partition(": ")[2] or p.message)
        for p in problems(tmp_path / "top.yaml")
    }
    assert found == {
        ("top.yaml:2:19", "no such file"),
        ("good.yaml:1:7", "no such file"),
        ("bad.yaml:2:1", "the key b stands twice; the first is on line 1"),
        ("top.yaml:2:40", "the form of a config file follows from its suffix, and its name ends in .txt"),
    }


@pytest.mark.parametrize(("value", "column"), [("3", 7), ("{a: b}", 7), ("[x.yaml, [y]]", 16), ('""', 7), ("true", 7)])
def test_a_base_that_is_no_file_name(tmp_path, value, column):
    write(tmp_path, a=f"base: {value}", x="")
    (problem,) = problems(tmp_path / "a.yaml")
    assert "no file name" in problem.message and problem.mark.column == column


def test_mappings_are_merged_and_everything_else_replaced():
    low = document("a: {b: 1, c: [1, 2], d: {e: 1}}\nf: 1\n", "low")
    top = document("a: {b: 2, c: [3], d: {g: 2}, h: 3}\n", "top")
    merged = merge([low, top])
    assert merged.tree == {"a": {"b": 2, "c": [3], "d": {"e": 1, "g": 2}, "h": 3}, "f": 1}
    assert list(merged.tree) == ["a", "f"]
    names = {path: place.value.source.name for path, place in merged.places.items()}
    assert names[("a", "b")] == names[("a", "c", 0)] == names[("a", "d")] == "top"
    assert names[("a", "d", "e")] == names[("f",)] == "low"
    assert ("a", "c", 1) not in names


def test_history_tells_what_was_replaced_oldest_first():
    layers = [document(f"a: {{b: {n}}}", f"layer{n}") for n in range(3)]
    merged = merge(layers)
    assert [(origin.value, str(origin.place.value)) for origin in merged.history[("a", "b")]] == [
        (0, "layer0:1:8"), (1, "layer1:1:8"),
    ]  # fmt: skip
    assert set(merged.history) == {("a", "b")}


@pytest.mark.parametrize(("old", "new"), [("{b: 1}", "2"), ("2", "{b: 1}"), ("[1]", "{b: 1}"), ("{b: 1}", "null")])
def test_a_mapping_and_a_scalar_replace_each_other(old, new):
    low, top = document(f"a: {old}", "low"), document(f"a: {new}", "top")
    merged = merge([low, top])
    assert merged.tree == top.tree
    assert merged.history == {("a",): [Origin(low.tree["a"], low.places[("a",)])]}
    assert {place.value.source.name for path, place in merged.places.items() if path} == {"top"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("{_target_: A, p: 1}", "{_target_: B, q: 2}", {"_target_": "B", "q": 2}),
        ("{_target_: A, p: 1}", "{_target_: A, q: 2}", {"_target_": "A", "p": 1, "q": 2}),
        ("{_target_: A, p: 1}", "{q: 2}", {"_target_": "A", "p": 1, "q": 2}),
        ("{kind: linear, p: 1}", "{_target_: B, q: 2}", {"_target_": "B", "q": 2}),
    ],
)
def test_arguments_of_different_callables_are_never_mixed(old, new, expected):
    merged = merge([document(f"s: {{t: {old}}}"), document(f"s: {{t: {new}}}")])
    assert merged.tree["s"]["t"] == expected


def test_no_layers_and_empty_layers():
    assert merge([]).tree == {}
    assert merge([document(""), document("a: 1"), document("")]).tree == {"a": 1}


trees = st.recursive(
    st.integers(0, 9) | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
layers = st.lists(st.dictionaries(st.sampled_from("abc"), trees, max_size=3), min_size=1, max_size=4)


def made(tree, name):
    mark = Mark(Source(name, ("",)), 1, 1)
    return Document(tree, {path: Place(None, mark) for path in [(), *(path for path, _ in walk(tree))]})


@given(layers)
@example([{"a": None, "c": {"a": None}}, {"c": {"a": None}}, {"a": [], "c": 0}, {}])
def test_merging_does_not_depend_on_the_grouping_and_leaves_the_layers_alone(forest):
    parts = [made(tree, f"layer{n}") for n, tree in enumerate(forest)]
    before = copy.deepcopy(parts)
    together = merge(parts)
    assert parts == before
    stepwise = parts[0]
    for part in parts[1:]:
        stepwise = merge([stepwise, part])
    assert stepwise.tree == together.tree
    assert stepwise.history == together.history
    assert set(together.places) == {(), *(path for path, _ in walk(together.tree))}
    for path, value in walk(together.tree):
        if not isinstance(value, dict):  # the last layer that reaches this path decides it
            name = together.places[path].value.source.name
            assert parts[int(name.removeprefix("layer"))].get(path) == value
