"""Texts and pairs of texts to token ids, with a tokenizer of the transformers library, cut to what a model takes.

N texts or pairs, S tokens of one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import UsageError

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


class PairTokenizer:
    """Pairs of a query and a document to the token ids of one sequence, special tokens included.

    Of a pair that is too long the longer text loses tokens first.
    """

    def __init__(self, tokenizer: Any, max_length: int, *, prompt: str = "") -> None:
        """Take a tokenizer as `TextTokenizer` does; the prompt is put before the queries."""
        special = tokenizer.num_special_tokens_to_add(pair=True)
        if max_length < special + 2:
            raise UsageError(f"max_length {max_length} leaves no room for two texts beside {special} special tokens")
        if tokenizer.pad_token_id is None:
            raise UsageError(f"the tokenizer {tokenizer.name_or_path} has no padding token; add one by special tokens")
        self._tokenizer = copy.deepcopy(tokenizer)
        self._tokenizer.truncation_side = "right"
        self.max_length = max_length
        self.prompt = prompt
        self.padding: int = tokenizer.pad_token_id
        self.typed: bool = "token_type_ids" in tokenizer.model_input_names
        """Whether the tokenizer tells the two texts apart by type ids."""

    def __call__(self, queries: Sequence[str], documents: Sequence[str]) -> tuple[list[Tokens], list[Tokens] | None]:
        """Return the token ids of each pair [S], and their type ids [S] where the tokenizer has such."""
        if not queries:
            return [], [] if self.typed else None
        encoded = self._tokenizer(
            [self.prompt + query for query in queries],
            list(documents),
            truncation="longest_first",
            max_length=self.max_length,
            return_attention_mask=False,
            return_token_type_ids=self.typed,
        )
        tokens = [np.array(ids, np.int32) for ids in encoded["input_ids"]]
        types = [np.array(ids, np.int32) for ids in encoded["token_type_ids"]] if self.typed else None
        return tokens, types


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
