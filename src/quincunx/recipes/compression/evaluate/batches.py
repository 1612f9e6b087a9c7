"""Losses of every predicted token of a split, examples of like length computed together.

B batch, N examples, P positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from quincunx.data.batch import Batch
from quincunx.data.loader import Source
from quincunx.engine.runtime import Runtime
from quincunx.recipes.compression.blotch import UNTRAINED
from quincunx.recipes.compression.model.compressor import Compressor
from quincunx.recipes.compression.shaping import Shaping

TOP = 5


@dataclass
class Found:
    """What was found for one kind of text; nan where an example has no token to predict."""

    loss: NDArray[np.float64]
    """`[N, P]`: by example and place among those that are to be predicted."""
    right: NDArray[np.float64]
    """`[N, P]`: 1 where the likeliest token is the right one, else 0."""
    in_top: NDArray[np.float64]
    """`[N, P]`: 1 where the right one is among the five likeliest."""

    @property
    def tokens(self) -> int:
        """Tokens that were predicted."""
        return int((~np.isnan(self.loss)).sum())

    @property
    def whole(self) -> NDArray[np.bool_]:
        """`[M]`: whether all tokens of an example are right, of examples with any to predict; only then does greedy
        decoding give exactly these."""
        return np.nanmin(self.right[~np.isnan(self.right).all(axis=1)], axis=1) == 1


def predictions(
    model: nn.Module, source: Source, shaping: Shaping, runtime: Runtime, size: int, seed: int, limit: int | None = None
) -> dict[str, Found]:
    """Return what is found for each branch of the shaping, examples in the order of the source.

    Args:
        model: A `Compressor`, in eval mode.
        source: Examples.
        shaping: How they become batches; each example is shaped by its own number, whatever it is computed with.
        runtime: Where it is computed.
        size: Examples computed at once.
        seed: Of what the shaping draws.
        limit: Only the first so many examples.
    """
    compressor = cast("Compressor", model)
    count = len(source) if limit is None else min(limit, len(source))
    rows: dict[str, list[tuple[int, NDArray[np.float64]]]] = {name: [] for name in shaping.branches}
    for batch in batches(source, shaping, size, seed, count):
        with torch.no_grad(), runtime.autocast():
            moved = batch.to(runtime.device)
            states = compressor.states(moved, shaping.branches)
            for name in shaping.branches:
                targets = moved[f"{name}_targets"]
                trained = targets != UNTRAINED
                found = _scored(compressor.logits(states[name][trained]).float(), targets[trained])
                ends = torch.cumsum(trained.sum(1), 0).cpu().numpy()
                pieces = np.split(found.cpu().numpy().astype(np.float64), ends[:-1], axis=1)
                rows[name] += zip(cast("Sequence[int]", batch.ids), pieces, strict=True)
    return {name: _table(found, count) for name, found in rows.items()}


def batches(source: Source, shaping: Shaping, size: int, seed: int, count: int) -> Iterator[Batch]:
    """Yield the first examples of a source as batches, longest last."""
    lengths = source.lengths
    order = np.arange(count) if lengths is None else np.argsort(lengths[:count], kind="stable")
    for start in range(0, count, size):
        ids = order[start : start + size].tolist()
        yield shaping([source[i] for i in ids], ids, ids, seed)


def _scored(logits: Tensor, targets: Tensor) -> Tensor:
    """Return loss, whether right, whether among the likeliest: `[3, T]` of logits `[T, V]`."""
    loss = functional.cross_entropy(logits, targets, reduction="none")
    above = (logits > logits.gather(1, targets[:, None])).sum(1)
    return torch.stack([loss, (above == 0).float(), (above < TOP).float()])


def _table(rows: list[tuple[int, NDArray[np.float64]]], count: int) -> Found:
    longest = max((piece.shape[1] for _, piece in rows), default=0)
    made = np.full((3, count, longest), np.nan)
    for number, piece in rows:
        made[:, number, : piece.shape[1]] = piece
    return Found(*made)
