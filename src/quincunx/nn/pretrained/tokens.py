"""Texts to arrays of bare token ids, and the special tokens that belong round one text and round two.

Texts go through the tokenizer's own compiled part in one call, uncut; whoever cuts them puts the special tokens round
what is left. S tokens of one text.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class PairForm:
    """The special tokens before, between and after two texts read as one sequence, and the type ids of all five parts.

    [CLS]  q q q  [SEP]  d d d d  [SEP]     ids
      0    0 0 0    0    1 1 1 1    1       types
    """

    special: Sequence[Ids]
    """Three: before, between and after."""
    special_types: Sequence[Ids]
    text_types: Sequence[int]
    """Of the first text, of the second."""

    @property
    def size(self) -> int:
        """The number of special tokens."""
        return sum(map(len, self.special))

    def tokens(self, query: Ids, document: Ids) -> Ids:
        """Return the sequence [S] of two texts' bare tokens."""
        before, between, after = self.special
        return np.concatenate([before, query, between, document, after])

    def types(self, query: int, document: int) -> Ids:
        """Return the type ids [S] of two texts of so many bare tokens."""
        before, between, after = self.special_types
        first, second = (np.full(n, kind, np.int32) for n, kind in zip((query, document), self.text_types, strict=True))
        return np.concatenate([before, first, between, second, after])


class Tokens:
    """What a tokenizer makes of texts; a copy of it, so that no use of one changes the other.

    Args:
        tokenizer: A fast one of the transformers library.

    Raises:
        UsageError: It is none of those, or makes nothing of any text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        fast: Any = tokenizer
        name = fast.name_or_path or type(fast).__name__
        if not fast.is_fast:
            raise UsageError(
                f"the tokenizer {name} has no fast form (a tokenizer.json), and only such are read; choose an encoder "
                "that has one, or save it in that form once"
            )
        self._backend = copy.deepcopy(fast.backend_tokenizer)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._split = bool(fast.split_special_tokens)
        self.padding: int | None = fast.pad_token_id
        """The id that stands for padding."""
        text = self._any_text()
        if text is None:
            raise UsageError(f"the tokenizer {name} makes no token of any text; choose another")
        found = self._backend.encode(text)
        (self.prefix, self.suffix), _ = _around(found.ids, found.sequence_ids, 1)
        """The special tokens before and after a single text."""
        found = self._backend.encode(text, text)
        special, _ = _around(found.ids, found.sequence_ids, 2)
        self.pair = PairForm(special, *_around(found.type_ids, found.sequence_ids, 2))
        """The special tokens of pairs."""

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides what becomes of a text, for caches; how a call cut or padded is no part of it."""
        state = json.loads(self._backend.to_str())
        pair = [[part.tolist() for part in parts] for parts in (self.pair.special, self.pair.special_types)]
        forms = [self.prefix.tolist(), self.suffix.tolist(), *pair, list(self.pair.text_types)]
        content = json.dumps([state, forms, self._split, self.padding], sort_keys=True)
        return blake2b(content.encode(), digest_size=16).hexdigest()

    def bare(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids `[S]` of each text: uncut, without special tokens."""
        self._backend.encode_special_tokens = self._split  # which a copy in another process would have lost
        return [np.array(one.ids, np.int32) for one in self._backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _any_text(self) -> str | None:
        """Return a text of which the tokenizer makes at least one token: what stands round that is special."""
        known = map(self._backend.id_to_token, range(self._backend.get_vocab_size()))
        texts = (text for text in chain(["a"], known) if text)
        return next((text for text in texts if self._backend.encode(text, add_special_tokens=False).ids), None)


def _around(values: Sequence[int], owners: Sequence[int | None], texts: int) -> tuple[list[Ids], list[int]]:
    """Split what belongs to the places of a sequence at its texts, of which each has at least one place.

    Args:
        values: One a place.
        owners: The number of the text that a place is of, None for special tokens.
        texts: How many there are.

    Returns:
        The values before, between and after the texts, and the value of each text's first place.
    """
    starts = [owners.index(text) for text in range(texts)]
    ends = [len(owners) - owners[::-1].index(text) for text in range(texts)]
    borders = zip([0, *ends], [*starts, len(owners)], strict=True)
    return [np.array(values[start:end], np.int32) for start, end in borders], [values[start] for start in starts]
