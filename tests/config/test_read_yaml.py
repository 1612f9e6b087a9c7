"""YAML: values by the core schema of YAML 1.2, and every refusal with its place and remedy."""

import math

import pytest

from quincunx.config.document import ConfigError
from quincunx.config.read import read_text


def tree(text):
    return read_text(text, "f", "yaml").tree


def refusals(text):
    """Return (line, column, message, remedy) of each problem."""
    with pytest.raises(ConfigError) as caught:
        read_text(text, "f", "yaml")
    return [(p.mark.line, p.mark.column, p.message, p.remedy) for p in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("-1E+3", -1000.0), ("+1.0", 1.0), ("1_000", "1_000"),
        ("12", 12), ("-3", -3), ("+3", 3), ("012", 12), ("0o14", 12), ("0x1F", 31), ("0b1", "0b1"), ("1:30", "1:30"),
        ("9" * 40, int("9" * 40)), ("no", "no"), ("yes", "yes"), ("on", "on"), ("Off", "Off"), ("y", "y"),
        ("true", True), ("True", True), ("FALSE", False), ("tRue", "tRue"), ("null", None),
        ("~", None), ("", None), ("Null", None),
        ("2026-11-20", "2026-11-20"), ('"1"', "1"), ("'true'", "true"),
        ('"\\u00e9\\n"', "é\n"), ('"\\ud83d\\ude00"', "😀"),
        ("snap/test # why", "snap/test"), ("a#b", "a#b"), ("|\n  two\n  lines", "two\nlines\n"),
        (">-\n  two\n  lines", "two lines"),
        (".inf", math.inf), ("-.INF", -math.inf), ("<<", "<<"),
        ("[1, [a, {b: c}],]", [1, ["a", {"b": "c"}]]),
    ],
)  # fmt: skip
def test_values(text, value):
    found = tree(f"key: {text}\n")["key"]
    assert found == value and type(found) is type(value)


def test_not_a_number_is_read_where_it_is_written():
    assert math.isnan(tree("a: .nan")["a"])


def test_quoted_and_wordy_keys():
    assert tree('"1": a\nyes: b\nhrr-bundled: c\ntwo words: d\n? e\n: f\n"<<": g\n') == {
        "1": "a", "yes": "b", "hrr-bundled": "c", "two words": "d", "e": "f", "<<": "g",
    }  # fmt: skip


def test_places_of_block_and_flow():
    places = read_text("a:\n  - {b: 1}\n  -   c\nd: &x\n  e: 2\n", "f", "yaml").places
    shown = {
        path: (str(place.key or "-").removeprefix("f:"), str(place.value).removeprefix("f:"))
        for path, place in places.items()
    }
    assert shown == {
        (): ("-", "1:1"),
        ("a",): ("1:1", "2:3"),
        ("a", 0): ("-", "2:5"),
        ("a", 0, "b"): ("2:6", "2:9"),
        ("a", 1): ("-", "3:7"),
        ("d",): ("4:1", "4:4"),
        ("d", "e"): ("5:3", "5:6"),
    }


def test_each_use_of_an_alias_is_a_copy_of_its_own_that_stands_where_the_alias_does():
    document = read_text("a: &x {lr: [1]}\nb: *x\nc: [*x]\n", "f", "yaml")
    assert document.tree == {"a": {"lr": [1]}, "b": {"lr": [1]}, "c": [{"lr": [1]}]}
    document.tree["b"]["lr"].append(2)
    assert document.tree["a"] == {"lr": [1]} == document.tree["c"][0]
    assert str(document.places[("b", "lr", 0)].value) == "f:2:4"
    assert str(document.places[("b",)].key) == "f:2:1"
    assert str(document.places[("c", 0, "lr")].key) == "f:3:5"


