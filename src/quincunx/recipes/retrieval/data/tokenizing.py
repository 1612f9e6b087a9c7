"""Texts and pairs of texts to token ids, with a tokenizer of the transformers library, cut to what a model takes.

N texts or pairs, S tokens of one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import UsageError
from quincunx.nn.pretrained.tokens import Tokens as BareTokens

Tokens = NDArray[np.int32]
Side = Literal["left", "right"]


class TextTokenizer:
    """Texts to token ids, special tokens included, at most `max_length` of them."""

    def __init__(self, tokenizer: Any, max_length: int, *, prompt: str = "", truncate: Side = "right") -> None:
        """Take a tokenizer of transformers; it is copied, so that neither this nor other uses change it.

        Args:
            tokenizer: A PreTrainedTokenizer of either kind, with a padding token.
            max_length: Tokens of the longest text, special ones included.
            prompt: Put before every text.
            truncate: The side on which longer texts lose tokens.

        Raises:
            UsageError: No padding token, no room beside the special tokens, or a prompt on the side that is cut off.
        """
        if tokenizer.pad_token_id is None:
            raise UsageError(
                f"the tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} has no padding token; add one by "
                "special tokens, or set tokenizer.pad_token"
            )
        special = tokenizer.num_special_tokens_to_add()
        if max_length <= special:
            raise UsageError(f"max_length {max_length} leaves no room beside {special} special tokens; raise it")
        if prompt and truncate == "left":
            raise UsageError("texts that are cut on the left would lose their prompt; cut them on the right")
        self._tokenizer = copy.deepcopy(tokenizer)
        self._tokenizer.truncation_side = truncate
        self.max_length = max_length
        self.prompt = prompt
        self.truncate: Side = truncate
        self.padding: int = tokenizer.pad_token_id
        self.request: Mapping[str, Any] = {
            "tokenizer": tokenizer_fingerprint(tokenizer),
            "max_length": max_length,
            "prompt": prompt,
            "truncate": truncate,
            "libraries": {name: _version(name) for name in ("transformers", "tokenizers")},
        }

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the token ids of each text [S]."""
        if not texts:
            return []
        encoded = self._tokenizer(
            [self.prompt + text for text in texts],
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        return [np.array(ids, np.int32) for ids in encoded["input_ids"]]


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
            UsageError: No padding token, no room beside the special tokens, or a prompt on the side that is cut off.
        """
        special = tokenizer.num_special_tokens_to_add(pair=True)
        if max_length < special + 2:
            raise UsageError(f"max_length {max_length} leaves no room for two texts beside {special} special tokens")
        if tokenizer.pad_token_id is None:
            raise UsageError(f"the tokenizer {tokenizer.name_or_path} has no padding token; add one by special tokens")
        self.query, self.document = query or PairSide(), document or PairSide()
        alone = tokenizer.num_special_tokens_to_add()
        for name, side in (("query", self.query), ("document", self.document)):
            if side.max_length is not None and side.max_length <= alone:
                raise UsageError(
                    f"{name}.max_length {side.max_length} leaves no room beside {alone} special tokens; raise it"
                )
            if side.prompt and side.truncate == "left":
                raise UsageError(f"texts that are cut on the left would lose {name}.prompt; cut them on the right")
        self.max_length = max_length
        self.padding: int = tokenizer.pad_token_id
        self.typed: bool = "token_type_ids" in tokenizer.model_input_names
        """Whether the tokenizer tells the two texts apart by type ids."""
        self._texts = BareTokens(copy.deepcopy(tokenizer))
        self._alone, self._room = alone, max_length - special
        self._form = _PairForm.of(tokenizer)

    def __call__(self, queries: Sequence[str], documents: Sequence[str]) -> tuple[list[Tokens], list[Tokens] | None]:
        """Return the token ids of each pair [S], and their type ids [S] where the tokenizer has such."""
        pairs = [
            self._fit(query, document)
            for query, document in zip(
                self._cut_alone(queries, self.query), self._cut_alone(documents, self.document), strict=True
            )
        ]
        tokens = [self._form.tokens(query, document) for query, document in pairs]
        return tokens, [
            self._form.types(len(query), len(document)) for query, document in pairs
        ] if self.typed else None

    def _cut_alone(self, texts: Sequence[str], side: PairSide) -> list[Tokens]:
        """Return the tokens of texts of one side, without special ones; a text that comes again is read once."""
        different = list(dict.fromkeys(texts))
        found = dict(zip(different, self._texts.bare(different, side.prompt), strict=True)) if different else {}
        if side.max_length is not None:
            room = side.max_length - self._alone
            found = {text: _cut(tokens, room, side.truncate) for text, tokens in found.items()}
        return [found[text] for text in texts]

    def _fit(self, query: Tokens, document: Tokens) -> tuple[Tokens, Tokens]:
        """Return a pair cut to what the sequence holds, the longer text first."""
        shorter = min(len(query), len(document))
        if len(query) + len(document) > self._room:
            least = min(shorter, self._room // 2)
            rooms = (self._room - least, least) if len(query) > len(document) else (least, self._room - least)
            query = _cut(query, rooms[0], self.query.truncate)
            document = _cut(document, rooms[1], self.document.truncate)
        return query, document


@dataclass(frozen=True)
class _PairForm:
    """The special tokens before, between and after two texts, and the type ids of all five parts."""

    special: tuple[Tokens, Tokens, Tokens]
    special_types: tuple[Tokens, Tokens, Tokens]
    text_types: tuple[int, int]

    @classmethod
    def of(cls, tokenizer: Any) -> _PairForm:
        """Read it off what a tokenizer makes of a pair."""
        form = BareTokens(tokenizer).pair
        found = tokenizer("a", "b", return_token_type_ids=True)
        parts = found.sequence_ids(0)
        kinds = np.array(found["token_type_ids"], np.int32)
        special = (form.prefix, form.middle, form.suffix)
        runs = np.split(kinds[[part is None for part in parts]], np.cumsum([len(part) for part in special])[:-1])
        texts = tuple(int(kinds[parts.index(number)]) if number in parts else number for number in (0, 1))
        return cls(special, (runs[0], runs[1], runs[2]), (texts[0], texts[1]))

    def tokens(self, query: Tokens, document: Tokens) -> Tokens:
        """Return the sequence of a pair [S]."""
        return np.concatenate([self.special[0], query, self.special[1], document, self.special[2]])

    def types(self, query: int, document: int) -> Tokens:
        """Return the type ids of a pair of so many tokens [S]."""
        first, second = (np.full(n, kind, np.int32) for n, kind in zip((query, document), self.text_types, strict=True))
        return np.concatenate([self.special_types[0], first, self.special_types[1], second, self.special_types[2]])


def _cut(tokens: Tokens, room: int, side: Side) -> Tokens:
    """Return what is left of tokens [S] where there is room for so many, cut on one side."""
    if len(tokens) <= room:
        return tokens
    return tokens[:room] if side == "right" else tokens[len(tokens) - room :]


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Return a hash of everything that decides what a tokenizer makes of a text.

    How a call asked it to cut and pad is no part of that.
    """
    digest = hashlib.sha256()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        state = json.loads(backend.to_str())
        state.pop("truncation", None)
        state.pop("padding", None)
        digest.update(json.dumps(state, sort_keys=True).encode())
    else:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save_pretrained(folder)
            for file in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
                digest.update(file.name.encode() + b"\0" + file.read_bytes())
    digest.update(repr((tokenizer.pad_token_id, tokenizer.num_special_tokens_to_add())).encode())
    return digest.hexdigest()[:16]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
