"""Trained tokens outside the vocabulary: slots, the separator, the starts of branches. D width, K slots."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor, nn

from quincunx.recipes.compression.model.layout import Start

STARTS = get_args(Start)
"""Their rows."""
NOISE = 0.5
"""How far new tokens lie from the vocabulary's mean, in its standard deviations: apart enough to take on different
work, near enough that a frozen model reads them as tokens."""


class NewTokens(nn.Module):
    """Embeddings in the units of the vocabulary's.

    The first k slots are the same whatever number is in use, so that the number can be chosen later.

    Args:
        vocabulary: `[V, D]`, the model's token embeddings: type, device and statistics come from there; the noise
            comes from torch's generator.
        slots: Rows of the slot table; 0 where nothing is compressed into slots.
        separator: Whether there is one.
        starts: Whether branches begin with a start; false where only plain texts are read.
    """

    def __init__(self, vocabulary: Tensor, slots: int, separator: bool, starts: bool = True) -> None:
        super().__init__()
        table = vocabulary.detach().float()
        mean, deviation = table.mean(0), table.std(0)

        def rows(count: int) -> nn.Parameter:
            noise = torch.randn(count, len(mean)).to(mean.device)
            return nn.Parameter((mean + NOISE * deviation * noise).to(vocabulary.dtype))

        self.slots = rows(slots) if slots else None
        self.separator = rows(1) if separator else None
        self.starts = rows(len(STARTS)) if starts else None

    def start(self, name: str, batch: int) -> Tensor:
        """Return the embedding `[B, 1, D]` that begins a branch; ValueError when there are none."""
        if self.starts is None:
            raise ValueError(f"there are no starts, and a branch begins with {name}")
        return self.starts[STARTS.index(name)].expand(batch, 1, -1)

    def first_slots(self, count: int, segments: int, batch: int) -> Tensor:
        """Return the first `count` slots for each segment, `[B, N * K, D]`; ValueError when there are not so many."""
        table = self.slots
        if table is None or count > len(table):
            raise ValueError(f"{count} slots are asked for, the table has {0 if table is None else len(table)}")
        return table[:count].repeat(segments, 1).expand(batch, -1, -1)

    def separators(self, segments: int, batch: int) -> Tensor:
        """Return the separator for each segment, `[B, N, D]`; ValueError when there is none."""
        if self.separator is None:
            raise ValueError("there is no separator")
        return self.separator.expand(batch, segments, -1)
