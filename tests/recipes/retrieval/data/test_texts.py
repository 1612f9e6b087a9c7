from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.errors import DataError
from quincunx.recipes.retrieval.data.texts import Strings, StringsBuilder, Texts, TokenTexts, content_hash

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(ANY_TEXT))
def test_strings_are_a_sequence_of_what_went_in(texts: list[str]):
    strings = Strings.of(texts)
    assert list(strings) == texts
    assert list(strings[1:]) == texts[1:] and list(strings[::-1]) == texts[::-1]
    assert [strings[n] for n in range(-len(texts), 0)] == texts
    assert strings.hashes.tolist() == [content_hash(text.encode()) for text in texts]


@given(st.lists(ANY_TEXT), st.lists(ANY_TEXT))
def test_looking_up_finds_the_first_or_nothing(texts: list[str], wanted: list[str]):
    strings, asked = Strings.of(texts), texts + wanted
    found = strings.indices_of(Strings.of(asked)).tolist()
    assert found == [texts.index(text) if text in texts else -1 for text in asked]
    expected = [(texts.index(text), n) for n, text in enumerate(texts) if texts.index(text) != n]
    assert strings.repeats() == expected


def test_a_string_beyond_the_last_is_an_error():
    strings = Strings.of(["a", "b"])
    for index in (2, -3):
        with pytest.raises(IndexError, match="of 2"):
            strings[index]
    with pytest.raises(KeyError, match="c"):
        strings.index_of("c")
    with pytest.raises(KeyError):
        Strings.of([]).index_of("c")
    assert (strings.index_of("b"), len(Strings.of([]))) == (1, 0)


def test_the_hash_of_a_text_is_that_of_its_bytes():
    expected = int.from_bytes(blake2b("grüße".encode(), digest_size=8).digest(), "little")
    assert Texts.of(["a"], ["grüße"]).hashes.tolist() == [expected]
    assert Texts.of(["a"], ["grüße"]).hashes.dtype == np.uint64


def test_hashes_are_the_same_however_many_are_taken_at_once(monkeypatch):
    texts = [f"text {n}" for n in range(11)]
    whole = Strings.of(texts).hashes
    monkeypatch.setattr("quincunx.recipes.retrieval.data.texts._AT_ONCE", 4)
    assert Strings.of(texts).hashes.tolist() == whole.tolist()


def test_strings_may_lie_in_a_file(tmp_path):
    strings = Strings.of(["eins", "", "zwölf"])
    (tmp_path / "flat").write_bytes(strings.flat.tobytes())
    mapped = Strings(np.memmap(tmp_path / "flat", np.uint8, "r"), strings.offsets)
    assert list(mapped) == ["eins", "", "zwölf"] and mapped.index_of("zwölf") == 2
    assert list(mapped.pick(np.array([2, 0]))) == ["zwölf", "eins"]


def test_a_builder_gives_what_it_was_given_and_is_then_closed():
    builder = StringsBuilder()
    builder.add(b"a")
    builder.add("ü".encode())
    strings = builder.strings()
    assert (list(strings), len(builder)) == (["a", "ü"], 2)
    with pytest.raises(BufferError):
        builder.add(b"c")


def test_ids_are_strings_whatever_they_look_like():
    """Guide 001's package turned numeric ones into numbers: 007 fell on 7, and the digit ² raised an error."""
    texts = Texts.of(["007", "7", "²", "16777217", "16777216", "7.0", "NA"], list("abcdefg"))
    for place, name in enumerate(["007", "7", "²", "16777217", "16777216", "7.0", "NA"]):
        assert texts.index_of(name) == place
        assert texts.ids[place] == name


def test_ids_that_are_not_distinct_are_an_error_that_names_both_places():
    with pytest.raises(DataError, match=r"'b', of texts 2 and 4"):
        Texts.of(["a", "b", "c", "b"], list("wxyz"))
    with pytest.raises(DataError, match="id of text 2 is empty"):
        Texts.of(["a", ""], ["x", "y"])
    with pytest.raises(DataError, match="3 ids for 2 texts"):
        Texts.of(["a", "b", "c"], ["x", "y"])
    with pytest.raises(DataError, match="of texts 1 and 2"):
        TokenTexts.of(["a", "a"], [[1], [2]])


def test_texts_are_picked_with_their_ids():
    texts = Texts.of(["a", "b", "c"], ["x", "yy", "zzz"]).pick(np.array([2, 0]))
    assert (list(texts.ids), list(texts.contents), texts.sizes.tolist()) == (["c", "a"], ["zzz", "x"], [3, 1])
    assert (texts.text(0), texts.index_of("a")) == ("zzz", 1)


def test_texts_of_token_ids_have_the_same_use():
    tokens = TokenTexts.of(["a", "b", "c"], [[5, 6, 7], [8], [5, 6, 7]])
    assert [tokens.tokens(n).tolist() for n in (0, 1, -1)] == [[5, 6, 7], [8], [5, 6, 7]]
    assert tokens.tokens(0).dtype == np.int32
    assert tokens.hashes[0] == tokens.hashes[2] != tokens.hashes[1]
    assert tokens.hashes[1] == content_hash((8).to_bytes(4, "little"))
    assert (tokens.text(1), tokens.index_of("b"), tokens.sizes.tolist()) == (None, 1, [3, 1, 3])
    picked = tokens.pick(np.array([1, 0]))
    assert [picked.tokens(n).tolist() for n in range(2)] == [[8], [5, 6, 7]]
    for index in (3, -4):
        with pytest.raises(IndexError):
            tokens.tokens(index)
