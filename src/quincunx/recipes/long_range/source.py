"""A task's examples as the engine takes them: sources, and batches padded to their longest sequence.

B examples, S positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from quincunx.data.batch import Batch
from quincunx.data.loader import Collate
from quincunx.data.order import Indices, permutation
from quincunx.nn.positions import sampling
from quincunx.recipes.long_range.data import Examples
from quincunx.seeds import address

PADDING = 0
"""Token id of padding, in every task."""
PADDED = frozenset({"tokens", "second_tokens", "targets", "positions", "second_positions"})
UNMASKED = -100
"""In `targets`: this token is not to be restored. The number that torch's cross-entropy leaves out."""

Sequences = tuple[NDArray[np.integer], ...]
Example = tuple[Sequences, int]


class SequenceSource:
    """Examples of one sequence each, or of a pair, with their labels; sequences are cut to `max_length` tokens."""

    def __init__(self, examples: Examples, max_length: int) -> None:
        self.examples = examples
        self.max_length = max_length
        self._lengths = np.minimum(examples.lengths, max_length)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example after cutting; of a pair, those of the longer sequence."""
        return self._lengths

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        examples = self.examples
        parts = (examples.tokens(index, part)[: self.max_length] for part in range(examples.parts))
        return tuple(parts), int(examples.labels[index])


class SingleSource:
    """Every sequence by itself, those of a pair too: what denoising learns from."""

    def __init__(self, examples: Examples, max_length: int) -> None:
        self.examples = examples
        self.max_length = max_length
        self._lengths = np.minimum(np.diff(examples.offsets), max_length)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence after cutting."""
        return self._lengths

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, index: int) -> Example:
        example, part = divmod(index, self.examples.parts)
        return (self.examples.tokens(example, part)[: self.max_length],), 0


def collate(examples: Sequence[Example], ids: Sequence[int], rows: Sequence[int], seed: int) -> Batch:
    """Return a batch of `tokens [B, S]` (padded with 0), `lengths [B]` and `labels [B]`.

    Of pairs also `second_tokens [B, S]` and `second_lengths [B]`, both padded to the longest sequence of either side.
    `seed` is not drawn from.
    """
    tensors: dict[str, torch.Tensor] = {}
    sides = list(zip(*(sequences for sequences, _ in examples), strict=True))
    lengths = [np.fromiter(map(len, side), np.int64, len(examples)) for side in sides]
    width = max(int(counts.max(initial=1)) for counts in lengths)
    for side, counts, prefix in zip(sides, lengths, ("", "second_"), strict=False):
        padded = np.zeros((len(examples), width), np.int64)
        for row, tokens in enumerate(side):
            padded[row, : len(tokens)] = tokens
        tensors[f"{prefix}tokens"] = torch.from_numpy(padded)
        tensors[f"{prefix}lengths"] = torch.from_numpy(counts)
    labels = np.fromiter((label for _, label in examples), np.int64, len(examples))
    tensors["labels"] = torch.from_numpy(labels)
    longest = torch.from_numpy(np.maximum.reduce(lengths))
    places = torch.tensor(list(rows), dtype=torch.int64)
    # at least one column, of padding if need be: chunks are trimmed to their longest row
    return Batch(tensors, places, ids, longest.clamp(min=1), PADDED & tensors.keys())


@dataclass(frozen=True)
class Masking:
    """A collate that hides a share of each sequence's tokens behind a mask token, and asks for them.

    Which ones is a function of (seed, row): the same in every process and however the batch is cut. At least one token
    of each sequence is masked.
    """

    share: float
    mask_token: int

    def __call__(self, examples: Sequence[Example], ids: Sequence[int], rows: Sequence[int], seed: int) -> Batch:
        """Return a batch of masked `tokens`, `lengths`, and `targets [B, S]`: the hidden ids, UNMASKED elsewhere."""
        batch = collate(examples, ids, rows, seed)
        tokens = batch["tokens"].clone()
        targets = torch.full_like(tokens, UNMASKED)
        for place, (row, length) in enumerate(zip(rows, batch["lengths"].tolist(), strict=True)):
            if not length:
                continue
            chosen = torch.from_numpy(self.chosen(length, address(seed, "masked", row)))
            targets[place, chosen] = tokens[place, chosen]
            tokens[place, chosen] = self.mask_token
        tensors = {"tokens": tokens, "lengths": batch["lengths"], "targets": targets}
        return Batch(tensors, batch.rows, batch.ids, batch.lengths, PADDED & tensors.keys())

    def chosen(self, length: int, seed: int) -> Indices:
        """Return the places of the tokens that are masked in a sequence of so many."""
        count = min(length, max(1, round(self.share * length)))
        return permutation(length, seed)[:count]


@dataclass(frozen=True)
class Numbering:
    """A collate that adds the positions of tokens, where they are sampled.

    Random ones are a function of (seed, row, side of a pair) and of the sequence's length: the same in every process
    and however the batch is cut.
    """

    form: Collate
    size: int
    """Numbers to take them from."""
    continuous: bool
    """Real numbers, in place of whole ones."""
    how: Literal["random", "even", "prefix"] = "random"

    def __call__(self, examples: Sequence[Example], ids: Sequence[int], rows: Sequence[int], seed: int) -> Batch:
        """Return the batch with `positions [B, S]`, of pairs also `second_positions [B, S]`."""
        batch = self.form(examples, ids, rows, seed)
        tensors = dict(batch.tensors)
        for side in ("", "second_"):
            if f"{side}lengths" in batch.tensors:
                keys = torch.tensor([address(seed, f"{side}positions", row) for row in rows], dtype=torch.int64)
                tensors[f"{side}positions"] = self.numbers(
                    batch[f"{side}lengths"], batch[f"{side}tokens"].shape[1], keys
                )
        return replace(batch, tensors=tensors, padded=PADDED & tensors.keys())

    def numbers(self, lengths: torch.Tensor, longest: int, keys: torch.Tensor) -> torch.Tensor:
        """Return the positions `[B, longest]` of sequences of so many tokens `[B]`, with hashes `[B]`."""
        if self.how == "random":
            return sampling.sample(lengths, longest, self.size, keys=keys, continuous=self.continuous)
        spread = sampling.even if self.how == "even" else sampling.prefix
        return spread(lengths, longest, self.size, continuous=self.continuous)
