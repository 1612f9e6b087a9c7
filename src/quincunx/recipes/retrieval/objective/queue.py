"""A ring of vectors with the identity of their texts: the newest entries overwrite the oldest.

Everything is a buffer, so a checkpoint holds it and restores it bit for bit. M entries, D width, B new entries.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quincunx.recipes.retrieval.objective.masks import Identity


class Queue(nn.Module):
    """The last M vectors of one side.

    Args:
        size: M.
        width: D.
    """

    vectors: Tensor
    keys: Tensor
    hashes: Tensor
    stamps: Tensor
    position: Tensor
    filled: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("vectors", torch.zeros(size, width))
        self.register_buffer("keys", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("hashes", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("stamps", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        return int(self.filled)

    def add(self, vectors: Tensor, identity: Identity, stamp: int) -> Tensor:
        """Store vectors `[B, D]`, B at most M, and return the places they took, `[B]`.

        `stamp` says when, in updates.
        """
        count = len(vectors)
        places = (self.position + torch.arange(count, device=self.position.device)) % self.size
        self.vectors[places] = vectors.to(self.vectors)
        self.keys[places] = identity.keys
        self.hashes[places] = identity.hashes
        self.stamps[places] = stamp
        self.position.add_(count).remainder_(self.size)
        self.filled.add_(count).clamp_(max=self.size)
        return places

    def entries(self, oldest: int | None = None) -> tuple[Tensor, Identity]:
        """Return the vectors `[m, D]` that are there, and their identities.

        `oldest` leaves out what was stored before this update.
        """
        count = len(self)
        there = slice(0, count)  # a ring fills from its start, and is full once it wraps
        if oldest is None:
            return self.vectors[there], Identity(self.keys[there], self.hashes[there])
        young = self.stamps[there] >= oldest
        return self.vectors[there][young], Identity(self.keys[there][young], self.hashes[there][young])

    def clear(self) -> None:
        """Forget all entries."""
        self.position.zero_()
        self.filled.zero_()
