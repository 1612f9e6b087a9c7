"""Tokenizers for causal models: trained on the texts at hand, or taken from a folder; and bare encoding with either.

Both trained kinds read bytes, so that no text is unknown to them and every text comes back as it was. They write no
token of their own round a text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from quincunx.data.partial import finish, partial_file
from quincunx.errors import DataError, MissingExtra, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Kind = Literal["byte", "bpe"]
FORMAT = 1
"""Raised whenever the same texts would give another tokenizer."""
PAD, EOS = "<pad>", "<eos>"
"""Ids 0 and 1."""
SMALLEST = 256 + 2
"""Tokens of the byte tokenizer, which every vocabulary holds."""

Ids = NDArray[np.int32]


class Encoder:
    """Texts to bare token ids: uncut, no special tokens, none read out of what a text says.

    Made from what `state` returns, so that other processes need no transformers library.
    """

    def __init__(self, state: str) -> None:
        from tokenizers import Tokenizer

        self._backend: Any = Tokenizer.from_str(state)
        self._backend.encode_special_tokens = True

    def __call__(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids `[S]` of each text."""
        found = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(one.ids, np.int32) for one in found]


def state(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return all of a tokenizer that decides which ids a text gets, as JSON.

    Raises:
        UsageError: It has no fast form.
    """
    fast: Any = tokenizer
    if not fast.is_fast:
        raise UsageError(
            f"the tokenizer {fast.name_or_path or type(fast).__name__} has no fast form (a tokenizer.json), and only "
            "such are read; choose another, or save it in that form once"
        )
    content: dict[str, Any] = json.loads(fast.backend_tokenizer.to_str())
    return json.dumps({**content, "truncation": None, "padding": None})


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the token that ends a document; UsageError where the tokenizer has none."""
    found: Any = tokenizer.eos_token_id
    if found is None:
        raise UsageError(
            f"the tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} has no eos token, by which documents "
            "end; choose another, or set eos_token in its tokenizer_config.json"
        )
    return found


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of what decides the ids of texts, and of the one that ends them."""
    content = json.dumps([json.loads(state(tokenizer)), end_token(tokenizer), version("tokenizers")], sort_keys=True)
    return blake2b(content.encode(), digest_size=16).hexdigest()


def read_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder, or of a model on the hub; UsageError where there is none."""
    from quincunx.nn.pretrained.folder import find_folder
    from quincunx.nn.pretrained.kept import read_tokenizer as read

    return read(find_folder(path))


def train_tokenizer(texts: Iterable[str], kind: Kind, vocabulary: int) -> PreTrainedTokenizerBase:
    """Return a byte-level tokenizer with a padding token (id 0) and an eos token (id 1).

    Args:
        texts: What `bpe` learns its merges from; `byte` does not look at them.
        kind: `byte`: a token a byte. `bpe`: pairs are merged, the most frequent first (Sennrich et al. 2016,
            arXiv 1508.07909), within words as GPT-2 splits them.
        vocabulary: Tokens of `bpe` at most; a small corpus gives fewer.

    Raises:
        UsageError: A vocabulary without room for the bytes.
        MissingExtra: The transformers library is not installed.
    """
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError:
        raise MissingExtra("transformers", "compression", "training a tokenizer") from None
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made: Any = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate([PAD, EOS, *letters])}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "bpe")
    made.decoder = decoders.ByteLevel()
    if kind == "bpe":
        if vocabulary < SMALLEST:
            raise UsageError(
                f"a bpe vocabulary of {vocabulary} has no room for 256 bytes and {SMALLEST - 256} special tokens; "
                f"raise tokenizer.vocabulary to at least {SMALLEST}, or choose the kind byte"
            )
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=[PAD, EOS], initial_alphabet=letters, show_progress=False
        )
        made.train_from_iterator(texts, trainer)
    made.add_special_tokens([PAD, EOS])
    return _wrapped(made)


def kept_tokenizer(
    texts: Iterable[str], kind: Kind, vocabulary: int, request: Mapping[str, Any], folder: Path
) -> PreTrainedTokenizerBase:
    """Return the trained tokenizer that a request determines, from the cache or trained now and kept there.

    Args:
        texts: As in `train_tokenizer`; looked at only where it is trained now.
        kind: Likewise.
        vocabulary: Likewise.
        request: All that decides the texts, as plain JSON values.
        folder: The cache.

    Raises:
        DataError: The cache cannot be written.
        UsageError, MissingExtra: As `train_tokenizer`.
    """
    if kind == "byte":
        return train_tokenizer((), kind, vocabulary)
    asked = [FORMAT, version("tokenizers"), kind, vocabulary, dict(request)]
    key = blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=8).hexdigest()
    path = folder / f"tokenizer-{key}.json"
    if found := _read(path):
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial_file(path, wait=True) as file:
            if found := _read(path):
                return found
            made: Any = train_tokenizer(texts, kind, vocabulary)
            file.write(made.backend_tokenizer.to_str().encode())
            finish(file, path)
            return made
    except OSError as error:
        raise DataError(
            f"cannot keep a tokenizer in {folder}: {error.strerror or error}; name another folder by data.cache or the "
            "environment variable QUINCUNX_CACHE"
        ) from error


def _read(path: Path) -> PreTrainedTokenizerBase | None:
    """Return a kept tokenizer, None where there is none, or a damaged one."""
    from tokenizers import Tokenizer

    try:
        made: Any = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    except Exception as error:  # the library raises this very class
        if type(error) is not Exception:
            raise
        return None
    return _wrapped(made)


def _wrapped(made: Any) -> PreTrainedTokenizerBase:
    try:
        from transformers import PreTrainedTokenizerFast
    except ImportError:
        raise MissingExtra("transformers", "compression", "training a tokenizer") from None
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=PAD,
        eos_token=EOS,
        split_special_tokens=True,  # the words <eos> in a text are words
        clean_up_tokenization_spaces=False,
    )
