"""One side of several collections, its texts numbered through: what a batch asks of them.

N texts over all sets, M of them asked for, B rows, S tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from quincunx.data.batch import Batch
from quincunx.data.order import Indices, counter_hash
from quincunx.errors import UsageError
from quincunx.recipes.retrieval.data.known import Hashes
from quincunx.recipes.retrieval.data.ragged import offsets_of
from quincunx.recipes.retrieval.data.texts import Texts, TokenTexts
from quincunx.recipes.retrieval.data.tokenised import Tokenised

SET_STRIDE = 1 << 40
"""In a text's key: the number of its set times this, plus its place there."""


class NumberedTexts:
    """The texts of several sets under one number each: those of the first set from 0, then those of the next."""

    def __init__(self, sets: Sequence[Texts | TokenTexts]) -> None:
        self.sets = sets
        self.starts: Indices = offsets_of(np.array([len(texts) for texts in sets], np.int64))
        self.hashes: Hashes = np.concatenate([np.zeros(0, np.uint64), *(texts.hashes for texts in sets)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def set_of(self, numbers: Indices) -> Indices:
        """Return the set of each text [M]."""
        return np.searchsorted(self.starts, numbers, side="right") - 1

    def keys(self, numbers: Indices) -> Indices:
        """Return the texts' keys [M]: set * 2^40 + place in the set."""
        sets = self.set_of(numbers)
        return sets * SET_STRIDE + numbers - self.starts[sets]

    def names(self, numbers: Indices) -> list[str]:
        """Return the texts' ids; with several sets the ids of one may be those of another."""
        sets = self.set_of(numbers)
        places = numbers - self.starts[sets]
        return [self.sets[k].ids[i] for k, i in zip(sets.tolist(), places.tolist(), strict=True)]


class NumberedTokens(NumberedTexts):
    """Numbered texts with their tokens."""

    def __init__(self, sets: Sequence[Tokenised]) -> None:
        """Take the tokens of the sets, all made for one encoder.

        Raises:
            UsageError: Sets that are filled up with different padding tokens.
        """
        super().__init__([tokens.texts for tokens in sets])
        paddings = {tokens.tokenize.padding for tokens in sets}
        if len(paddings) != 1:
            raise UsageError(
                f"the sets of a run are tokenized for one encoder, with one padding token; found {sorted(paddings)}"
            )
        self.padding = paddings.pop()
        self.tokenised = sets
        ways = [(tokens.tokenize.prompt, tokens.tokenize.max_length, tokens.tokenize.truncate) for tokens in sets]
        self._identities = self.hashes
        if len(set(ways)) > 1:
            # the same text behind another prompt is another row
            marks = counter_hash(np.array([ways.index(way) for way in ways]), 0)
            self._identities = self.hashes ^ np.repeat(marks, np.diff(self.starts))

    @property
    def lengths(self) -> Indices:
        """Tokens of each text [N]."""
        return np.concatenate([tokens.lengths for tokens in self.tokenised])

    def merge(self, numbers: Indices) -> tuple[Indices, Indices, Indices]:
        """Return the rows that some texts [M] make, each text once, in order of first mention.

        Returns:
            The text of each row [B], the row of each of `numbers` [M], and where each row was first mentioned [B].
        """
        _, first, inverse = np.unique(self._identities[numbers], return_index=True, return_inverse=True)
        order = np.argsort(first)
        rows = np.empty_like(order)
        rows[order] = np.arange(len(order))
        mentioned = first[order]
        return numbers[mentioned], rows[inverse], mentioned

    def batch(self, numbers: Indices) -> Batch:
        """Return these texts as a batch of `tokens [B, S]` and `lengths [B]`."""
        pieces = self._pieces(numbers)
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        tokens = padded(pieces, lengths, self.padding)
        counts = torch.from_numpy(lengths)
        return Batch(
            {"tokens": torch.from_numpy(tokens), "lengths": counts},
            torch.arange(len(pieces)),
            self.names(numbers),
            # at least one column, of padding if need be: chunks are trimmed to their longest row
            counts.clamp(min=1),
            frozenset({"tokens"}),
        )

    def _pieces(self, numbers: Indices) -> list[NDArray[np.int32]]:
        if len(self.tokenised) == 1:
            return self.tokenised[0].many(numbers.tolist())
        sets = self.set_of(numbers)
        pieces: list[NDArray[np.int32]] = [np.zeros(0, np.int32)] * len(numbers)
        for number in np.unique(sets).tolist():
            places = np.flatnonzero(sets == number)
            found = self.tokenised[number].many((numbers[places] - self.starts[number]).tolist())
            for place, piece in zip(places.tolist(), found, strict=True):
                pieces[place] = piece
        return pieces


def padded(pieces: Sequence[NDArray[np.integer]], lengths: Indices, padding: int) -> Indices:
    """Return sequences as rows `[B, S]` of int64 filled up with `padding`; `lengths [B]` are theirs."""
    width = max(int(lengths.max(initial=0)), 1)
    rows = np.full((len(pieces), width), padding, np.int64)
    if lengths.any():
        rows[np.arange(width) < lengths[:, None]] = np.concatenate(pieces)
    return rows
