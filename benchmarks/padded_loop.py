"""Softmax attention on the Long Range Arena as github.com/mlpen/Nystromformer (LRA/code) trains it, in our words.

Its ways, each of which costs time: every sequence is padded to a power of two; attention forms the matrix
of weights, drops from it, and (its setting for softmax) computes it anew in the backward pass; a batch is cut
into floor(batch / limit) chunks as it comes, and the loss is the mean of their means. Its autocast and its gradient
scaler are for GPUs and off here. B examples, S positions, H heads, E head width, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset


@dataclass(frozen=True)
class Shape:
    """A model's sizes and dropout."""

    vocabulary: int
    classes: int
    positions: int
    """Length to which sequences are padded."""
    width: int
    hidden: int
    heads: int
    head_dim: int
    layers: int
    dropout: float


def padded_length(longest: int) -> int:
    """Return the power of two to which sequences of up to so many tokens are padded."""
    return 2 ** math.ceil(math.log2(longest))


class MatrixAttention(nn.Module):
    """Attention that forms its weights [B, H, S, S]; with `recompute` it forms them again in the backward pass."""

    def __init__(self, shape: Shape, recompute: bool) -> None:
        super().__init__()
        inner = shape.heads * shape.head_dim
        self.heads, self.head_dim, self.recompute = shape.heads, shape.head_dim, recompute
        self.query, self.key, self.value = (nn.Linear(shape.width, inner) for _ in range(3))
        self.merge = nn.Linear(inner, shape.width)
        self.drop = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (self._by_head(linear(x)) for linear in (self.query, self.key, self.value))
        arguments = (q, k, v, mask)
        mixed = checkpoint(self._mix, *arguments, use_reentrant=False) if self.recompute else self._mix(*arguments)
        assert isinstance(mixed, Tensor)
        return self.merge(mixed.transpose(1, 2).flatten(2))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, self.head_dim)).transpose(1, 2)

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.head_dim)
        scores = scores - 1e6 * (1 - mask[:, None, None, :])
        return self.drop(torch.softmax(scores, -1)) @ v


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, shape: Shape, recompute: bool) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.attention = MatrixAttention(shape, recompute)
        self.drop = nn.Dropout(shape.dropout)
        self.mlp = nn.Sequential(
            nn.Linear(shape.width, shape.hidden),
            nn.GELU(),
            nn.Dropout(shape.dropout),
            nn.Linear(shape.hidden, shape.width),
            nn.Dropout(shape.dropout),
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.first(x), mask))
        return x + self.mlp(self.second(x))


class PaddedClassifier(nn.Module):
    """Embeddings, blocks, norm, a mean over the padded length, and a head; returns each example's loss [B]."""

    def __init__(self, shape: Shape, recompute: bool = False) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.places = nn.Embedding(shape.positions, shape.width)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.02)
        self.drop = nn.Dropout(shape.dropout)
        self.blocks = nn.ModuleList(Block(shape, recompute) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Sequential(
            nn.Linear(shape.width, shape.hidden), nn.ReLU(), nn.Linear(shape.hidden, shape.classes)
        )

    def forward(self, tokens: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        x = self.drop(self.tokens(tokens) + self.places(torch.arange(tokens.shape[1])))
        for block in self.blocks:
            x = block(x, mask)
        pooled = (self.norm(x) * mask[:, :, None]).mean(1)
        return functional.cross_entropy(self.head(pooled), labels, reduction="none")


class PaddedExamples(Dataset[dict[str, Tensor]]):
    """Sequences kept padded, as its data files are, and made tensors one by one."""

    def __init__(self, sequences: Sequence[NDArray[np.integer]], labels: Sequence[int], positions: int) -> None:
        self._rows = [np.pad(sequence.astype(np.int64), (0, positions - len(sequence))) for sequence in sequences]
        self._labels = labels

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        tokens = torch.tensor(self._rows[index], dtype=torch.long)
        return {"tokens": tokens, "mask": (tokens != 0).float(), "labels": torch.tensor(self._labels[index])}


def train(
    model: PaddedClassifier, examples: PaddedExamples, batch_size: int, limit: int, updates: int, rate: float
) -> Iterator[float]:
    """Train for so many updates, yielding the loss of each after it was applied."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rate, total_steps=updates + 1, pct_start=0.2, anneal_strategy="linear"
    )
    count = max(batch_size // limit, 1)
    model.train()
    data = DataLoader(examples, batch_size=batch_size, shuffle=True, drop_last=True)
    for _, batch in zip(range(updates), data, strict=False):
        optimizer.zero_grad()
        total = 0.0
        chunks = zip(*(torch.chunk(batch[name], count) for name in ("tokens", "mask", "labels")), strict=True)
        for chunk in chunks:
            loss = model(*chunk).mean() / count
            loss.backward()
            total += loss.item()
        optimizer.step()
        cycle.step()
        yield total
