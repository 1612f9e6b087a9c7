"""Documents: values, their places and history through every change; problems as people see them."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.config.document import (
    ConfigError,
    Document,
    Mark,
    Origin,
    Place,
    Problem,
    Source,
    SourceText,
    quote,
    sort_problems,
)
from quincunx.config.paths import walk

SOURCE = Source("config.yaml", tuple(f"line {n}" for n in range(1, 100)))


def place(line: int) -> Place:
    return Place(Mark(SOURCE, line, 1), Mark(SOURCE, line, 5))


def made(tree) -> Document:
    """Return a document in which each value stands on a line of its own, in the order of the tree."""
    paths = [(), *(path for path, _ in walk(tree))]
    return Document(tree, {path: place(line) for line, path in enumerate(paths, 1)})


def line_of(document: Document, path) -> int:
    return document.places[path].value.line


def test_offsets_become_lines_and_columns_whatever_ends_the_lines():
    text = SourceText("ab\ncd\r\nef\rgh", "f")
    assert [(text.mark(i).line, text.mark(i).column) for i in (0, 1, 3, 4, 7, 10)] == [
        (1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (4, 1),
    ]  # fmt: skip
    assert text.source.lines == ("ab", "cd", "ef", "gh")


def test_get_and_has_reach_through_lists():
    document = Document({"a": [{"b": None}], "c": {}})
    assert document.has(("a", 0, "b")) and document.get(("a", 0, "b")) is None
    assert not document.has(("a", 1)) and not document.has(("a", -1)) and not document.has(("c", "d", "e"))
    assert not document.has(("a", "0"))
    with pytest.raises(KeyError, match=r"a\[1\]"):
        document.get(("a", 1))


def test_a_mark_is_that_of_the_nearest_ancestor():
    document = made({"a": {"b": 1}})
    del document.places[("a", "b")]
    assert document.mark(("a", "b")) == place(2).key
    assert document.mark(("a", "b"), key=False) == place(2).value
    assert document.mark(("z",)) == place(1).key
    assert Document({}).mark(("z",)) is None


def test_putting_a_value_keeps_what_it_replaces():
    document = made({"a": {"b": 1}})
    document.put(("a", "b"), 2, place(50))
    document.put(("a", "b"), 3, place(60))
    assert document.get(("a", "b")) == 3
    assert document.places[("a", "b")] == place(60)
    assert document.history[("a", "b")] == [Origin(1, place(3)), Origin(2, place(50))]


def test_putting_makes_the_mappings_on_the_way_and_gives_them_the_place():
    document = made({})
    document.put(("a", "b", "c"), 1, place(9))
    assert document.tree == {"a": {"b": {"c": 1}}}
    assert {path: line_of(document, path) for path in document.places if path} == {
        ("a",): 9, ("a", "b"): 9, ("a", "b", "c"): 9,
    }  # fmt: skip


def test_a_scalar_on_the_way_gives_way_and_is_remembered():
    document = made({"a": 1})
    document.put(("a", "b"), 2, place(9))
    assert document.tree == {"a": {"b": 2}}
    assert document.history == {("a",): [Origin(1, place(2))]}
    assert line_of(document, ("a",)) == 9


def test_replacing_a_mapping_forgets_the_places_of_what_was_in_it():
    document = made({"a": {"b": {"c": 1}}, "ab": 2})
    document.put(("a",), 5, place(9))
    assert set(document.places) == {(), ("a",), ("ab",)}
    assert document.history[("a",)] == [Origin({"b": {"c": 1}}, place(2))]


def test_putting_into_lists():
    document = made({"a": [1, {"b": 2}]})
    document.put(("a", 0), 10)
    document.put(("a", 1, "b"), 20)
    document.put(("a", 2, "c"), 30)
    assert document.tree == {"a": [10, {"b": 20}, {"c": 30}]}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ((), "root"),
        (("a", "x"), "a is a list of 2"),
        (("a", 3), "a is a list of 2"),
        (("a", -1), "a is a list of 2"),
        (("b", 0), "b is not a list"),
        (("c", "d", 0), "c.d is not a list"),
        ((0,), "the root is not a list"),
    ],
)
def test_an_impossible_path_is_refused_and_changes_nothing(path, reason):
    document = made({"a": [1, 2], "b": {}})
    before = copy.deepcopy(document)
    with pytest.raises(ValueError, match=reason):
        document.put(path, 1)
    assert document == before


def test_deleting_a_list_item_moves_the_later_ones_up_with_places_and_history():
    document = made({"a": ["x", {"k": "y"}, {"k": "z"}], "b": 1})
    document.put(("a", 2, "k"), "new", place(70))
    document.delete(("a", 0))
    assert document.tree == {"a": [{"k": "y"}, {"k": "new"}], "b": 1}
    assert line_of(document, ("a", 1, "k")) == 70
    assert document.history == {("a", 1, "k"): [Origin("z", place(7))]}
    assert ("a", 2) not in document.places and line_of(document, ("b",)) == 8


def test_deleting_what_is_not_there():
    with pytest.raises(KeyError):
        made({"a": 1}).delete(("b",))
    with pytest.raises(ValueError, match="root"):
        made({"a": 1}).delete(())


def test_grafting_copies_values_places_and_history():
    source = made({"a": {"b": 1}})
    source.put(("a", "b"), 2, place(40))
    document = made({"x": 5})
    document.graft(("x",), source, ("a",))
    assert document.tree == {"x": {"b": 2}}
    assert line_of(document, ("x", "b")) == 40
    assert document.history == {("x",): [Origin(5, place(2))], ("x", "b"): [Origin(1, place(3))]}
    document.put(("x", "b"), 3, place(50))
    assert source.tree == {"a": {"b": 2}}
    assert len(source.history[("a", "b")]) == 1


def test_grafting_within_one_document():
    document = made({"a": {"b": 1}})
    document.graft(("c", "d"), document, ("a",))
    assert document.tree == {"a": {"b": 1}, "c": {"d": {"b": 1}}}
    assert line_of(document, ("c", "d", "b")) == 3


def test_a_copy_shares_nothing_that_can_change():
    document = made({"a": [1, {"b": 2}]})
    document.put(("a", 1, "b"), 3, place(9))
    other = document.copy()
    other.put(("a", 1, "b"), 4, place(10))
    other.delete(("a", 0))
    assert document.tree == {"a": [1, {"b": 3}]}
    assert len(document.history[("a", 1, "b")]) == 1
    assert line_of(document, ("a", 1, "b")) == 9


def test_leaves_are_scalars_lists_and_empty_mappings():
    assert list(Document({"a": {"b": 1, "c": {}}, "d": [{"e": 2}]}).leaves()) == [
        (("a", "b"), 1), (("a", "c"), {}), (("d",), [{"e": 2}]),
    ]  # fmt: skip
    assert list(Document({}).leaves()) == []


trees = st.recursive(
    st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
).map(lambda node: {"root": node})


@given(trees, st.data())
def test_every_value_keeps_its_place_through_deletions(tree, data):
    """Each value is first made the number of the line it stands on; after any deletions they must still agree."""
    document = made(tree)
    for path, value in list(walk(tree)):
        if not isinstance(value, dict | list):
            document.get(path[:-1])[path[-1]] = line_of(document, path)
    for _ in range(data.draw(st.integers(0, 4))):
        present = [path for path, _ in walk(document.tree)]
        if present:
            document.delete(data.draw(st.sampled_from(present)))
    assert set(document.places) == {(), *(path for path, _ in walk(document.tree))}
    for path, value in walk(document.tree):
        if not isinstance(value, dict | list):
            assert line_of(document, path) == value


def test_a_problem_shows_place_line_caret_and_remedy():
    mark = Mark(Source("c.yaml", ("a: 1", "b:  tru")), 2, 5)
    text = Problem("error", ("b",), mark, "not a boolean", "write true").render()
    assert text.splitlines() == [
        "c.yaml:2:5: error: not a boolean",
        "     2 | b:  tru",
        "             ^",
        "    write true",
    ]
    assert Problem("note", (), None, "no place").render() == "note: no place"
    assert Problem("error", (), Mark(Source("gone", ()), 3, 1), "lost").render() == "gone:3:1: error: lost"


@pytest.mark.parametrize("column", [1, 2, 60, 150, 299, 300, 301])
def test_the_caret_stands_under_the_marked_letter_of_a_long_line(column):
    line = "".join(chr(0x100 + n) for n in range(300))
    shown, caret = quote(Mark(Source("f", (line,)), 1, column))
    assert len(shown) < 140
    at = caret.index("^")
    assert shown[at : at + 1] == line[column - 1 : column]


def test_the_caret_counts_terminal_cells_and_control_characters_are_not_passed_on():
    shown, caret = quote(Mark(Source("f", ("\t漢e\u0301\x1b[31m=x",)), 1, 10))
    assert "\x1b" not in shown and "\t" not in shown
    # gutter of 9, then: blank for the tab 1, wide letter 2, e with its accent 1, blank and "[31m" 5
    assert caret.index("^") == 9 + 1 + 2 + 1 + 5


def test_problems_are_sorted_by_place_within_their_source_and_counted():
    first, second = Source("b.yaml", ("x", "y", "z")), Source("a.yaml", ("x",))
    problems = [
        Problem("error", (), Mark(first, 3, 1), "third"),
        Problem("error", (), None, "last"),
        Problem("error", (), Mark(second, 1, 1), "fourth"),
        Problem("warning", (), Mark(first, 1, 2), "second"),
        Problem("error", (), Mark(first, 1, 1), "first"),
    ]
    assert [p.message for p in sort_problems(problems)] == ["first", "second", "third", "fourth", "last"]
    error = ConfigError(problems)
    assert error.exit_code == 2
    assert str(error).endswith("4 errors; nothing was run or written.")
    assert str(ConfigError(problems[:1])).endswith("1 error; nothing was run or written.")


def test_a_config_error_survives_the_way_between_processes():
    error = ConfigError([Problem("error", ("a",), Mark(SOURCE, 1, 1), "wrong", "repair")])
    restored = pickle.loads(pickle.dumps(error))
    assert restored.problems == error.problems and str(restored) == str(error)
