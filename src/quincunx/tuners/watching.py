"""What the bottlenecks of a model's adapters hold in training, row by row, whatever the rows were padded to.

The z-regulariser of training: `regulariser.py` has the same by hand, for a model that is called by hand.
B rows of a chunk, P positions of a pass, R width of a bottleneck.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.nn.pretrained.packed import Packing
from quincunx.tuners.positions import Positions, packed_rows
from quincunx.tuners.regulariser import some_holders

OF_THE_ENCODER = re.compile(r"(encoder_attn\.[kv]_proj|EncDecAttention\.[kv]|crossattention\.self\.(key|value))(\.|$)")
"""Maps of a decoder that are fed what an encoder gives."""


class Squares:
    """What was seen of one chunk: the mean squares over the width of each pass through each adapter."""

    def __init__(self) -> None:
        self._passes: dict[str, list[tuple[Tensor, Tensor | Packing | None]]] = {}

    def add(self, path: str, squares: Tensor, real: Tensor | Packing | None) -> None:
        """Note a pass `[B]` or `[B, P]`, and which of its positions count.

        Nothing is computed here: a layer that is computed again would have to do it again.
        """
        self._passes.setdefault(path, []).append((squares, real))

    def means(self, rows: int) -> dict[str, Tensor]:
        """Return each adapter's mean of z squared of each of so many rows `[B]`, over all its passes.

        Raises:
            UsageError: It was passed with another number of rows.
        """
        found: dict[str, Tensor] = {}
        for path, passes in self._passes.items():
            parts = [_by_row(squares, real) for squares, real in passes]
            for sums, _ in parts:
                if len(sums) != rows:
                    raise UsageError(
                        f"the adapter {path} was passed with {len(sums)} texts (empty ones left out) for {rows} rows "
                        "of a batch: how much each counts is not known, so they cannot be regularised"
                    )
            sums, counts = (torch.stack(each).sum(0) for each in zip(*parts, strict=True))
            found[path] = sums / counts.clamp(min=1)
        return found


def _by_row(squares: Tensor, real: Tensor | Packing | None) -> tuple[Tensor, Tensor]:
    """Return the sum over the positions that count of each row `[B]`, and their number."""
    if squares.ndim == 1:  # a vector a row, without positions
        return squares, torch.ones_like(squares)
    if isinstance(real, Packing):
        rows, texts = packed_rows(real, squares.device)
        sums = squares.new_zeros(texts).index_add(0, rows, squares[0])
        return sums, torch.bincount(rows, minlength=texts).to(squares)
    weights = torch.ones_like(squares) if real is None else (real != 0).to(squares)
    return (squares * weights).sum(1), weights.sum(1)


class Watch:
    """Watches the adapters of a model in training mode; evaluation is left alone.

    Args:
        model: With adapters; they are told to whom they tell what they hold. Copies of the model are not watched.

    Raises:
        UsageError: No adapter has a bottleneck.
    """

    def __init__(self, model: nn.Module) -> None:
        kept = some_holders(model)
        self.paths = tuple(path.removesuffix(".default") for path in kept)
        """Of the adapters."""
        self.positions = Positions(model)
        self._squares: Squares | None = None
        for path, each in zip(self.paths, kept.values(), strict=True):
            each.watcher = partial(self._note, path, OF_THE_ENCODER.search(path) is not None)

    @contextmanager
    def passing(self) -> Iterator[Squares]:
        """Collect what adapters hold in the passes inside. A layer that is computed again later is not counted."""
        self.positions.begin()
        self._squares = Squares()
        try:
            yield self._squares
        finally:
            self._squares = None

    def _note(self, path: str, encoder: bool, squares: Tensor) -> None:
        if self._squares is None:
            return
        if squares.ndim == 1:
            self._squares.add(path, squares, None)
            return
        squares = squares.reshape(len(squares), -1)
        real = self.positions.of(path, (squares.shape[0], squares.shape[1]), encoder=encoder)
        self._squares.add(path, squares, real)