def test_an_anchor_may_be_given_anew():
    assert tree("a: &x 1\nb: *x\nc: &x 2\nd: *x\n") == {"a": 1, "b": 1, "c": 2, "d": 2}


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "remedy"),
    [
        ("a: !!python/object/apply:os.system [ls]", 1, 4, "the tag !!python/object/apply:os.system", "plain value"),
        ("a: !!str 3", 1, 4, "the tag !!str", "quotes"),
        ("a:\n  b: !mine {c: 1}", 2, 6, "the tag !mine", "plain value"),
        ("a: ! x", 1, 4, "the tag !", "plain value"),
        ("!t a: 1", 1, 1, "the tag !t", "plain value"),
        ("b: {c: 1, c: 2}", 1, 11, "b.c stands twice; the first is on line 1", "keep one"),
        ("a: 1\n\nb: 2\na: 1", 4, 1, "a stands twice; the first is on line 1", "keep one"),
        ("1: a", 1, 1, "the key 1 is a number", '"1"'),
        ("true: a", 1, 1, "the key true is a boolean", '"true"'),
        ("a: {~: 1}", 1, 5, "the key ~ is null", '"~"'),
        ("? [a, b]\n: 1", 1, 3, "a list or a mapping as a key", "text"),
        ("a: &x 1\n*x : 2", 2, 1, "an alias as a key", "text"),
        (": 1", 1, 1, "a key is missing", "key"),
        ("a: 1\n---\nb: 2", 2, 1, "second document", "one document"),
        ("a: 1\n...\n---\nb: 2", 3, 1, "second document", "one document"),
        ("%YAML 1.1\n---\na: on", 1, 1, "YAML 1.1", "YAML 1.2"),
        ("a: &x {b: 1}\nc:\n  <<: *x", 3, 3, "merge key", "`base:`"),
        ("a: *x", 1, 4, "no anchor &x", "none"),
        ("b: &y 1\na: *x", 2, 4, "no anchor &x", "&y"),
        ("a: &x\n  b: [*x]", 2, 7, "stands inside &x itself", "remove"),
        ("a: 1e999", 1, 4, "too large for a float", "range"),
        ("a: " + "9" * 5000, 1, 4, "5000 digits", "range"),
        ('a: "\\ud83d"', 1, 4, "half of a surrogate pair", "both halves"),
        ('a: "\\UFFFFFFFF"', 1, 5, "beyond the last character", "0010ffff"),
        ("a: {lr:3, b: 1}", 1, 5, "`lr:3` has no value", "space after the colon"),
        ("a: b\x07", 1, 5, "U+0007", '"\\u0007"'),
        ("a: b\u2028c", 1, 5, "U+2028", '"\\u2028"'),
        # what the library's scanner and parser find
        ("a:\n\tb: 1", 2, 1, "a tab", "spaces"),
        ("a: b: c", 1, 5, "no key can stand before this colon", "quotes"),
        ("a:\n  b: 1\n   c: 2", 3, 5, "no key can stand before this colon", "indentation"),
        ("a:\n  b: 1\n c: 2", 3, 2, "does not fit the lines before", "same indentation"),
        ("a: 1\nb\nc: 2", 2, 1, "a key without a colon", "key: value"),
        ("a: [1, 2\nb: 3", 2, 2, "neither a comma nor the closing bracket", "opened on line 1"),
        ("a: [1,", 1, 7, "a value is missing", "close every bracket (opened on line 1)"),
        ("a: [${b}]", 1, 6, "neither a comma nor", "${path} stands in quotes"),
        ('a: 1\nb: "x\nc: 2', 2, 4, "never closed", "close the quote"),
        ('a: "C:\\data"', 1, 8, "the backslash before `d`", "twice"),
        ("a: @x", 1, 4, "cannot begin with `@`", "quotes"),
        ("a: %x", 1, 4, "cannot begin with `%`", "quotes"),
        ("{a: 1}}", 1, 7, "more text after the end", "remove"),
        ('"a":1', 1, 4, "more text after the end", "space follows the colon"),
        ('{\n  // why\n  "a": 1\n}', 3, 6, "neither a comma", "name the file .json"),
    ],
)
def test_refusals(text, line, column, message, remedy):
    (found,) = refusals(text)
    assert found[:2] == (line, column)
    assert message in found[2] and remedy in found[3]


def test_all_problems_come_in_one_report_and_those_before_a_syntax_error_too():
    text = "1: a\nb: !x [2, {c: 1, c: 2}]\nb: 3\nd: *e\nf: g: h\n"
    assert [(line, column) for line, column, *_ in refusals(text)] == [(1, 1), (2, 4), (2, 18), (3, 1), (4, 4), (5, 5)]


def test_an_alias_bomb_goes_off_before_it_takes_memory():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    (found,) = refusals("\n".join(levels))
    assert "alias bomb" in found[2] and found[0] < 8


def test_many_aliases_that_stay_small_are_fine():
    text = "a: &x [1, 2, 3]\n" + "".join(f"b{n}: *x\n" for n in range(200))
    assert len(tree(text)) == 201


@pytest.mark.parametrize("opening", ["[", "{a: "])
def test_nesting_has_an_end(opening):
    closing = "]" if opening == "[" else "}"
    assert tree("k: " + opening * 99 + "1" + closing * 99)
    (found,) = refusals("k: " + opening * 150)
    assert "more than 100 levels" in found[2]


def test_deep_aliases_count_as_deep():
    text = "a: &a " + "[" * 90 + "]" * 90 + "\nb: " + "[" * 50 + "*a" + "]" * 50
    (found,) = refusals(text)
    assert "more than 100 levels" in found[2] and found[0] == 2
