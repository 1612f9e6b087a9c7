"""Positions that are counted: every sequence begins with the first row of a table.

B batch, S sequence, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quincunx.errors import DataError
from quincunx.nn.positions.tables import sinusoids


class Positions(nn.Module):
    """Adds a row of the position table to every token's state.

    Args:
        max_seq_len: Rows of the table: the longest sequence.
        embedding_dim: Model width D.
        learned: True: the table is trained, and starts as N(0, 0.02²). False: it holds `sinusoids` and is no part of
            the weights.
    """

    table: Tensor

    def __init__(self, max_seq_len: int, embedding_dim: int, learned: bool) -> None:
        super().__init__()
        if learned:
            self.table = nn.Parameter(torch.empty(max_seq_len, embedding_dim))
            nn.init.normal_(self.table, std=0.02)
        else:
            table = sinusoids(max_seq_len, embedding_dim).to(torch.get_default_dtype())
            self.register_buffer("table", table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return states x `[B, S, D]` with the first S rows of the table added; DataError when S exceeds the table."""
        length, rows = x.shape[1], self.table.shape[0]
        if length > rows:
            raise DataError(
                f"a sequence has {length} tokens, the position table {rows} rows: cut the sequences, or raise "
                "encoder.max_seq_len"
            )
        return x + self.table[:length]
