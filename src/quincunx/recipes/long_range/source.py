"""ListOps examples as the engine takes them: a source, and batches padded to their longest sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from quincunx.data.batch import Batch
from quincunx.recipes.long_range.data import Examples

PADDED = frozenset({"tokens"})
Example = tuple[NDArray[np.uint8], int]


class SequenceSource:
    """Sequences with their labels, cut to `max_length` tokens."""

    def __init__(self, examples: Examples, max_length: int) -> None:
        self.examples = examples
        self.max_length = max_length
        self._lengths = np.minimum(examples.lengths, max_length)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example after cutting."""
        return self._lengths

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples.tokens(index)[: self.max_length], int(self.examples.labels[index])


def collate(examples: Sequence[Example], ids: Sequence[int], rows: Sequence[int], seed: int) -> Batch:
    """Return a batch of `tokens [B, S]` (padded with 0), `lengths [B]` and `labels [B]`; `seed` is not drawn from."""
    lengths = np.fromiter((len(tokens) for tokens, _ in examples), np.int64, len(examples))
    padded = np.zeros((len(examples), int(lengths.max(initial=1))), np.int64)
    for row, (tokens, _) in enumerate(examples):
        padded[row, : len(tokens)] = tokens
    labels = np.fromiter((label for _, label in examples), np.int64, len(examples))
    counts = torch.from_numpy(lengths)
    tensors = {"tokens": torch.from_numpy(padded), "lengths": counts, "labels": torch.from_numpy(labels)}
    return Batch(tensors, torch.tensor(list(rows), dtype=torch.int64), ids, counts, PADDED)
