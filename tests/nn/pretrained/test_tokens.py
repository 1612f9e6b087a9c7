"""Texts to arrays of bare ids, the special tokens round one text and two, and what tells tokenizers apart."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the transformers library is not installed")

import tokenizers
from tokenizers.processors import TemplateProcessing

from quincunx.errors import UsageError
from quincunx.nn.pretrained import Tokens, train_tokenizer
from small_encoders import SENTENCES, tokenizer

TEXTS = [*SENTENCES, "", "x", "the " * 40]


def lists(arrays: Any) -> list[list[int]]:
    return [part.tolist() for part in arrays]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_bare_ids_are_those_of_the_tokenizer(kind):
    made = train_tokenizer(SENTENCES, vocabulary=320, kind=kind)
    found = Tokens(made).bare(TEXTS)
    assert lists(found) == made(TEXTS, add_special_tokens=False)["input_ids"]
    assert all(ids.dtype == np.int32 for ids in found) and found[5].size == 0 and found[7].size > 30
    assert Tokens(made).bare([]) == []


def test_how_the_tokenizer_is_used_makes_no_difference_and_is_left_as_it_is():
    made = train_tokenizer(SENTENCES, vocabulary=150)
    made(TEXTS, truncation=True, max_length=4, padding="max_length")
    state = made.backend_tokenizer.to_str()
    tokens = Tokens(made)
    before, print_before = lists(tokens.bare(TEXTS)), tokens.fingerprint
    assert made.backend_tokenizer.to_str() == state
    assert made.backend_tokenizer.truncation is not None and made.backend_tokenizer.padding is not None
    made.add_tokens(["quick brown"])
    assert lists(tokens.bare(TEXTS)) == before and max(map(len, before)) > 4
    assert tokens.fingerprint == print_before == Tokens(train_tokenizer(SENTENCES, vocabulary=150)).fingerprint


def test_the_fingerprint_tells_tokenizers_apart():
    made = {
        Tokens(train_tokenizer(SENTENCES, **options)).fingerprint
        for options in (
            {"vocabulary": 150},
            {"vocabulary": 149},
            {"vocabulary": 150, "lowercase": False},
            {"vocabulary": 150, "special_tokens": ["<a>"]},
            {"vocabulary": 400, "kind": "bpe"},
        )
    }
    assert len(made) == 5


def test_special_tokens_written_in_a_text_are_read_as_the_tokenizer_says_in_every_process():
    made = train_tokenizer(SENTENCES, vocabulary=150)
    text = "a [SEP] b"
    one = Tokens(made)
    made.split_special_tokens = True
    other = Tokens(made)
    assert 2 in one.bare([text])[0] and 2 not in other.bare([text])[0]
    assert lists(pickle.loads(pickle.dumps(other)).bare([text])) == lists(other.bare([text]))
    assert one.fingerprint != other.fingerprint


def test_the_form_of_pairs_is_the_tokenizers():
    tokens, made = Tokens(tokenizer()), tokenizer()
    for query, document in zip(SENTENCES[:3], SENTENCES[2:], strict=True):
        first, second = tokens.bare([query, document])
        expected = made(query, document)
        assert tokens.pair.tokens(first, second).tolist() == expected["input_ids"]
        assert tokens.pair.types(len(first), len(second)).tolist() == expected["token_type_ids"]
    assert tokens.pair.size == 3 and tokens.pair.types(0, 0).dtype == np.int32


def test_other_templates_are_read_from_the_tokenizer():
    made = train_tokenizer(SENTENCES, vocabulary=150)
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="[MASK] $A",
        pair="[MASK]:3 $A:1 [SEP] [SEP]:2 $B:5 [CLS]:4",
        special_tokens=[("[MASK]", 4), ("[SEP]", 2), ("[CLS]", 0)],
    )
    tokens = Tokens(made)
    assert tokens.prefix.tolist() == [4] and tokens.suffix.tolist() == []
    assert lists(tokens.pair.special) == [[4], [2, 2], [0]] and tokens.pair.size == 4
    assert lists(tokens.pair.special_types) == [[3], [0, 2], [4]] and tokens.pair.text_types == [1, 5]
    assert tokens.pair.types(1, 2).tolist() == [3, 1, 0, 2, 5, 5, 4]


def byte_pairs(vocabulary: dict[str, int]) -> Any:
    from transformers import PreTrainedTokenizerFast

    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    backend.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_the_special_tokens_are_found_where_the_tokenizer_knows_no_latin_letter():
    tokens = Tokens(byte_pairs({"<s>": 0, "</s>": 1, "水": 2}))
    assert lists(tokens.bare(["水水", "a"])) == [[2, 2], []]
    assert tokens.prefix.tolist() == [0] and tokens.suffix.tolist() == [1]
    assert lists(tokens.pair.special) == [[0], [1], [1]]


def test_tokenizers_that_cannot_be_used_are_refused():
    from transformers import ByT5Tokenizer

    with pytest.raises(UsageError, match=r"ByT5Tokenizer has no fast form \(a tokenizer.json\).*choose an encoder"):
        Tokens(ByT5Tokenizer())
    with pytest.raises(UsageError, match="makes no token of any text"):
        Tokens(byte_pairs({}))
