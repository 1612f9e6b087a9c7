"""A tokenizer trained on the texts at hand, the same for the same texts wherever and however often it is trained.

`wordpiece` as BERT's, byte-level `bpe` as RoBERTa's, `unigram` (Kudo 2018, arXiv 1804.10959). The trainers of the
tokenizers library give WordPiece and Unigram vocabularies that change from call to call with the order of a hash table;
here the first has that order fixed, and the second is our own (`unigram.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from quincunx.errors import DataError, MissingExtra, UsageError
from quincunx.nn.pretrained.unigram import train_unigram

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Kind = Literal["wordpiece", "bpe", "unigram"]
SPECIAL = {"cls": "[CLS]", "pad": "[PAD]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
"""In the order of their ids: padding is 1, where the architectures that number positions from it (RoBERTa's kin) expect
it, one of them (MPNet) whatever its config says."""
TOGETHER = 1000
"""Words handed to a trainer at a time."""
INSIDE = "##"
"""Written before a WordPiece that does not begin a word."""


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocabulary: int = 30_000,
    kind: Kind = "wordpiece",
    special_tokens: Sequence[str] = (),
    lowercase: bool = True,
    max_length: int = 512,
) -> PreTrainedTokenizerBase:
    """Return a fast tokenizer with tokens cls, pad, sep, unk and mask, which writes `[CLS] text [SEP]`.

    Args:
        texts: What it is trained on; read once.
        vocabulary: Tokens at most, special ones included. A small corpus gives fewer.
        kind: `wordpiece`, `bpe` or `unigram`.
        special_tokens: Further ones that are never split.
        lowercase: Texts are lowered, at training and later; with `wordpiece` accents go too, as in BERT's.
        max_length: The tokenizer's `model_max_length`.

    Raises:
        UsageError: An unknown kind, or a vocabulary too small for the characters alone.
        DataError: There is nothing in the texts.
        MissingExtra: The library is not installed.
    """
    try:
        from tokenizers import Tokenizer, normalizers, processors
        from transformers import PreTrainedTokenizerFast
    except ImportError:
        raise MissingExtra("transformers", "retrieval", "training a tokenizer") from None
    trainers = {"wordpiece": _wordpiece, "bpe": _bpe, "unigram": _unigram}
    if kind not in trainers:
        raise UsageError(f"unknown kind of tokenizer {kind!r}: one of {', '.join(trainers)}")
    reserved = list(dict.fromkeys([*SPECIAL.values(), *special_tokens]))
    normalizer, splitter, decoder = _parts(kind, lowercase)
    words = _words(texts, normalizer, splitter)
    if not words:
        raise DataError("the texts hold no word to train a tokenizer on")
    tokenizer: Any = Tokenizer(trainers[kind](words, vocabulary, reserved))
    tokenizer.normalizer = normalizer if normalizer is not None else normalizers.Sequence([])
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens(reserved)
    size = tokenizer.get_vocab_size()
    if size > vocabulary:
        raise UsageError(
            f"a vocabulary of {vocabulary} is too small: special tokens and characters of the texts alone are {size}"
        )
    cls, sep = SPECIAL["cls"], SPECIAL["sep"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (cls, sep)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        extra_special_tokens=list(special_tokens),
        **{f"{name}_token": token for name, token in SPECIAL.items()},
    )


def _parts(kind: str, lowercase: bool) -> tuple[Any, Any, Any]:
    """Return what normalises a text, what splits it into words, and what puts tokens together again."""
    from tokenizers import decoders, normalizers, pre_tokenizers

    if kind == "wordpiece":
        return (
            normalizers.BertNormalizer(lowercase=lowercase),
            pre_tokenizers.BertPreTokenizer(),
            decoders.WordPiece(prefix=INSIDE),
        )
    lower = [normalizers.Lowercase()] if lowercase else []
    if kind == "bpe":
        normalizer = normalizers.Sequence([normalizers.NFC(), *lower])
        return normalizer, pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return normalizers.Sequence([normalizers.NFKC(), *lower]), pre_tokenizers.Metaspace(), decoders.Metaspace()


def _words(texts: Iterable[str], normalizer: Any, splitter: Any) -> Counter[str]:
    """Return how often each word occurs."""
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    return words


def _repeated(words: Counter[str]) -> Iterable[str]:
    """Yield each word as often as it occurs, some at a time and with spaces between: trainers take no counts."""
    for word, count in sorted(words.items()):
        for start in range(0, count, TOGETHER):
            yield " ".join([word] * min(TOGETHER, count - start))


def _wordpiece(words: Counter[str], vocabulary: int, reserved: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    # In a hash table's order the trainer would number the characters inside words, and settle ties between merges by
    # those numbers. Named as special tokens they are numbered in the order given.
    inside = sorted({INSIDE + letter for word in words for letter in word[1:]})
    draft: Any = Tokenizer(models.WordPiece(unk_token=SPECIAL["unk"]))
    draft.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=[*reserved, *inside],
        show_progress=False,
        continuing_subword_prefix=INSIDE,
    )
    draft.train_from_iterator(_repeated(words), trainer)
    return models.WordPiece(draft.get_vocab(), unk_token=SPECIAL["unk"], continuing_subword_prefix=INSIDE)


def _bpe(words: Counter[str], vocabulary: int, reserved: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    draft: Any = Tokenizer(models.BPE())
    draft.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(reserved),
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    draft.train_from_iterator(_repeated(words), trainer)
    return draft.model


def _unigram(words: Counter[str], vocabulary: int, reserved: Sequence[str]) -> Any:
    from tokenizers import models

    pieces = train_unigram(words, vocabulary - len(reserved))
    lowest = min((score for _, score in pieces), default=0.0)
    table = [(token, 0.0) for token in reserved] + pieces
    unknown = list(reserved).index(SPECIAL["unk"])
    table[unknown] = (table[unknown][0], lowest - 10)
    return models.Unigram(table, unk_id=unknown, byte_fallback=False)
