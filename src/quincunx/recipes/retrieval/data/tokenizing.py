"""Texts and pairs of texts to token ids, with a tokenizer of the transformers library, cut to what a model takes.

N texts or pairs, S tokens of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np

from quincunx.errors import UsageError
from quincunx.nn.pretrained.tokens import Ids, Tokens

Side = Literal["left", "right"]


class TextTokenizer:
    """Texts to token ids, special tokens included, at most `max_length` of them."""

    def __init__(self, tokenizer: Any, max_length: int, *, prompt: str = "", truncate: Side = "right") -> None:
        """Take a tokenizer of transformers; it is copied, so that neither this nor other uses change it.

        Args:
            tokenizer: A fast one, with a padding token.
            max_length: Tokens of the longest text, special ones included.
            prompt: Put before every text.
            truncate: The side on which longer texts lose tokens.

        Raises:
            UsageError: No fast form, no padding token, no room beside the special tokens, or a prompt on the side
                that is cut off.
        """
        self._tokens = Tokens(tokenizer)
        self.padding: int = _padding(self._tokens, tokenizer)
        self._cut = _Cut(self._tokens, PairSide(prompt, max_length, truncate))
        self.max_length = max_length
        self.prompt = prompt
        self.truncate: Side = truncate
        self.request: Mapping[str, Any] = {
            "tokenizer": self._tokens.fingerprint,
            "max_length": max_length,
            "prompt": prompt,
            "truncate": truncate,
            "libraries": {name: _version(name) for name in ("transformers", "tokenizers")},
        }

    def __call__(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids of each text [S]."""
        before, after = self._tokens.prefix, self._tokens.suffix
        return [np.concatenate([before, ids, after]) for ids in self._cut(texts)]


@dataclass(frozen=True)
class PairSide:
    """What one text of a pair gets before the two are put together: what it would get alone."""

    prompt: str = ""
    max_length: int | None = None
    """Tokens that it would have alone, special ones included; None: only the pair as a whole is limited."""
    truncate: Side = "right"
    """The side on which it loses tokens, to its own limit and to that of the pair."""


class PairTokenizer:
    """Pairs of a query and a document to the token ids of one sequence, special tokens included.

    Each text is first cut to its own limit. Of a pair that is too long all the same the longer text loses tokens until
    both are of one length, then both do.
    """

    def __init__(
        self, tokenizer: Any, max_length: int, *, query: PairSide | None = None, document: PairSide | None = None
    ) -> None:
        """Take a tokenizer of transformers; it is copied, so that neither this nor other uses change it.

        Args:
            tokenizer: A fast one, with a padding token.
            max_length: Tokens of the longest pair, special ones included.
            query: What queries get; None: nothing.
            document: What documents get, likewise.

        Raises:
            UsageError: No fast form, no padding token, no room beside the special tokens, or a prompt on the side
                that is cut off.
        """
        tokens = Tokens(tokenizer)
        self._form = tokens.pair
        self._room = max_length - self._form.size
        if self._room < 2:
            raise UsageError(
                f"max_length {max_length} leaves no room for two texts beside {self._form.size} special tokens"
            )
        self.padding: int = _padding(tokens, tokenizer)
        self.max_length = max_length
        self.typed: bool = "token_type_ids" in tokenizer.model_input_names
        """Whether the tokenizer tells the two texts apart by type ids."""
        self._query = _Cut(tokens, query or PairSide(), "query")
        self._document = _Cut(tokens, document or PairSide(), "document")

    def __call__(self, queries: Sequence[str], documents: Sequence[str]) -> tuple[list[Ids], list[Ids] | None]:
        """Return the token ids of each pair [S], and their type ids [S] where the tokenizer has such."""
        sides = zip(_each_once(self._query, queries), _each_once(self._document, documents), strict=True)
        pairs = [self._fit(query, document) for query, document in sides]
        tokens = [self._form.tokens(query, document) for query, document in pairs]
        if not self.typed:
            return tokens, None
        return tokens, [self._form.types(len(query), len(document)) for query, document in pairs]

    def _fit(self, query: Ids, document: Ids) -> tuple[Ids, Ids]:
        """Return a pair cut to what the sequence holds, the longer text first."""
        shorter = min(len(query), len(document))
        if len(query) + len(document) > self._room:
            least = min(shorter, self._room // 2)
            rooms = (self._room - least, least) if len(query) > len(document) else (least, self._room - least)
            query, document = self._query.fit(query, rooms[0]), self._document.fit(document, rooms[1])
        return query, document


class _Cut:
    """Texts of one side to bare token ids, with the prompt and cut to what they would have alone."""

    def __init__(self, tokens: Tokens, side: PairSide, name: str | None = None) -> None:
        """Take the tokenizer and what texts get; UsageError, with the side's name, where that cannot be."""
        special = len(tokens.prefix) + len(tokens.suffix)
        setting, prompt = (f"{name}.max_length", f"{name}.prompt") if name else ("max_length", "their prompt")
        if side.max_length is not None and side.max_length <= special:
            raise UsageError(f"{setting} {side.max_length} leaves no room beside {special} special tokens; raise it")
        if side.prompt and side.truncate == "left":
            raise UsageError(f"texts that are cut on the left would lose {prompt}; cut them on the right")
        self._tokens = tokens
        self._side = side
        self._room = None if side.max_length is None else side.max_length - special

    def __call__(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids of each text [S]."""
        found = self._tokens.bare([self._side.prompt + text for text in texts])
        return found if self._room is None else [self.fit(ids, self._room) for ids in found]

    def fit(self, ids: Ids, room: int) -> Ids:
        """Return what is left of a text [S] where there is room for so many."""
        if len(ids) <= room:
            return ids
        return ids[:room] if self._side.truncate == "right" else ids[len(ids) - room :]


def _each_once(tokenize: _Cut, texts: Sequence[str]) -> list[Ids]:
    """Return the tokens of texts of which the same may come many times: a query, with each of its documents."""
    different = list(dict.fromkeys(texts))
    found = dict(zip(different, tokenize(different), strict=True))
    return [found[text] for text in texts]


def _padding(tokens: Tokens, tokenizer: Any) -> int:
    """Return the padding token; UsageError where there is none."""
    if tokens.padding is None:
        raise UsageError(
            f"the tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} has no padding token; add one by "
            "special tokens, or set tokenizer.pad_token"
        )
    return tokens.padding


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
