"""Passages against what a reader would choose, and their places against the text."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.recipes.retrieval.passages import best_passage, marks

TEXT = (
    "Apples grow on trees. Most of them are red or green. "
    "The Eiffel Tower stands in Paris, and was built for a fair. "
    "Towers are high. Trees are high, too. Paris is a city."
)


def shown(text: str, query: str, **options) -> tuple[str, list[str]]:
    passage = best_passage(text, query, **options)
    return passage.text, [passage.text[start:stop] for start, stop in passage.marks]


def test_the_sentence_with_most_of_the_words_asked_for():
    text, bold = shown(TEXT, "when was the tower in Paris built?", width=60)
    assert text == "The Eiffel Tower stands in Paris, and was built for a fair."
    assert bold == ["The", "Tower", "in", "Paris", "was", "built"]


def test_a_rare_word_counts_more_than_a_frequent_one():
    text = "Cats sleep here. Cats eat here. A dog barks here. Cats run here."
    assert shown(text, "here dog", width=20)[0] == "A dog barks here."
    assert shown(text, "here", width=20)[0] == "Cats sleep here."


def test_no_word_in_common_shows_the_beginning():
    passage = best_passage(TEXT, "zebra", width=25)
    assert passage.text == "Apples grow on trees." and passage.marks == [] and passage.start == 0
    assert passage.after and not passage.before


def test_a_function_may_choose():
    def second(passages):
        return np.array([float(passage.startswith("Most")) for passage in passages])

    passage = best_passage(TEXT, "paris", width=35, scores=second)
    assert passage.text == "Most of them are red or green."
    assert passage.before and passage.after


def test_names_in_code_are_found_by_their_parts():
    code = "import os\n\ndef readFileName(path):\n    return open_file(path)\n"
    text, bold = shown(code, "read a file", width=500)
    assert text == code.strip()
    assert bold == ["readFile", "file"]
    assert marks("readFileName", {"file", "name"}) == [(4, 12)], "neighbours are shown as one"
    assert marks("HTTPServer2", {"server"}) == [(4, 10)]
    assert marks("Größe größe", {"größe"}) == [(0, 5), (6, 11)]


def test_long_pieces_are_cut_between_words_and_words_without_end_anywhere():
    text = "word " * 30
    passage = best_passage(text, "word", width=23)
    assert passage.text == "word word word word"
    assert best_passage("x" * 100, "x", width=30).text == "x" * 30


def test_an_empty_text_is_an_empty_passage():
    for text in ("", "  \n "):
        passage = best_passage(text, "word")
        assert (passage.text, passage.marks, passage.before, passage.after) == ("", [], False, False)


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet="aB1. \n!\u00df\u6771", max_size=120),
    st.text(alphabet="aB1 \u00df", max_size=12),
    st.integers(4, 40),
)
def test_passages_are_parts_of_the_text_within_the_width(text, query, width):
    passage = best_passage(text, query, width=width)
    assert text[passage.start : passage.start + len(passage.text)] == passage.text
    assert len(passage.text) <= width
    assert passage.text == passage.text.strip()
    ends = [0]
    for start, stop in passage.marks:
        assert ends[-1] <= start < stop <= len(passage.text)
        ends.append(stop)
    left = text[passage.start + len(passage.text) :]
    assert passage.after == bool(left.strip())
