"""Training of tokenizers: deterministic, complete, and what each kind does with a text."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import pytest

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.errors import DataError, UsageError
from quincunx.nn.pretrained import Tokens, train_tokenizer
from quincunx.nn.pretrained.unigram import train_unigram
from small_encoders import SENTENCES, tokenizer

KINDS = ("wordpiece", "bpe", "unigram")
SIZES = {"wordpiece": 150, "bpe": 320, "unigram": 150}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_texts_give_the_same_tokenizer(kind):
    # the hash tables of the tokenizers library are ordered anew at every call, so two calls would differ by it
    one = tokenizer(kind, SIZES[kind])
    for texts in (SENTENCES, list(reversed(SENTENCES))):
        again = train_tokenizer(texts, vocabulary=SIZES[kind], kind=kind, max_length=24)
        assert again.backend_tokenizer.to_str() == one.backend_tokenizer.to_str()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_trained_tokenizer_is(kind):
    made = train_tokenizer(SENTENCES, vocabulary=SIZES[kind], kind=kind, special_tokens=["<code>"], max_length=24)
    assert made.is_fast and made.model_max_length == 24 and len(made) <= SIZES[kind]
    names = [made.cls_token, made.pad_token, made.sep_token, made.unk_token, made.mask_token]
    assert names == ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
    assert made.convert_tokens_to_ids([*names, "<code>"]) == [0, 1, 2, 3, 4, 5]
    ids = made("the fox <code> jumps", "over")
    assert made.convert_ids_to_tokens(ids["input_ids"])[0] == "[CLS]" and ids["input_ids"].count(5) == 1
    assert made.decode(ids["input_ids"], skip_special_tokens=True).replace(" ", "") == "thefoxjumpsover"
    assert ids["input_ids"].count(2) == 2 and ids["token_type_ids"][0] == 0 and ids["token_type_ids"][-1] == 1
    assert sorted(made.get_vocab().values()) == list(range(len(made)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lowercase", [True, False])
def test_lowering_is_the_tokenizers_own(kind, lowercase):
    made = train_tokenizer(SENTENCES, vocabulary=SIZES[kind], kind=kind, lowercase=lowercase)
    assert (made("THE Fox")["input_ids"] == made("the fox")["input_ids"]) == lowercase


def test_wordpiece_marks_what_continues_a_word_and_bpe_knows_every_text():
    pieces = tokenizer("wordpiece").tokenize("foxes")
    assert pieces[0].startswith("fo") and all(piece.startswith("##") for piece in pieces[1:]) and len(pieces) > 1
    made = tokenizer("bpe", 320)
    text = "日本 ✓ unheard-of"
    assert made.unk_token_id not in made(text)["input_ids"]
    assert made.decode(made(text)["input_ids"], skip_special_tokens=True) == text


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_is_what_was_trained(kind, tmp_path):
    from transformers import AutoTokenizer

    made = tokenizer(kind, SIZES[kind])
    made.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert Tokens(again).fingerprint == Tokens(made).fingerprint and again.model_max_length == 24


def test_errors_say_what_to_do():
    with pytest.raises(UsageError, match="one of wordpiece, bpe, unigram"):
        train_tokenizer(SENTENCES, kind="sentencepiece")
    with pytest.raises(UsageError, match="vocabulary of 20 is too small"):
        train_tokenizer(SENTENCES, vocabulary=20)
    with pytest.raises(DataError, match="no word"):
        train_tokenizer(["", "  "])


def ways(word: str) -> list[list[str]]:
    """Return every way to cut a word."""
    cuts = [c for many in range(len(word)) for c in combinations(range(1, len(word)), many)]
    return [[word[a:b] for a, b in zip((0, *c), (*c, len(word)), strict=True)] for c in cuts]


def likelihood(words: dict[str, int], chances: dict[str, float]) -> float:
    """Return the logarithm of the words' chance, over all ways to cut each."""
    return sum(
        count * math.log(sum(math.prod(chances.get(piece, 0.0) for piece in way) for way in ways(word)))
        for word, count in words.items()
    )


def test_unigram_pieces_are_a_distribution_that_explains_the_words_better_than_characters():
    words = Counter({"▁banana": 40, "▁bandana": 30, "▁ban": 20, "▁nab": 10})
    found = {piece: math.exp(score) for piece, score in train_unigram(words, 12)}
    assert len(found) <= 12 and set("▁band") <= set(found)
    assert sum(found.values()) == pytest.approx(1, abs=1e-9)
    letters = Counter(letter for word, count in words.items() for letter in word * count)
    single = {letter: count / letters.total() for letter, count in letters.items()}
    assert likelihood(words, found) > likelihood(words, single) + 100
    assert any(len(piece) > 2 for piece in found)


def test_a_unigram_step_of_expectation_maximisation_raises_the_likelihood_by_the_plain_formula():
    import numpy as np

    from quincunx.nn.pretrained import unigram

    words = {"abab": 3, "abc": 2, "cab": 1}
    pieces = ["a", "ab", "abc", "b", "ba", "c", "ca"]
    chances = np.array([0.2, 0.2, 0.1, 0.2, 0.1, 0.1, 0.1])
    counts = unigram._expected(unigram._grids(words.items(), pieces), np.log(chances))
    table = dict(zip(pieces, chances, strict=True))
    expected = dict.fromkeys(pieces, 0.0)
    for word, count in words.items():
        odds = [math.prod(table.get(piece, 0.0) for piece in way) for way in ways(word)]
        for way, odd in zip(ways(word), odds, strict=True):
            for piece in way:
                if odd:
                    expected[piece] += count * odd / sum(odds)
    assert dict(zip(pieces, counts, strict=True)) == pytest.approx(expected, abs=1e-12)
    before, after = likelihood(words, table), likelihood(words, dict(zip(pieces, counts / counts.sum(), strict=True)))
    assert after > before
