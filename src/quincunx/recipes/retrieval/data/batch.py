"""A logical batch of queries and documents, and how they belong together.

B anchors, Q query rows, N document rows, S tokens, P positive pairs, K explicit negative pairs, R pairs known to be
relevant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from quincunx.data.batch import Batch


@dataclass(frozen=True, kw_only=True)
class RetrievalBatch(Batch):
    """Two sides that are encoded row by row, and links between their rows; `len` is the number of anchors, B.

    A text that several anchors share, by its key or by its content, is one row. `lengths [B]` are the tokens that each
    anchor brought in, on both sides: a shared row counts for the first.
    """

    sides: Mapping[str, Batch]
    """`query` and `document`: each a batch of `tokens [B, S]` and `lengths [B]` whose rows are its places here."""
    links: Mapping[str, Tensor]
    """Pairs of rows, int64, query first:
    `positives [P, 2]`, what the anchors drew; `positive_scores [P]` float32, a teacher's, NaN where it gave none;
    `negatives [K, 2]`, explicit ones, none of them known to be relevant; `negative_scores [K]` likewise;
    `known [R, 2]`, every pair of rows that is judged relevant, the positives among them;
    and of the rows: `query_keys [Q]`, `document_keys [N]`, the text's number in all training data (collection * 2^40 +
    place); `query_hashes [Q]`, `document_hashes [N]`, its content hash.
    Scores are there where a collection has some."""

    def select(self, indices: Sequence[int] | Tensor) -> NoReturn:
        """Refuse: the rows of one anchor are the negatives of the others, so a part would be another batch."""
        raise TypeError(
            "a retrieval batch is not cut: every row is a negative of the other anchors. "
            "Cut its sides, as a represented objective's parts are"
        )

    def to(self, device: torch.device) -> RetrievalBatch:
        """Return the batch with both sides and the links on a device."""
        if self.rows.device == device:
            return self
        return RetrievalBatch(
            {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()},
            self.rows.to(device, non_blocking=True),
            self.ids,
            self.lengths,
            self.padded,
            sides={name: side.to(device) for name, side in self.sides.items()},
            links={name: tensor.to(device, non_blocking=True) for name, tensor in self.links.items()},
        )
