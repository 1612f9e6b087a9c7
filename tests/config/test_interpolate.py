"""`${path}` references."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.config.document import ConfigError, Document
from quincunx.config.interpolate import interpolate
from quincunx.config.read import read_text


def tree(text, known=None):
    return interpolate(read_text(text, "f", "yaml"), known).tree


def refusals(text, known=None):
    with pytest.raises(ConfigError) as caught:
        tree(text, known)
    return [(p.mark.line, p.mark.column, p.message, p.remedy) for p in caught.value.problems]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${model.width}", 512), ("${ model.width }", 512), ("${rate}", 1e-4), ("${on}", True), ("${none}", None),
        ("${model}", {"width": 512, "heads": [8, 16]}), ("${model.heads}", [8, 16]), ("${model.heads[1]}", 16),
        ("w${model.width}", "w512"), ("${name}-${model.heads[0]}", "run-8"),
        ("${on}/${none}/${rate}", "true/null/0.0001"),
        ("$${name}", "${name}"), ("a $${name} ${name}", "a ${name} run"), ("$name $$ {name}", "$name $$ {name}"),
        ('${"v1.0".x}', 3), ("${later}", "last"), ("${chain}", 512), ("${list[0]}", 512), ("${alias.width}", 512),
        ("${alias.heads[1]}", 16),
    ],
)  # fmt: skip
def test_values(written, value):
    text = """
name: run
model: {width: 512, heads: [8, 16]}
rate: 1e-4
on: true
none: null
"v1.0": {x: 3}
chain: ${list[0]}
list: ["${model.width}"]
alias: ${model}
under: {test: [WRITTEN]}
later: last
""".replace("WRITTEN", f"'{written}'")
    found = tree(text)["under"]["test"][0]
    assert found == value and type(found) is type(value)


def test_what_is_taken_over_is_a_copy():
    resolved = tree("a: {b: [1]}\nc: ${a}\nd: ${a}")
    resolved["c"]["b"].append(2)
    assert resolved["a"] == resolved["d"] == {"b": [1]}


def test_the_given_document_stays_and_a_copied_value_stands_where_the_reference_does():
    document = read_text("a: {b: [1]}\nc: ${a}", "f", "yaml")
    resolved = interpolate(document)
    assert document.tree["c"] == "${a}"
    assert str(resolved.places[("c",)].key) == "f:2:1"
    assert str(resolved.places[("c", "b")].key) == "f:2:4"
    assert str(resolved.places[("c", "b", 0)].value) == "f:2:4"
    assert str(resolved.places[("a", "b", 0)].value) == "f:1:9"


def test_a_mapping_may_refer_to_its_own_parts():
    assert tree("a: {x: '${a.y}', y: {z: 1}}") == {"a": {"x": {"z": 1}, "y": {"z": 1}}}


def test_older_names_are_followed():
    known = {"training.lr": "optimizer.lr", "gone": "nowhere.at.all"}.get
    assert tree("optimizer: {lr: 3}\na: ${training.lr}", known)["a"] == 3
    assert "nothing stands at gone" in refusals("a: ${gone}", known)[0][2]
    assert "nothing stands at other" in refusals("a: ${other}", known)[0][2]


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "remedy"),
    [
        ("lr: 1\na: {b: [x, '${lrr}']}", 2, 12, "nothing stands at lrr", "`lr`"),
        ("optimizer: {lr: 1}\na: ${lr}", 2, 4, "nothing stands at lr", "`optimizer.lr`"),
        ("a: ${zzz}", 1, 4, "nothing stands at zzz", "not defaults"),
        ("b: [1]\na: ${b[1]}", 2, 4, "nothing stands at b[1]", ""),
        ("b: 1\na: ${b.c}", 2, 4, "nothing stands at b.c", ""),
        ("b: ${c}\nc: {x: 1}\na: ${b.y}", 3, 4, "nothing stands at b.y", ""),
        ("a: ${env:HOME}", 1, 4, "environment variables are not read, because they would be written", "environment"),
        ("a: x${oc.env:HOME,y}", 1, 4, "environment variables are not read", "environment"),
        ("a: ${now:%Y}", 1, 4, "no resolvers", "${path}"),
        ("b: 1\na: ${.b}", 2, 4, "a relative path", "from the root"),
        ("a: ${b", 1, 4, "without its closing", "$${"),
        ("a: x ${b.${c}}", 1, 4, "a reference within a reference", "plain path"),
        ("a: ${}", 1, 4, "no path", "${section.key}"),
        ("a: ${b..c}", 1, 4, "no path", "${section.key}"),
        ("a: '${b c}'", 1, 4, "cannot stand in a path", "${section.key}"),
        ("b: {c: 1}\na: x${b}", 2, 4, "${b} is a mapping", "whole value"),
        ("b: [1]\na: ${b}${b}", 2, 4, "${b} is a list", "whole value"),
        ("a: ${a}", 1, 4, "a circle of references: a -> a", "value"),
        ("a: ${b}\nb: x${c.d}\nc: {d: '${a}'}", 3, 8, "a circle of references: a -> b -> c.d -> a", "value"),
        ("a: {b: {c: '${a.b}'}}", 1, 12, "a circle of references", "value"),
    ],
)
def test_refusals(text, line, column, message, remedy):
    (found,) = refusals(text)
    assert found[:2] == (line, column)
    assert message in found[2] and remedy in found[3]


def test_all_problems_are_reported_but_not_what_follows_from_them():
    found = refusals("a: ${x}\nb: ${a}\nc: ${b}-${env:Y}\nd: ${y}\ne: {f: '${a}'}\ng: ${e}")
    assert [line for line, *_ in found] == [1, 4]


@pytest.mark.parametrize(
    ("line", "last", "message"),
    [
        ("a{0}: {{x: '${{a{1}}}', y: '${{a{1}}}'}}", "1", "copy more than"),
        ("a{0}: '${{a{1}}}${{a{1}}}'", "ab", "a text of more than"),
    ],
)
def test_a_bomb_of_references_is_refused_in_time(line, last, message):
    text = "\n".join(line.format(n, n + 1) for n in range(60)) + f"\na60: {last}"
    (found,) = refusals(text)
    assert message in found[2]


def test_chains_have_an_end_far_beyond_use():
    text = "\n".join(f"a{n}: ${{a{n + 1}}}" for n in range(500)) + "\na500: x"
    assert "too long a chain" in refusals(text)[0][2]
    text = "\n".join(f"a{n}: ${{a{n + 1}}}" for n in range(50)) + "\na50: x"
    assert tree(text)["a0"] == "x"


def test_the_deepest_document_is_no_chain():
    assert tree("k: " + "[" * 98 + "'${a}'" + "]" * 98 + "\na: 1")


@given(st.lists(st.text(max_size=6), max_size=5), st.text("ab$ {}", max_size=12))
def test_texts_without_a_reference_stay_and_escaped_ones_come_back(parts, text):
    escaped = text.replace("${", "$${")
    document = Document({"list": [part.replace("${", "$ {") for part in parts], "escaped": escaped})
    resolved = interpolate(document).tree
    assert resolved["list"] == document.tree["list"]
    if "$${" not in text:
        assert resolved["escaped"] == text
