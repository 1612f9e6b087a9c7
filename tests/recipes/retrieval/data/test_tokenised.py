"""Tokens of texts, made when asked, kept in a file or given: the same ones, and whole or not at all."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.errors import DataError, UsageError
from quincunx.recipes.retrieval.data.texts import Texts, TokenTexts
from quincunx.recipes.retrieval.data.tokenised import GivenTokens, KeptTokens, LazyTokens, tokenised
from retrieval_sets import END, START, Letters

WORDS = ["one", "", "three", "a much longer text", "ünï", "one"]


def texts(words=WORDS) -> Texts:
    return Texts.of([f"d{i}" for i in range(len(words))], words)


def kept(folder: Path, words=WORDS, tokenize=None) -> tuple[KeptTokens, list[str]]:
    found, notes = tokenised(texts(words), tokenize or Letters(), cache=folder, name="documents")
    assert isinstance(found, KeptTokens)
    return found, notes


def plain(found, indices) -> list[list[int]]:
    return [tokens.tolist() for tokens in found.many(indices)]


@given(st.lists(st.text("abcß ", max_size=15), min_size=1, max_size=8), st.data())
def test_kept_and_lazy_tokens_are_the_same(tmp_path_factory, words, data):
    folder = tmp_path_factory.mktemp("cache")
    indices = data.draw(st.lists(st.integers(0, len(words) - 1), max_size=10))
    wanted = [tokens.tolist() for tokens in Letters()([words[i] for i in indices])] if indices else []
    for _ in range(2):
        found, notes = kept(folder, words)
        assert plain(found, indices) == wanted
        assert found.lengths.tolist() == [len(tokens) for tokens in Letters()(words)]
        assert notes == []
    lazy, _ = tokenised(texts(words), Letters())
    assert plain(lazy, indices) == wanted
    assert [lazy.tokens(i).tolist() for i in indices] == wanted


def test_a_kept_set_is_not_made_again(tmp_path):
    kept(tmp_path)
    again = Letters()
    found, _ = kept(tmp_path, tokenize=again)
    assert again.calls == []
    assert (found.exact, len(list(tmp_path.iterdir()))) == (True, 1)
    assert found.file.path.name.startswith("documents-")


@pytest.mark.parametrize(
    "changed",
    [
        {"max_length": 9},
        {"prompt": "query: "},
        {"truncate": "left"},
        {"words": [*WORDS[:-1], "two"]},
        {"words": WORDS[::-1]},
    ],
)
def test_everything_that_enters_makes_another_set(tmp_path, changed):
    kept(tmp_path)
    words = changed.pop("words", WORDS)
    found, _ = kept(tmp_path, words, Letters(**changed))
    assert len(list(tmp_path.iterdir())) == 2
    assert plain(found, range(6)) == [tokens.tolist() for tokens in Letters(**changed)(words)]


def test_no_texts_and_no_tokens(tmp_path):
    found, _ = kept(tmp_path, [])
    assert (found.lengths.tolist(), found.many([])) == ([], [])

    class Silent(Letters):
        def __call__(self, texts):
            return [np.zeros(0, np.int32) for _ in texts]

    found, _ = kept(tmp_path, ["a", "b"], Silent(max_length=7))
    assert plain(found, [1, 0]) == [[], []]


@pytest.mark.parametrize("fault", ["cut", "flipped", "counts", "other", "empty", "text"])
def test_a_damaged_file_is_noticed_and_made_anew(tmp_path, fault):
    found, _ = kept(tmp_path)
    path, wanted = found.file.path, plain(found, range(6))
    content = bytearray(path.read_bytes())
    if fault == "cut":
        content = content[: len(content) // 2]
    elif fault == "flipped":
        content[found.file.start + 5] ^= 1
    elif fault == "counts":
        content[content.index(b"counts") + 30] ^= 1
    elif fault == "other":
        other, _ = kept(tmp_path, ["x"])
        content = bytearray(other.file.path.read_bytes())
    elif fault == "empty":
        content = bytearray()
    else:
        content = bytearray(b"no archive at all")
    path.write_bytes(content)
    again, notes = kept(tmp_path)
    assert notes == [f"{path} is damaged; the texts are tokenized anew."]
    assert plain(again, range(6)) == wanted
    assert kept(tmp_path)[1] == []


def test_nothing_half_written_is_left_when_tokenizing_fails(tmp_path):
    class Failing(Letters):
        def __call__(self, texts):
            raise RuntimeError("no tokens today")

    with pytest.raises(RuntimeError, match="no tokens today"):
        kept(tmp_path, tokenize=Failing())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"file: .*data\.cache or the environment variable QUINCUNX_CACHE"):
        kept(tmp_path / "file")


def _build(folder: Path, barrier, out) -> None:
    tokenize = Letters()
    barrier.wait(30)
    found, notes = tokenised(texts(["word " * 3] * 3000), tokenize, cache=folder)
    out.put((sum(tokenize.calls), int(found.lengths.sum()), notes))


def test_two_processes_make_it_once(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, out = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_build, args=(tmp_path, barrier, out)) for _ in range(2)]
    for process in processes:
        process.start()
    found = sorted(out.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(30)
    assert found == [(0, 3000 * 12, []), (3000, 3000 * 12, [])]


def test_kept_tokens_reach_another_process_by_name(tmp_path):
    """So that a worker maps the file and no copy of it is sent."""
    found, _ = kept(tmp_path, ["some words"] * 2000)
    sent = pickle.dumps(found.file)
    assert len(sent) < 2000 * 4 + 1000
    assert pickle.loads(sent)[7].tolist() == found.tokens(7).tolist()


def test_lazy_tokens_remember_the_latest_texts_only():
    tokenize = Letters()
    lazy = LazyTokens(texts(), tokenize, keep=2)
    lazy.many([0, 2, 0])
    assert tokenize.calls == [2], "one call, each text once"
    lazy.many([2, 0])
    assert tokenize.calls == [2, 0]
    lazy.many([3])
    lazy.many([0])
    assert tokenize.calls == [2, 0, 1, 0]
    lazy.many([2])
    assert tokenize.calls[-1] == 1, "the one that was not asked for longest is forgotten"
    assert len(lazy._recent) == 2
    assert len(pickle.loads(pickle.dumps(lazy))._recent) == 0, "a worker begins with none"
    assert [len(tokens) for tokens in lazy.many(range(6))] == [5, 2, 7, 12, 5, 5]


def test_lazy_lengths_are_estimated_from_bytes():
    words = ["x" * n for n in (0, 1, 5, 8, 30, 2)]
    lazy = LazyTokens(texts(words), Letters())
    assert not lazy.exact
    assert lazy.lengths.tolist() == [2, 3, 7, 10, 12, 4], "one token a letter, as the sample shows"
    cut = LazyTokens(texts(["x" * 40, "x" * 80]), Letters())
    assert cut.lengths.tolist() == [12, 12]
    assert LazyTokens(texts(["", ""]), Letters()).lengths.tolist() == [2, 2]
    many = LazyTokens(texts(["x" * (i % 9) for i in range(900)]), tokenize := Letters())
    assert many.lengths[:18].tolist() == [2 + i % 9 for i in range(18)]
    assert sum(tokenize.calls) < 300, "a sample tells"


def test_given_tokens_are_cut_and_keep_their_ends():
    given_texts = TokenTexts.of(["a", "b"], [[START, 5, 6, 7, END], [START, END]])
    found, notes = tokenised(given_texts, Letters(max_length=4))
    assert isinstance(found, GivenTokens)
    assert notes == []
    assert plain(found, [1, 0]) == [[START, END], [START, 5, 6, END]]
    assert (found.lengths.tolist(), found.exact) == ([4, 2], True)
    left = GivenTokens(given_texts, Letters(max_length=4, truncate="left"))
    assert left.tokens(0).tolist() == [START, 6, 7, END]
    for truncate, wanted in (("left", [START]), ("right", [END])):
        assert GivenTokens(given_texts, Letters(max_length=1, truncate=truncate)).tokens(0).tolist() == wanted
    with pytest.raises(UsageError, match="'query: ' cannot be put before texts that were tokenized beforehand"):
        tokenised(given_texts, Letters(prompt="query: "))
