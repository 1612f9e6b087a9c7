"""Texts of a run as its tokens, and back: by its tokenizer, or by the alphabet of examples by rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from quincunx.errors import DataError
from quincunx.recipes.compression.config import CompressionConfig
from quincunx.recipes.compression.data.alphabet import Alphabet
from quincunx.recipes.compression.data.arithmetic.language import ALPHABET
from quincunx.recipes.compression.data.tasks import task_named
from quincunx.recipes.compression.data.tokenizer import Encoder, state
from quincunx.recipes.compression.kinds import compresses, generated
from quincunx.recipes.compression.sources import level_word, levels_of, nearest_level

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Vocabulary:
    """What a run reads and writes.

    Args:
        config: The run's.
        tokenizer: Likewise; of examples by rule it is asked for nothing but the words that were added to the alphabet.
    """

    def __init__(self, config: CompressionConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer: Any = tokenizer
        self._alphabet = _alphabet(config)
        self._encoder = Encoder(state(tokenizer)) if self._alphabet is None else None
        level = _level(config, tokenizer)
        scope, apart = config.blotch.scope, compresses(config)
        self.before_contexts: Tensor = level if apart and scope in ("context", "both") else level[:0]
        """Tokens that contexts begin with: the one that tells how much is left out, where training had it there."""
        self.before_texts: Tensor = level if not apart or scope in ("forward", "both") else level[:0]
        """The same of texts."""

    @property
    def end(self) -> int | None:
        """The token that ends a text."""
        return self._tokenizer.eos_token_id

    @property
    def padding(self) -> int:
        """A token that fills up rows."""
        found = self._tokenizer.pad_token_id
        return 0 if found is None else found

    def tokens(self, text: str, what: str) -> Tensor:
        """Return the token ids `[S]` of a text, int64.

        Args:
            text: The text.
            what: What it is, for messages.

        Raises:
            DataError: It has no token, or a symbol that the alphabet lacks.
        """
        if self._encoder is not None:
            (ids,) = self._encoder([text])
        else:
            assert self._alphabet is not None
            try:
                ids = self._alphabet.encode(text)
            except DataError as error:
                raise DataError(f"{what}: {error}") from None
        if not len(ids):
            raise DataError(f"{what} is empty: expected a text of one token at least")
        return torch.from_numpy(np.asarray(ids, np.int64))

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids; what is no text (padding, ends) is left out."""
        if self._alphabet is not None:
            known = [token for token in tokens if token < len(self._alphabet)]
            return self._alphabet.decode(np.array(known, np.int64))
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _alphabet(config: CompressionConfig) -> Alphabet | None:
    kind = generated(config)
    if kind is None:
        return None
    return ALPHABET if kind == "arithmetic" else task_named(config.tasks.name).alphabet


def _level(config: CompressionConfig, tokenizer: Any) -> Tensor:
    """Return the token that tells the level nearest to `evaluate.blotch_p`, of two the lower; none where none tells."""
    shares = levels_of(config)
    if not shares or not config.blotch.intensity_tokens:
        return torch.zeros(0, dtype=torch.int64)
    return torch.tensor([tokenizer.convert_tokens_to_ids(level_word(shares[nearest_level(config)]))])
