"""Tokenizers of the transformers library, cut, prompted and recognised again."""

from __future__ import annotations

from typing import Any

import pytest

from quincunx.errors import UsageError
from quincunx.recipes.retrieval.data.texts import Texts
from quincunx.recipes.retrieval.data.tokenised import KeptTokens
from quincunx.recipes.retrieval.data.tokenizing import PairTokenizer, TextTokenizer, tokenizer_fingerprint

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
    print_ = tokenizer_fingerprint(known)
    assert tokenizer_fingerprint(tokenizer()) == print_
    known(["a b c"], truncation=True, max_length=3, padding="max_length")
    assert tokenizer_fingerprint(known) == print_, "how it was called is no part of it"
    others = [tokenizer([*WORDS, "f"]), tokenizer([*WORDS[:-2], "e", "d"]), tokenizer(pad_token="[UNK]")]
    lower = tokenizer()
    lower.backend_tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    added = tokenizer()
    added.add_special_tokens({"additional_special_tokens": ["[DOC]"]})
    assert len({print_, *map(tokenizer_fingerprint, [*others, lower, added])}) == 6


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
    assert ids(PairTokenizer(tokenizer(), 8, prompt="query ")(["a"], ["b"])[0]) == [[CLS, QUERY, A, SEP, B, SEP]]
    plain = PairTokenizer(tokenizer(model_input_names=["input_ids"]), 8)
    assert plain(["a"], ["b"])[1] is None
    assert plain([], []) == ([], None)
    assert tokenize([], []) == ([], [])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TextTokenizer(tokenizer(), 2), "leaves no room beside 2 special tokens"),
        (lambda: TextTokenizer(tokenizer(pad_token=None), 9), "has no padding token"),
        (lambda: TextTokenizer(tokenizer(), 9, prompt="query ", truncate="left"), "would lose their prompt"),
        (lambda: PairTokenizer(tokenizer(), 4), "no room for two texts beside 3 special tokens"),
        (lambda: PairTokenizer(tokenizer(pad_token=None), 9), "has no padding token"),
    ],
)
def test_what_cannot_work_is_refused(make, says):
    with pytest.raises(UsageError, match=says):
        make()
