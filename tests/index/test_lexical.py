"""BM25 against its formula, and what counts as a word."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quincunx.errors import RunError
from quincunx.index.exact import NOTHING
from quincunx.index.lexical import Lexical, words

TEXTS = [
    "the cat sat on the mat",
    "a dog and a cat",
    "def read_file(path): return open(path).read()",
    "",
    "dogs bark, and the cat readFileName mat mat",
]


def test_words_of_prose_and_of_code():
    assert words("The Cat's mat, 2nd!") == ["the", "cat", "s", "mat", "2nd", "2", "nd"]
    assert words("readFileName read_file HTTPServer2") == [
        *("readfilename", "read", "file", "name"),
        *("read", "file"),
        *("httpserver2", "http", "server", "2"),
    ]
    assert words("Größe ΑΒΓ 東京") == ["größe", "αβγ", "東京"]


def by_hand(query: str, k1: float, b: float) -> list[float]:
    """Lucene's BM25, written out."""
    documents = [words(text) for text in TEXTS]
    mean = sum(map(len, documents)) / len(documents)
    totals = []
    for document in documents:
        total = 0.0
        for word in words(query):
            holding = sum(word in other for other in documents)
            count = document.count(word)
            weight = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
            if count:
                total += weight * count / (count + k1 * (1 - b + b * len(document) / mean))
        totals.append(total)
    return totals


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.5, 0.75)])
@pytest.mark.parametrize("query", ["cat mat", "read file", "the dog", "mat"])
def test_scores_are_those_of_the_formula(query, k1, b):
    found = Lexical(TEXTS, k1=k1, b=b).search([query], len(TEXTS))
    wanted = np.array(by_hand(query, k1, b))
    order = [d for d in np.argsort(-wanted, kind="stable").tolist() if wanted[d] > 0]
    assert [d for d in found.documents[0].tolist() if d != NOTHING] == order
    np.testing.assert_allclose(found.scores[0, : len(order)], wanted[order], rtol=1e-5)


def test_what_shares_no_word_is_not_found():
    found = Lexical(TEXTS).search(["zebra", ""], 3)
    assert (found.documents == NOTHING).all()
    assert (Lexical(["", " "]).search(["cat"], 2).documents == NOTHING).all()


def test_a_saved_index_finds_the_same(tmp_path):
    made = Lexical(TEXTS, k1=1.2, b=0.75)
    made.save(tmp_path / "words.safetensors", "these")
    opened = Lexical.open(tmp_path / "words.safetensors", "these")
    queries = ["cat mat", "READ file", "", "unicorn", "\u6771\u4eac dog"]
    before, after = (index.search(queries, 4) for index in (made, opened))
    assert (before.documents == after.documents).all() and (before.scores == after.scores).all()
    assert (opened.count, opened.k1, opened.b) == (len(TEXTS), 1.2, 0.75)


@pytest.mark.parametrize("texts", [[], ["", "?!"]])
def test_a_saved_index_without_words_finds_nothing(tmp_path, texts):
    Lexical(texts).save(tmp_path / "words.safetensors")
    opened = Lexical.open(tmp_path / "words.safetensors")
    assert (opened.search(["cat"], 2).documents == NOTHING).all()
    assert opened.count == len(texts)


def test_a_damaged_index_or_one_of_other_documents_is_refused(tmp_path):
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "words.safetensors"
    with pytest.raises(RunError, match="cannot be read"):
        Lexical.open(path)
    Lexical(TEXTS).save(path, "these")
    with pytest.raises(RunError, match="other documents"):
        Lexical.open(path, "those")
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(RunError, match="cannot be read"):
        Lexical.open(path)
    path.write_bytes(whole)
    arrays = load_file(path)
    arrays["indices"][0] = 99
    facts = {"format": "1", "key": "these", "count": "5", "k1": "0.9", "b": "0.4"}
    save_file(arrays, path, facts)
    with pytest.raises(RunError, match="do not fit"):
        Lexical.open(path, "these")
    save_file(arrays, path, {**facts, "format": "0"})
    with pytest.raises(RunError, match="format 1"):
        Lexical.open(path)
