"""Python literals: parsed, never executed."""

import pytest

from quincunx.config.document import ConfigError
from quincunx.config.read import read_text


def read(text):
    return read_text(text, "f", "python")


def refusals(text):
    """Return (line, column, message, remedy) of each problem."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    return [(p.mark.line, p.mark.column, p.message, p.remedy) for p in caught.value.problems]


GUIDE = """\
"listops":{
        "model":{
            "learn_pos_emb":True,           ### Learn positional embeddings
            "dropout_prob":0.1,             ### Dropout probability 
            "pooling_mode":"MEAN",
        },
        "gpu_memory":{                      ### the maximum number of samples in a single batch \\
            "softmax":32,                   ### each batch will be split into several chunks \\
            "hrr-bundled":64
        },
    }
"""  # noqa: W291


def test_a_fragment_in_the_form_of_the_guides():
    document = read(GUIDE)
    assert document.tree == {
        "listops": {
            "model": {"learn_pos_emb": True, "dropout_prob": 0.1, "pooling_mode": "MEAN"},
            "gpu_memory": {"softmax": 32, "hrr-bundled": 64},
        }
    }
    assert str(document.places[("listops",)].key) == "f:1:1"
    assert str(document.places[("listops",)].value) == "f:1:11"
    assert str(document.places[("listops", "model", "pooling_mode")].value) == "f:5:28"
    assert str(document.places[("listops", "gpu_memory", "hrr-bundled")].key) == "f:9:13"


@pytest.mark.parametrize("start", ["", "\n\n", "  ", "# c\n    # d\n  "])
def test_a_fragment_may_be_indented_and_begin_with_comments(start):
    document = read(f'{start}"a": 1,\n    "b": 2')
    assert document.tree == {"a": 1, "b": 2}
    assert document.places[("a",)].key.column == len(start.rpartition("\n")[2]) + 1
    assert document.places[("b",)].key.column == 5


@pytest.mark.parametrize(
    "text", ["{'a': 1}", "  {'a': 1}", "\n# c\n{'a': 1}\n", "'''doc'''\n{'a': 1}", "x = {'a': 1}", "x: dict = {'a': 1}"]
)
def test_one_dict_is_the_tree_under_whatever_name(text):
    assert read(text).tree == {"a": 1}


def test_several_names_are_several_keys():
    document = read('"""Tasks."""\n\nlistops = {"a": 1}\ntext = {\n  "ä": [2],\n}\n')
    assert document.tree == {"listops": {"a": 1}, "text": {"ä": [2]}}
    assert str(document.places[("text",)].key) == "f:4:1"
    assert str(document.places[("text", "ä", 0)].value) == "f:5:9"


def test_values():
    text = "{'a': (1, -2.5, +3, ()), 'b': 'x' \"y\"\n 'z', 'c': 0x1F, 'd': 1_000, 'e': None, 'f': '\\d', 'g': -1e3}"
    assert read(text).tree == {
        "a": [1, -2.5, 3, []], "b": "xyz", "c": 31, "d": 1000, "e": None, "f": "\\d", "g": -1000.0,
    }  # fmt: skip


def test_columns_count_letters_and_not_bytes():
    document = read('{"漢字😀": "é", "b": 1}')
    assert document.places[("b",)].key.column == 14
    document = read('"漢字😀": "é", "b": 1')
    assert document.places[("b",)].key.column == 13


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "remedy"),
    [
        ('{"a": dict(b=1)}', 1, 7, "a call", "{'a': 1}"),
        ('{"a": __import__("os").system("x")}', 1, 7, "a call", "value"),
        ('{"a": f"x{1}"}', 1, 7, "an f-string", "${path}"),
        ('{"a": {1, 2}}', 1, 7, "a set", "list"),
        ('{"a": 4 * 8}', 1, 7, "arithmetic", "result"),
        ('{"a": "x" + "y"}', 1, 7, "arithmetic", "result"),
        ('{"a": not 1}', 1, 7, "an operator", "result"),
        ('{"a": -x}', 1, 7, "an operator", "result"),
        ('{"a": [i for i in x]}', 1, 7, "a comprehension", "list"),
        ('{"a": lambda: 1}', 1, 7, "an expression", "value"),
        ('{"a": [*b]}', 1, 8, "an unpacked value", "items"),
        ('{"a": softmax}', 1, 7, "the name softmax", "'softmax'"),
        ('{"a": torch.nn}', 1, 7, "a name", "quotes"),
        ('{"a": true}', 1, 7, "`true` is not Python's spelling", "True"),
        ('{"a": null}', 1, 7, "`null` is not Python's spelling", "None"),
        ('{"a": b"x"}', 1, 7, "bytes", "text"),
        ('{"a": 2j}', 1, 7, "complex", "real"),
        ('{"a": ...}', 1, 7, "`...`", "text"),
        ('{"a": 1e999}', 1, 7, "too large", "range"),
        ('{"a": -1e999}', 1, 7, "too large", "range"),
        ('{"a": "\\ud800"}', 1, 7, "surrogate", "character"),
        ('{**x, "a": 1}', 1, 4, "`**`", "entries"),
        ("{1: 2}", 1, 2, "the key 1 is not text", "'1'"),
        ("{None: 2}", 1, 2, "the key None is not text", "'None'"),
        ('{"a": 1,\n "b": {"c": 1, "c": 2}}', 2, 16, "b.c stands twice; the first is on line 2", "keep one"),
        ("x = {}\ny = {}\nx = {}", 3, 1, "x stands twice; the first is on line 1", "keep one"),
        ("x = {}\nlr = 3", 2, 1, "lr is not given a dict", "name = {...}"),
        ("lr = 3", 1, 1, "lr is not given a dict", "name = {...}"),
        ("import os\nx = {}", 1, 1, "an import", "literals"),
        ("x = {}\nx['a'] = 1", 2, 1, "a statement", "literals"),
        ("x = y = {}", 1, 1, "a statement", "literals"),
        ("x = {}\nprint(x)", 2, 1, "a value without a name", "literals"),
        # what Python's parser finds
        ('{"a": 1\n "b": 2}', 1, 7, "forgot a comma", "look here"),
        ('"a": 1\n"b": 2', 1, 6, "forgot a comma", "look here"),
        ('{\n "a" 1\n}', 2, None, "comma", "colon"),
        ('"a": 1,\n"b": {"c": 2', 2, 6, "never closed", "bracket"),
        ('"a": [1,\n"b": 2', 1, 6, "never closed", "bracket"),
        ('"a": {"c": 2}}\n', 1, 14, "a closing bracket too many", "bracket"),
        ("'a': 'x", 1, 6, "unterminated", "quote"),
        ("x = {'a': 012}", 1, 11, "leading zeros", "look here"),
        ("x = " + "(" * 5000, 1, None, "nested", "bracket"),
        ("+".join(["1"] * 100_000), 1, 1, "levels of nesting", ""),
        ('{"a":' * 101 + "1" + "}" * 101, 1, 501, "more than 100 levels", "flatten"),
        # prose around the literal
        ("A guide through the file\n\n" + GUIDE, 1, 1, "line 1: prose before the literal", "delete line 1"),
        ("Here is\nmy config:\nx = {'a': 1}", 1, 1, "lines 1 to 2: prose", "delete lines 1 to 2"),
        ("Guide\n{'a': 1}", 1, 1, "neither key nor value", "delete"),
        ("hello", 1, 1, "neither key nor value", "delete"),
    ],
)
def test_refusals(text, line, column, message, remedy):
    (found,) = refusals(text)
    assert found[0] == line and column in (None, found[1])
    assert message in found[2] and remedy in found[3]


def test_all_problems_come_in_one_report():
    text = 'import os\na = {"x": f(1), "y": [g, 2 + 2]}\nb = 3\na = {}\n'
    assert [(line, column) for line, column, *_ in refusals(text)] == [
        (1, 1),
        (2, 11),
        (2, 23),
        (2, 26),
        (3, 1),
        (4, 1),
    ]


def test_nothing_is_executed(tmp_path):
    witness = tmp_path / "witness"
    with pytest.raises(ConfigError):
        read(f"x = {{'a': open({str(witness)!r}, 'w')}}")
    assert not witness.exists()


def test_odd_backslashes_do_not_warn(recwarn):
    assert read(r"{'a': '\d'}").tree == {"a": r"\d"}
    assert not recwarn.list
