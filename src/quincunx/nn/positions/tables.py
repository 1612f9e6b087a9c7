"""Position vectors: sines and cosines (Vaswani et al. 2017), or a table of Gaussian noise, for numbers given from
outside. B batch, S sequence, N rows of the table, D model width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from quincunx.errors import DataError
from quincunx.nn.dropout import TokenDropout


def sinusoids(length: int, width: int, base: float = 10000.0) -> Tensor:
    """Return the fixed position table `[length, width]`, float64: sines in even columns, cosines in odd ones.

    Columns 2i and 2i+1 of row t hold sin and cos of t / base**(2i / width). An odd width ends with a sine.
    """
    return sinusoids_at(torch.arange(length, dtype=torch.float64), width, base)


def sinusoids_at(positions: Tensor, width: int, base: float = 10000.0) -> Tensor:
    """Return the rows `[..., width]`, float64, of `sinusoids` at any numbers `[...]`, whole or not."""
    even = torch.arange(0, width, 2, dtype=torch.float64, device=positions.device)
    angles = positions.double()[..., None] / base ** (even / width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :width]


class PositionTable(nn.Module):
    """Gives each token the vector of its position.

    Whole positions take a row of the table. Between two rows a table of sinusoids that is not trained is computed at
    the number itself; every other one is interpolated linearly.

    Args:
        kind: `sinusoidal`, or `random`: rows of N(0, scale²), drawn from torch's generator and kept with the weights.
        size: Rows N: positions are numbers from 0 to N - 1.
        width: Model width D.
        learnable: Train the rows, from there.
        dropout: Probability to drop an element of a position vector, apart from any dropout on the sum.
        scale: What sinusoids are multiplied by, and the standard deviation of random rows; the size of the embeddings
            that they are added to is a good choice. Kept with the weights, of a table that is not itself. None: 1.
    """

    table: Tensor
    scale: Tensor | None

    def __init__(
        self,
        kind: Literal["sinusoidal", "random"],
        size: int,
        width: int,
        *,
        learnable: bool = False,
        dropout: float = 0.0,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.width = width
        self.computed = kind == "sinusoidal" and not learnable
        size_of_rows = 1.0 if scale is None else scale
        dtype = torch.get_default_dtype()
        kept = self.computed and scale is not None
        # what the embeddings were when training began is known then alone: whoever loads the weights needs it
        self.register_buffer("scale", torch.tensor(scale, dtype=dtype) if kept else None)
        if kind == "random":
            table = torch.randn(size, width) * size_of_rows
        else:
            table = (sinusoids(size, width) * (1.0 if self.computed else size_of_rows)).to(dtype)
        if learnable:
            self.table = nn.Parameter(table)
        else:
            self.register_buffer("table", table, persistent=kind == "random")
        self.dropout = TokenDropout(dropout)

    def forward(self, positions: Tensor, salt: int = 0) -> Tensor:
        """Return the position vectors `[B, S, D]`.

        Args:
            positions: `[B, S]`, int64 or floating point, from 0 to N - 1.
            salt: Tells passes of the same rows apart, for the dropout.

        Raises:
            DataError: A position lies outside the table (looked at where it costs nothing: on a CPU, uncompiled).
        """
        if positions.device.type == "cpu" and not torch.compiler.is_compiling() and positions.numel():
            self._check(positions)
        return self.dropout(self._rows(positions), salt)

    def _rows(self, positions: Tensor) -> Tensor:
        if self.computed:
            whole = not positions.is_floating_point()
            rows = nn.functional.embedding(positions, self.table) if whole else sinusoids_at(positions, self.width)
            return (rows if self.scale is None else rows * self.scale).to(self.table.dtype)
        if not positions.is_floating_point():
            return nn.functional.embedding(positions, self.table)
        below = positions.floor()
        rest = (positions - below)[..., None].to(self.table.dtype)
        first = below.long()
        second = (first + 1).clamp(max=len(self.table) - 1)
        return torch.lerp(nn.functional.embedding(first, self.table), nn.functional.embedding(second, self.table), rest)

    def _check(self, positions: Tensor) -> None:
        least, most, rows = positions.min().item(), positions.max().item(), len(self.table)
        if not (least >= 0 and most <= rows - 1):
            raise DataError(
                f"positions lie between {least:g} and {most:g}, the table has {rows} rows, for 0 to {rows - 1}: raise "
                "its size (max_posencs), or cut the sequences"
            )

    def extra_repr(self) -> str:
        """Return what `print(module)` shows."""
        rows, width = self.table.shape
        return f"{self.kind}, size={rows}, width={width}, learnable={isinstance(self.table, nn.Parameter)}"
