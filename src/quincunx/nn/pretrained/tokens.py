"""Texts to arrays of token ids, special tokens round them, and the same for pairs: plain arrays in and out.

Texts go through the tokenizer's own compiled part in one call, bare; cutting and special tokens are added here, so that
the tokenizer's state is never changed. S tokens of one text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class PairForm:
    """The special tokens round a query and a document that are read as one sequence.

    prefix  query  middle  document  suffix
    [CLS]   q q q  [SEP]   d d d d   [SEP]
      0     0 0 0    0     1 1 1 1     1     types
    """

    prefix: Ids
    middle: Ids
    suffix: Ids
    types: tuple[int, int] = (0, 1)
    """Type id of the first text, prefix and middle; and of the second with the suffix."""

    def join(
        self, query: Ids, document: Ids, max_length: int, max_query: int | None = None
    ) -> tuple[Ids, NDArray[np.int32]]:
        """Return one sequence of a pair and its type ids, both int32 `[S]`, S at most `max_length`.

        The query is kept first: it is cut after `max_query` tokens, or where the sequence is full; the document gets
        what is left. All special tokens stay.

        Args:
            query: Bare token ids, without special tokens.
            document: The same.
            max_length: Of the sequence, special tokens included.
            max_query: Of the query, without them; None: the whole sequence.

        Raises:
            UsageError: The sequence cannot even hold the special tokens.
        """
        room = max_length - len(self.prefix) - len(self.middle) - len(self.suffix)
        if room < 0:
            raise UsageError(
                f"a pair needs more than {max_length} tokens for its special tokens alone: raise the limit"
            )
        query = query[: room if max_query is None else min(room, max_query)]
        document = document[: room - len(query)]
        tokens = np.concatenate([self.prefix, query, self.middle, document, self.suffix])
        types = np.full(len(tokens), self.types[1], np.int32)
        types[: len(self.prefix) + len(query) + len(self.middle)] = self.types[0]
        return tokens, types


class Tokens:
    """A tokenizer as a function of texts.

    Args:
        tokenizer: A fast one of the transformers library.

    Raises:
        UsageError: It is none of those.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise UsageError(
                f"{type(tokenizer).__name__} has no fast form: save one once (a tokenizer.json), or choose another"
            )
        self.tokenizer = tokenizer
        fast: Any = tokenizer
        self._backend = fast.backend_tokenizer
        pair = fast("a", "b", return_token_type_ids=True)
        ids = np.array(pair["input_ids"], np.int32)
        sequence = [2 if place is None else place for place in pair.sequence_ids(0)]
        first, second = _span(sequence, 0), _span(sequence, 1)
        types = pair["token_type_ids"]
        self.pair = PairForm(
            ids[: first.start], ids[first.stop : second.start], ids[second.stop :], (types[0], types[-1])
        )
        """The special tokens of pairs."""
        single = fast("a")
        ids = np.array(single["input_ids"], np.int32)
        text = _span([2 if place is None else place for place in single.sequence_ids(0)], 0)
        self.prefix, self.suffix = ids[: text.start], ids[text.stop :]
        """The special tokens before and after a single text."""

    @property
    def padding(self) -> int:
        """The id that stands for padding; 0 where the tokenizer has none, which changes nothing: it is masked."""
        value = self.tokenizer.pad_token_id
        return value if isinstance(value, int) else 0

    def tokenize(
        self, texts: Sequence[str], *, max_length: int, prompt: str = "", truncate: Literal["right", "left"] = "right"
    ) -> list[Ids]:
        """Return the token ids `[S]` of each text with its special tokens, at most `max_length` of them.

        Args:
            texts: Any number.
            max_length: Tokens of the longest, special ones included.
            prompt: Written before each text.
            truncate: The end at which a longer text loses tokens; special tokens are kept.

        Raises:
            UsageError: `max_length` leaves no room beside the special tokens, or the prompt is on the end cut off.
        """
        room = max_length - len(self.prefix) - len(self.suffix)
        if room < 1:
            raise UsageError(
                f"max_length {max_length} leaves no room beside {len(self.prefix) + len(self.suffix)} special tokens"
            )
        if prompt and truncate == "left":
            raise UsageError("texts cut on the left would lose their prompt: cut them on the right")
        kept = slice(None, room) if truncate == "right" else slice(-room, None)
        return [np.concatenate([self.prefix, ids[kept], self.suffix]) for ids in self.bare(texts, prompt)]

    def bare(self, texts: Sequence[str], prompt: str = "") -> list[Ids]:
        """Return the token ids `[S]` of each text alone, prompt included: uncut, no special tokens; for `pair.join`."""
        full = [prompt + text for text in texts] if prompt else list(texts)
        # whatever cutting and padding a call through the tokenizer left switched on is put back afterwards
        truncation, padding = self._backend.truncation, self._backend.padding
        self._backend.no_truncation()
        self._backend.no_padding()
        try:
            encoded = self._backend.encode_batch_fast(full, add_special_tokens=False)
        finally:
            if truncation is not None:
                self._backend.enable_truncation(**truncation)
            if padding is not None:
                self._backend.enable_padding(**padding)
        return [np.array(one.ids, np.int32) for one in encoded]

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides what becomes of a text, for caches; how a call cut or padded is no part of it."""
        state = json.loads(self._backend.to_str())
        state.pop("truncation", None)
        state.pop("padding", None)
        pair = [part.tolist() for part in (self.pair.prefix, self.pair.middle, self.pair.suffix)]
        forms = [self.prefix.tolist(), self.suffix.tolist(), pair, self.pair.types, self.tokenizer.pad_token_id]
        names = self.tokenizer.special_tokens_map
        content = json.dumps([state, forms, names], sort_keys=True, default=str)
        return blake2b(content.encode(), digest_size=16).hexdigest()


def _span(sequence: Sequence[int], text: int) -> slice:
    """Return where a text's tokens lie; nowhere, before all, where the tokenizer made none of it."""
    places = [place for place, value in enumerate(sequence) if value == text]
    return slice(places[0], places[-1] + 1) if places else slice(0, 0)
