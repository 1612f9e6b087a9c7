"""Tokenizers of the transformers library, cut, prompted and recognised again."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.errors import UsageError
from quincunx.nn.pretrained import train_tokenizer
from quincunx.recipes.retrieval.data.texts import Texts
from quincunx.recipes.retrieval.data.tokenised import KeptTokens
from quincunx.recipes.retrieval.data.tokenizing import PairSide, PairTokenizer, TextTokenizer
from small_encoders import SENTENCES

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", "a", "b", "c", "d", "e"]
PAD, UNK, CLS, SEP, QUERY, A, B, C, D, E = range(10)


def tokenizer(words: list[str] = WORDS, **settings: Any) -> Any:
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    special: dict[str, Any] = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    special["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **{**special, **settings})


def fingerprint(made: Any) -> str:
    return TextTokenizer(made, 9).request["tokenizer"]


def ids(found) -> list[list[int]]:
    return [tokens.tolist() for tokens in found]


def test_texts_are_cut_with_their_special_tokens_kept():
    tokenize = TextTokenizer(tokenizer(), 5)
    assert ids(tokenize(["a b", "a b c d e", "", "zebra"])) == [
        [CLS, A, B, SEP],
        [CLS, A, B, C, SEP],
        [CLS, SEP],
        [CLS, UNK, SEP],
    ]
    assert ids(TextTokenizer(tokenizer(), 5, truncate="left")(["a b c d e"])) == [[CLS, C, D, E, SEP]]
    assert ids(TextTokenizer(tokenizer(), 5, prompt="query ")(["a b c d"])) == [[CLS, QUERY, A, B, SEP]]
    assert tokenize([]) == []
    assert tokenize.padding == PAD


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize("truncate", ["right", "left"])
@pytest.mark.parametrize("limit", [3, 8, 100])
def test_texts_are_cut_as_the_library_cuts_them(kind, truncate, limit):
    made = train_tokenizer(SENTENCES, vocabulary=320, kind=kind)
    made.truncation_side = truncate
    texts = [*SENTENCES, "", "x", "the " * 40]
    found = TextTokenizer(made, limit, truncate=truncate)(texts)
    assert ids(found) == made(texts, truncation=True, max_length=limit)["input_ids"]
    assert all(tokens.dtype == np.int32 for tokens in found)
    if truncate == "right":
        asked = TextTokenizer(made, limit, prompt="query: ")(texts)
        assert ids(asked) == made([f"query: {text}" for text in texts], truncation=True, max_length=limit)["input_ids"]


def test_the_callers_tokenizer_stays_as_it_is():
    """Two sides share one, cut on different sides."""
    shared = tokenizer()
    before = shared.backend_tokenizer.to_str()
    left, right = TextTokenizer(shared, 4, truncate="left"), TextTokenizer(shared, 5)
    assert ids(left(["a b c d"])) == [[CLS, C, D, SEP]]
    assert ids(right(["a b c d"])) == [[CLS, A, B, C, SEP]]
    assert ids(left(["a b c d"])) == [[CLS, C, D, SEP]]
    assert shared.backend_tokenizer.to_str() == before
    assert shared.truncation_side == "right"


def test_a_fingerprint_changes_with_what_decides_the_tokens_and_with_nothing_else():
    known = tokenizer()
    print_ = fingerprint(known)
    assert fingerprint(tokenizer()) == print_
    known(["a b c"], truncation=True, max_length=3, padding="max_length")
    assert fingerprint(known) == print_, "how it was called is no part of it"
    others = [tokenizer([*WORDS, "f"]), tokenizer([*WORDS[:-2], "e", "d"]), tokenizer(pad_token="[UNK]")]
    lower = tokenizer()
    lower.backend_tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    added = tokenizer()
    added.add_special_tokens({"additional_special_tokens": ["[DOC]"]})
    framed = tokenizer()
    framed.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    assert len({print_, *map(fingerprint, [*others, lower, added, framed])}) == 7


def test_a_request_holds_what_decides_the_tokens():
    first = TextTokenizer(tokenizer(), 9)
    others = {"max_length": 8, "prompt": "query ", "truncate": "left"}
    for name, value in others.items():
        found = TextTokenizer(tokenizer(), **{"max_length": 9, name: value}).request
        assert found == {**first.request, name: value}
    assert json.loads(json.dumps(first.request)) == first.request


def test_another_tokenizer_makes_another_cached_set(tmp_path):
    texts = Texts.of(["x", "y"], ["a b", "d e"])
    notes: list[str] = []
    first = KeptTokens(texts, TextTokenizer(tokenizer(), 9), tmp_path, "documents", notes)
    other = KeptTokens(texts, TextTokenizer(tokenizer([*WORDS[:-2], "e", "d"]), 9), tmp_path, "documents", notes)
    assert ids(first.many([1])) == [[CLS, D, E, SEP]]
    assert ids(other.many([1])) == [[CLS, E, D, SEP]]
    assert first.file.path != other.file.path
    assert KeptTokens(texts, TextTokenizer(tokenizer(), 9), tmp_path, "documents", notes).file.path == first.file.path
    assert notes == []


def test_pairs_are_one_sequence_and_the_longer_text_is_cut_first():
    tokenize = PairTokenizer(tokenizer(), 8)
    tokens, types = tokenize(["a", "a b"], ["b c", "c d e a b c d"])
    assert ids(tokens) == [[CLS, A, SEP, B, C, SEP], [CLS, A, B, SEP, C, D, E, SEP]]
    assert types is not None
    assert ids(types) == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1, 1]]
    asked = PairTokenizer(tokenizer(), 8, query=PairSide("query "))
    assert ids(asked(["a"], ["b"])[0]) == [[CLS, QUERY, A, SEP, B, SEP]]
    plain = PairTokenizer(tokenizer(model_input_names=["input_ids"]), 8)
    assert plain(["a"], ["b"])[1] is None
    assert plain([], []) == ([], None)
    assert tokenize([], []) == ([], [])


def test_texts_of_a_pair_get_what_they_would_alone():
    sides = {"query": PairSide("query ", 5), "document": PairSide(max_length=4, truncate="left")}
    tokens, types = PairTokenizer(tokenizer(), 20, **sides)(["a b c d", "e"], ["a b c d", "e"])
    # alone the query would have 5 tokens, the document 4, special ones among them
    assert ids(tokens) == [[CLS, QUERY, A, B, SEP, C, D, SEP], [CLS, QUERY, E, SEP, E, SEP]]
    assert types is not None
    assert ids(types) == [[0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1]]
    alone = [TextTokenizer(tokenizer(), 5, prompt="query "), TextTokenizer(tokenizer(), 4, truncate="left")]
    assert [len(tokenize(["a b c d"])[0]) for tokenize in alone] == [5, 4]
    both = PairTokenizer(tokenizer(), 9, query=PairSide(truncate="left"), document=PairSide())
    assert ids(both(["a b c d e"], ["a b c d e"])[0]) == [[CLS, C, D, E, SEP, A, B, C, SEP]], "each on its own side"


def test_tokenizers_go_to_other_processes():
    text, pair = TextTokenizer(tokenizer(), 4, truncate="left"), PairTokenizer(tokenizer(), 6)
    text_there, pair_there = pickle.loads(pickle.dumps((text, pair)))
    assert ids(text_there(["a b c"])) == [[CLS, B, C, SEP]]
    assert ids(pair_there(["a b c"], ["d e"])[0]) == [[CLS, A, B, SEP, D, SEP]]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_pairs_are_cut_as_the_library_cuts_them(data):
    """Where both texts are cut on the right and only the pair is limited."""
    words = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "zebra"]), max_size=12).map(" ".join)
    pairs = data.draw(st.lists(st.tuples(words, words), min_size=1, max_size=5))
    most, known = data.draw(st.integers(5, 16)), tokenizer()
    queries, documents = (list(side) for side in zip(*pairs, strict=True))
    wanted = known(queries, documents, truncation="longest_first", max_length=most)
    tokens, types = PairTokenizer(tokenizer(), most)(queries, documents)
    assert ids(tokens) == wanted["input_ids"]
    assert types is not None and ids(types) == wanted["token_type_ids"]


def test_special_tokens_of_a_pair_keep_their_types():
    """XLNet, for one, ends in a token of a third type."""
    odd = tokenizer()
    odd.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A [SEP] [CLS]:2",
        pair="$A [SEP] $B:1 [SEP]:1 [CLS]:2",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    tokens, types = PairTokenizer(odd, 9)(["a b"], ["c"])
    assert ids(tokens) == [[A, B, SEP, C, SEP, CLS]]
    assert types is not None and ids(types) == [[0, 0, 0, 1, 1, 2]]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TextTokenizer(tokenizer(), 2), "leaves no room beside 2 special tokens"),
        (lambda: TextTokenizer(tokenizer(pad_token=None), 9), "has no padding token"),
        (lambda: TextTokenizer(transformers.ByT5Tokenizer(), 9), "ByT5Tokenizer has no fast form .* choose an encoder"),
        (lambda: PairTokenizer(transformers.ByT5Tokenizer(), 9), "ByT5Tokenizer has no fast form .* choose an encoder"),
        (lambda: TextTokenizer(tokenizer(), 9, prompt="query ", truncate="left"), "would lose their prompt"),
        (lambda: PairTokenizer(tokenizer(), 4), "no room for two texts beside 3 special tokens"),
        (lambda: PairTokenizer(tokenizer(pad_token=None), 9), "has no padding token"),
        (lambda: PairTokenizer(tokenizer(), 9, query=PairSide(max_length=2)), "query.max_length 2 leaves no room"),
        (lambda: PairTokenizer(tokenizer(), 9, document=PairSide("x", truncate="left")), "would lose document.prompt"),
    ],
)
def test_what_cannot_work_is_refused(make, says):
    with pytest.raises(UsageError, match=says):
        make()
