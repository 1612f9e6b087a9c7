"""The token ids of one side's texts: made when they are asked for, kept in a file, or given with the data.

N texts, S tokens of one. All three are used alike, and in worker processes.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from quincunx.data.order import Indices
from quincunx.errors import UsageError
from quincunx.recipes.retrieval.data.texts import Texts, TokenTexts
from quincunx.recipes.retrieval.data.token_cache import TokenFile, Tokens, kept_tokens
from quincunx.recipes.retrieval.data.tokenizing import Side

_AT_ONCE = 4096
_MEASURED = 256


class Tokenize(Protocol):
    """Texts to token ids; `TextTokenizer` is one."""

    max_length: int
    """Tokens of the longest text, special ones included."""
    padding: int
    """Token id that fills shorter texts up in a batch."""
    prompt: str
    truncate: Side
    request: Mapping[str, Any]
    """All that decides which tokens a text gets, as plain JSON values."""

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the token ids of each text [S]."""
        ...


class Tokenised(Protocol):
    """Token ids by text."""

    exact: bool
    """Whether `lengths` are counted; else they are estimated."""

    @property
    def texts(self) -> Texts | TokenTexts:
        """The texts that the tokens are of."""
        ...

    @property
    def tokenize(self) -> Tokenize:
        """What made the tokens, or cuts them."""
        ...

    @property
    def lengths(self) -> Indices:
        """Tokens of each text after cutting [N]."""
        ...

    def tokens(self, index: int) -> Tokens:
        """Return the token ids of one text [S]."""
        ...

    def many(self, indices: Iterable[int]) -> list[Tokens]:
        """Return the token ids of some texts."""
        ...


def tokenised(
    texts: Texts | TokenTexts, tokenize: Tokenize, *, cache: Path | None = None, name: str = "texts"
) -> tuple[Tokenised, list[str]]:
    """Return the tokens of texts, and sentences on what happened.

    Args:
        texts: Plain, or given as tokens.
        tokenize: Makes the tokens; of texts that are given as tokens its lengths and padding alone are used.
        cache: Folder in which to keep all of them, made now if they are not there; None makes them when asked for.
        name: First word of the file's name there.

    Raises:
        UsageError: A prompt for texts of which only the tokens are known.
        DataError: The cache cannot be written.
    """
    if isinstance(texts, TokenTexts):
        return GivenTokens(texts, tokenize), _differently_framed(texts, tokenize, name)
    if cache is None:
        return LazyTokens(texts, tokenize), []
    notes: list[str] = []
    return KeptTokens(texts, tokenize, cache, name, notes), notes


class LazyTokens:
    """Tokens that are made when they are asked for; the latest `keep` texts are remembered, in each process."""

    exact: bool = False

    def __init__(self, texts: Texts, tokenize: Tokenize, keep: int = 1024) -> None:
        self.texts = texts
        self.tokenize = tokenize
        self.keep = keep
        self._recent: OrderedDict[int, Tokens] = OrderedDict()
        self._lengths: Indices | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_recent": OrderedDict()}

    @property
    def lengths(self) -> Indices:
        """Tokens of each text [N], estimated from its bytes and the tokens of a sample of texts."""
        if self._lengths is None:
            self._lengths = self._estimate()
        return self._lengths

    def tokens(self, index: int) -> Tokens:
        """Return the token ids of one text [S]."""
        return self.many([index])[0]

    def many(self, indices: Iterable[int]) -> list[Tokens]:
        """Return the token ids of some texts, made in one call where they are not remembered."""
        wanted = list(indices)
        found = {index: self._recent[index] for index in wanted if index in self._recent}
        missing = [index for index in dict.fromkeys(wanted) if index not in found]
        found.update(zip(missing, self.tokenize([self._text(index) for index in missing]), strict=True))
        for index in wanted:
            self._recent[index] = found[index]
            self._recent.move_to_end(index)
        while len(self._recent) > self.keep:
            self._recent.popitem(last=False)
        return [found[index] for index in wanted]

    def _estimate(self) -> Indices:
        sizes, longest = self.texts.sizes, self.tokenize.max_length
        sample = np.unique(np.linspace(0, len(sizes) - 1, min(_MEASURED, len(sizes))).astype(np.int64))
        counts = np.fromiter(map(len, self.tokenize([self._text(i) for i in sample.tolist()])), np.int64, len(sample))
        special = len(self.tokenize([""])[0])
        whole = counts < longest  # the others were cut and tell only that they are at least so long
        own, bytes_ = counts - special, np.maximum(sizes[sample], 1)
        share = own[whole].sum() / bytes_[whole].sum() if own[whole].any() else (own / bytes_).max(initial=0)
        return np.clip(np.rint(special + share * sizes).astype(np.int64), 1, longest)

    def _text(self, index: int) -> str:
        return self.texts.text(index)


