"""Texts to arrays of ids: what the tokenizer itself would give, its state untouched; and pairs."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.errors import UsageError
from quincunx.nn.pretrained import Tokens, train_tokenizer
from small_encoders import SENTENCES, tokenizer

TEXTS = [*SENTENCES, "", "x", "the " * 40]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize("truncate", ["right", "left"])
@pytest.mark.parametrize("limit", [3, 8, 100])
def test_ids_are_those_of_the_tokenizer(kind, truncate, limit):
    made = train_tokenizer(SENTENCES, vocabulary=320, kind=kind)
    made.truncation_side = truncate
    found = Tokens(made).tokenize(TEXTS, max_length=limit, truncate=truncate)
    expected = made(TEXTS, truncation=True, max_length=limit)["input_ids"]
    assert [ids.tolist() for ids in found] == expected
    assert all(ids.dtype == np.int32 and ids[0] == 0 and ids[-1] == 2 for ids in found)


def test_the_prompt_is_written_before_each_text():
    tokens = Tokens(tokenizer())
    found = tokens.tokenize(["the fox", "a dog"], max_length=24, prompt="query: ")
    assert [ids.tolist() for ids in found] == tokenizer()(["query: the fox", "query: a dog"])["input_ids"]
    with pytest.raises(UsageError, match="lose their prompt"):
        tokens.tokenize(["a"], max_length=9, prompt="query: ", truncate="left")


def test_how_the_tokenizer_was_used_before_makes_no_difference_and_is_left_as_it_was():
    made = train_tokenizer(SENTENCES, vocabulary=150)
    tokens = Tokens(made)
    before, print_before = tokens.tokenize(TEXTS, max_length=50), tokens.fingerprint
    made(TEXTS, truncation=True, max_length=4, padding="max_length")
    state = made.backend_tokenizer.truncation, made.backend_tokenizer.padding
    assert state[0] is not None and state[1] is not None
    assert all(np.array_equal(*both) for both in zip(tokens.tokenize(TEXTS, max_length=50), before, strict=True))
    assert (made.backend_tokenizer.truncation, made.backend_tokenizer.padding) == state
    assert tokens.fingerprint == print_before


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


def test_no_room_is_an_error():
    with pytest.raises(UsageError, match="leaves no room beside 2 special tokens"):
        Tokens(tokenizer()).tokenize(["a"], max_length=2)


def test_pairs_are_those_of_the_tokenizer_when_they_fit():
    tokens, made = Tokens(tokenizer()), tokenizer()
    queries, documents = SENTENCES[:3], SENTENCES[2:]
    for one, other in zip(zip(queries, documents, strict=True), range(3), strict=True):
        query, document = tokens.bare([queries[other]])[0], tokens.bare([documents[other]])[0]
        ids, types = tokens.pair.join(query, document, 200)
        expected = made(*one)
        assert ids.tolist() == expected["input_ids"] and types.tolist() == expected["token_type_ids"]


def test_of_a_pair_the_query_is_kept_first():
    form = Tokens(tokenizer()).pair
    query, document = np.arange(10, 16, dtype=np.int32), np.arange(20, 30, dtype=np.int32)
    ids, types = form.join(query, document, 12)
    assert ids.tolist() == [0, 10, 11, 12, 13, 14, 15, 2, 20, 21, 22, 2]
    assert types.tolist() == [0] * 8 + [1] * 4 and types.dtype == ids.dtype == np.int32
    ids, _ = form.join(query, document, 12, max_query=2)
    assert ids.tolist() == [0, 10, 11, 2, 20, 21, 22, 23, 24, 25, 26, 2]
    assert form.join(query, document, 5)[0].tolist() == [0, 10, 11, 2, 2]
    with pytest.raises(UsageError, match="special tokens alone"):
        form.join(query, document, 2)


def test_other_templates_are_read_from_the_tokenizer():
    from tokenizers.processors import TemplateProcessing

    made = train_tokenizer(SENTENCES, vocabulary=150)
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="[MASK] $A",
        pair="[MASK] $A [SEP] [SEP] $B [CLS]",
        special_tokens=[("[MASK]", 4), ("[SEP]", 2), ("[CLS]", 0)],
    )
    tokens = Tokens(made)
    assert tokens.prefix.tolist() == [4] and tokens.suffix.tolist() == []
    parts = [tokens.pair.prefix.tolist(), tokens.pair.middle.tolist(), tokens.pair.suffix.tolist()]
    assert parts == [[4], [2, 2], [0]] and tokens.pair.types == (0, 0)
