"""Reading in general: files, suffixes, encodings, and what holds for every grammar."""

import ast
import json
import math
import os
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quincunx.config.document import ConfigError
from quincunx.config.paths import walk
from quincunx.config.read import MAX_BYTES, read_file, read_text

FORMS = ["yaml", "json", "python"]


def problems(call, *args, **options):
    """Return the problems with which a call is refused."""
    with pytest.raises(ConfigError) as caught:
        call(*args, **options)
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yaml", "a: {b: 1e-4}"),
        ("c.yml", "a: {b: 1e-4}"),
        ("c.YAML", "a: {b: 1e-4}"),
        ("c.json", '{"a": {"b": 1e-4,}, // small\n}'),
        ("c.jsonc", '{"a": {"b": 1e-4}}'),
        ("c.py", "config = {'a': {'b': 1e-4}}"),
    ],
)
def test_the_suffix_chooses_the_grammar(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    document = read_file(path)
    assert document.tree == {"a": {"b": 1e-4}}
    assert document.places[("a", "b")].key.source.name == str(path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", ["", " \n\n", "\ufeff"])
def test_an_empty_file_is_an_empty_document(form, text):
    document = read_text(text, "f", form)
    assert document.tree == {} and str(document.mark(())) == "f:1:1"


@pytest.mark.parametrize(
    ("form", "text"), [("yaml", "# c\n---\n"), ("json", "// c\n/* d */"), ("python", '"""doc"""\n# c')]
)
def test_comments_alone_are_an_empty_document(form, text):
    assert read_text(text, "f", form).tree == {}


@pytest.mark.parametrize(("form", "text", "kind"), [
    ("yaml", "- 1\n- 2", "a list"), ("json", "[1]", "a list"), ("python", "(1,)", "a list"),
    ("yaml", "lr:0.1", "a text"), ("json", "3", "the value 3"), ("yaml", "null", "the value None"),
])  # fmt: skip
def test_a_root_that_is_no_mapping(form, text, kind):
    (problem,) = problems(read_text, text, "f", form)
    assert kind in problem.message and str(problem.mark) == "f:1:1"


def test_a_root_of_any_kind_where_it_is_asked_for(tmp_path):
    assert read_text("- 1", "f", "yaml", mapping=False).tree == [1]
    (tmp_path / "f.json").write_text("[1, 2]")
    assert read_file(tmp_path / "f.json", mapping=False).tree == [1, 2]


def test_a_missing_file_suggests_its_neighbour(tmp_path):
    (tmp_path / "config.yaml").write_text("a: 1")
    (problem,) = problems(read_file, tmp_path / "confg.yaml")
    assert problem.mark is None and "no such file" in problem.message
    assert str(tmp_path / "config.yaml") in problem.remedy


def test_a_folder_names_the_files_in_it(tmp_path):
    (tmp_path / "listops.yaml").write_text("a: 1")
    (problem,) = problems(read_file, tmp_path)
    assert "folder" in problem.message and "listops.yaml" in problem.remedy


@pytest.mark.parametrize("name", ["config.txt", "config", "config.toml"])
def test_an_unknown_suffix_is_told_the_three_forms(tmp_path, name):
    (tmp_path / name).write_text("a: 1")
    (problem,) = problems(read_file, tmp_path / name)
    assert all(suffix in problem.remedy for suffix in (".yaml", ".json", ".py"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read every file")
def test_a_file_without_permission(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    (problem,) = problems(read_file, path)
    assert "no permission" in problem.message and "chmod" in problem.remedy


def test_a_path_that_cannot_be_a_path():
    (problem,) = problems(read_file, "a\0b.yaml")
    assert "cannot be read" in problem.message


def test_bytes_that_are_not_utf8_are_named_with_offset_and_line(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes("# ä\nb: caf".encode() + b"\xe9\n")
    (problem,) = problems(read_file, path)
    assert "byte 0xe9 at offset 11, line 2" in problem.message
    assert (problem.mark.line, problem.mark.column) == (2, 7)
    path.write_bytes("a: 1".encode("utf-16"))
    assert "UTF-16" in problems(read_file, path)[0].remedy


@pytest.mark.parametrize("form", FORMS)
def test_a_nul_is_no_text(form):
    (problem,) = problems(read_text, "a\n\0", "f", form)
    assert "NUL" in problem.message and problem.mark.line == 2


def test_a_byte_order_mark_is_accepted_and_counts_for_nothing(tmp_path):
    path = tmp_path / "c.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_file(path).places[("a",)].key.column == 2


def test_a_data_file_named_by_mistake(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(" " * (MAX_BYTES + 1))
    assert "larger than" in problems(read_file, path)[0].message


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.yaml").write_text("a: 1")
    assert read_file("~/c.yaml").tree == {"a": 1}


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
documents = st.dictionaries(st.text(max_size=8), trees, max_size=5)


def same(one, other) -> bool:
    """Compare trees strictly: 1 is not 1.0, and 1 is not True."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other and (one != 0 or math.copysign(1, one) == math.copysign(1, other))


@given(documents, st.booleans(), st.sampled_from([None, 0, 3]))
@example({"a": "😀", "": {"\x7f\u2028": []}}, True, None)
def test_whatever_json_writes_is_read_equal(tree, ascii_only, indent):
    assert same(read_text(json.dumps(tree, ensure_ascii=ascii_only, indent=indent), "f", "json").tree, tree)


@given(documents, st.sampled_from([None, 0, 3]))
@example({"a": "😀", "<<": {"1": 1e-7, "~": 1e22}}, None)
def test_json_is_yaml(tree, indent):
    text = json.dumps(tree, indent=indent).replace("\x7f", "\\u007f")
    assert same(read_text(text, "f", "yaml").tree, tree)


@given(documents)
def test_whatever_python_writes_is_read_equal(tree):
    assert same(read_text(repr(tree), "f", "python").tree, tree)
    assert same(read_text(repr(tree)[1:-1], "f", "python").tree, tree)
    assert same(read_text(f"cfg = {tree!r}", "f", "python").tree, tree)


@given(documents, st.sampled_from(["json", "yaml", "python", "fragment"]), st.sampled_from(["\n", "\r\n", "\r"]))
@example({"ä😀": {"b": ["漢", {"c": -1}]}}, "fragment", "\n")
def test_marks_point_at_the_very_key_and_value(tree, form, line_end):
    """Each key and each scalar, read again as a literal from its mark on, is the one the mark belongs to."""
    ascii_only = form == "yaml"  # YAML has no use for some letters outside quotes, and none for others at all
    text = json.dumps(tree, ensure_ascii=ascii_only, indent=2).replace("\x7f", "\\u007f")
    if form in ("python", "fragment"):
        words = {"true": "True", "false": "False", "null": "None"}
        text = re.sub(r'"(?:[^"\\]|\\.)*"|\w+', lambda m: words.get(m[0], m[0]), text)
        text = re.sub(r"\\ud[89ab]..\\ud[c-f]..", lambda m: json.loads(f'"{m[0]}"'), text)
    text = text.replace("\n", line_end)
    if form == "fragment":
        text = text[1:-1]
        form = "python"
    document = read_text(text, "f", form)
    assert same(document.tree, tree)

    def literal(mark):
        rest = mark.source.lines[mark.line - 1][mark.column - 1 :]
        token = re.match(r'"(?:[^"\\]|\\.)*"|[\w.+-]+', rest)[0]
        return ast.literal_eval(token) if form == "python" else json.loads(token)

    for path, value in walk(document.tree):
        place = document.places[path]
        if isinstance(path[-1], str):
            assert literal(place.key) == path[-1]
        else:
            assert place.key is None
        if isinstance(value, dict | list):
            line = place.value.source.lines[place.value.line - 1]
            assert line[place.value.column - 1] == ("{" if isinstance(value, dict) else "[")
        else:
            assert same(literal(place.value), value)


words = st.sampled_from(
    [
        *"{}[],:\"'#/*\\&!|>%@`~-?=;.() \t\n\r",
        *(
            "//",
            "/*",
            "*/",
            "\n  ",
            ": ",
            "- ",
            '"a":',
            "'b': ",
            "a: ",
            "1e5",
            "012",
            "true",
            "None",
            "&x ",
            "*x",
            "<<: ",
        ),
        *("!!str ", "---\n", "\\u00", "\\ud83d", "\\UFFFFFFFF", "${a}", "x = ", "f'", "\u2028", "\x07", "é", "or"),
    ]
)


@pytest.mark.parametrize("form", FORMS)
@given(st.lists(words, max_size=25).map("".join))
@example("'''")
@example('{"a":"\\')
@example("%YAML 1.")
@example('a: "\\UFFFFFFFF"')
def test_any_text_is_read_or_refused_with_marks_inside_it(form, text):
    try:
        document = read_text(text, "f", form)
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.remedy and problem.message
            assert 1 <= problem.mark.line <= len(problem.mark.source.lines)
            assert 1 <= problem.mark.column <= len(problem.mark.source.lines[problem.mark.line - 1]) + 1
            problem.render()
    else:
        assert isinstance(document.tree, dict)
        assert set(document.places) == {(), *(path for path, _ in walk(document.tree))}