class KeptTokens:
    """Tokens of all texts, in a file of the cache."""

    exact: bool = True

    def __init__(self, texts: Texts, tokenize: Tokenize, folder: Path, name: str, notes: list[str]) -> None:
        """Take the tokens from the folder, or make them now and keep them there; what happened is added to `notes`."""
        self.texts = texts
        self.tokenize = tokenize
        content = hashlib.sha256(texts.hashes.astype("<u8").tobytes()).hexdigest()
        request = {"texts": content, "count": len(texts), **tokenize.request}
        self.file: TokenFile = kept_tokens(name, request, folder, self._blocks, notes)

    @property
    def lengths(self) -> Indices:
        """Tokens of each text [N]."""
        return self.file.counts.astype(np.int64)

    def tokens(self, index: int) -> Tokens:
        """Return the token ids of one text [S], as a view."""
        return self.file[index]

    def many(self, indices: Iterable[int]) -> list[Tokens]:
        """Return the token ids of some texts, as views."""
        flat, offsets = self.file.flat, self.file.offsets
        places = np.asarray(list(indices), np.int64)
        starts, ends = offsets[places].tolist(), offsets[places + 1].tolist()
        return [flat[start:end] for start, end in zip(starts, ends, strict=True)]

    def _blocks(self) -> Iterable[list[Tokens]]:
        for start in range(0, len(self.texts), _AT_ONCE):
            stop = min(start + _AT_ONCE, len(self.texts))
            yield self.tokenize([self.texts.text(index) for index in range(start, stop)])


class GivenTokens:
    """Tokens that came with the data, special ones among them; of a text that is cut its last token stays.

    (Its first token stays where texts are cut on the left.)
    """

    exact: bool = True

    def __init__(self, texts: TokenTexts, tokenize: Tokenize) -> None:
        """Take tokens as they are; UsageError where there is a prompt, for which it is too late."""
        if tokenize.prompt:
            raise UsageError(
                f"the prompt {tokenize.prompt!r} cannot be put before texts that were tokenized beforehand; "
                "leave it out, or give the texts themselves"
            )
        self.texts = texts
        self.tokenize = tokenize

    @property
    def lengths(self) -> Indices:
        """Tokens of each text after cutting [N]."""
        return np.minimum(self.texts.sizes, self.tokenize.max_length)

    def tokens(self, index: int) -> Tokens:
        """Return the token ids of one text [S]."""
        whole, longest = self.texts.tokens(index), self.tokenize.max_length
        if len(whole) <= longest:
            return whole
        if self.tokenize.truncate == "left":
            return np.concatenate([whole[:1], whole[len(whole) - (longest - 1) :]])
        return np.concatenate([whole[: longest - 1], whole[-1:]])

    def many(self, indices: Iterable[int]) -> list[Tokens]:
        """Return the token ids of some texts."""
        return [self.tokens(index) for index in indices]


def _differently_framed(texts: TokenTexts, tokenize: Tokenize, name: str) -> list[str]:
    """Say so where given texts do not begin and end with the special tokens that the tokenizer puts round a text.

    The data does not tell which tokenizer made it: this is what shows that it was another, or another way to use it.
    """
    frame, filled = tokenize(["", "a"])
    before = next((place for place, (a, b) in enumerate(zip(frame, filled, strict=False)) if a != b), len(frame))
    starts, ends = texts.offsets[:-1], texts.offsets[1:]
    wrong = texts.sizes < len(frame)
    for place, token in enumerate(frame.tolist()):
        at = starts + place if place < before else ends + place - len(frame)
        wrong[~wrong] = texts.flat[at[~wrong]] != token  # those too short are none to look into
    if not wrong.any():
        return []
    return [
        f"{name}: {int(wrong.sum()):,} of {len(texts):,} texts given as token ids do not begin and end with the "
        f"encoder's special tokens (ids {', '.join(map(str, frame))}): were they made by another tokenizer?"
    ]
