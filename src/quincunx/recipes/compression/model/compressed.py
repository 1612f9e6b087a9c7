"""A compressed context as it is kept: what branches see of it, and nothing else.

B contexts, M compressed tokens of each (of all segments that branches see), H heads of keys, E head width, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quincunx.errors import UsageError
from quincunx.nn.pretrained.cache import Layers
from quincunx.recipes.compression.model import layout
from quincunx.recipes.compression.model.layout import Tokens


@dataclass(frozen=True)
class Compressed:
    """Keys and values of every layer, or embeddings; one of the two."""

    positions: Tensor
    """`[B, M]`: where the compressed tokens stand."""
    seen: Tensor
    """`[B, M]` bool: false where a row has fewer."""
    following: Tensor
    """`[B, 1]` or `[B, P]`: the positions of the tokens that come next; counted on from the last one by one."""
    layers: Layers | None = None
    """Keys and values `[B, H, M, E]` of each layer."""
    embeddings: Tensor | None = None
    """`[B, M, D]`."""

    def __post_init__(self) -> None:
        if (self.layers is None) == (self.embeddings is None):
            raise ValueError("a compressed context has either keys and values, or embeddings")

    def __len__(self) -> int:
        return len(self.seen)

    @property
    def bytes(self) -> int:
        """How much memory the keys and values, or embeddings, take."""
        tensors = [self.embeddings] if self.embeddings is not None else [t for pair in self.layers or () for t in pair]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def select(self, rows: Sequence[int] | Tensor) -> Compressed:
        """Return the contexts at these places, in this order; one may come several times."""
        index = torch.as_tensor(rows, dtype=torch.int64, device=self.seen.device)
        return self._each(lambda tensor: tensor[index.to(tensor.device)])

    def detach(self) -> Compressed:
        """Return the same without its history."""
        return self._each(Tensor.detach)

    def to(self, device: torch.device | str) -> Compressed:
        """Return the same on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def following_positions(self, count: int) -> Tensor:
        """Return the positions `[B, count]` of the tokens that come next.

        Raises:
            UsageError: They were drawn, and fewer of them.
        """
        known = self.following.shape[1]
        if known >= count:
            return self.following[:, :count]
        if known > 1:
            raise UsageError(
                f"positions were drawn for {known} tokens after the context, {count} are asked for: compress it with "
                "more, or generate fewer"
            )
        return self.following + torch.arange(count, device=self.following.device)

    @staticmethod
    def concat(parts: Sequence[Compressed]) -> Compressed:
        """Return the contexts of all parts as rows of one; UsageError where they differ in kind."""
        _alike(parts)
        longest = max(part.seen.shape[1] for part in parts)
        ahead = _ahead(parts)
        wide = [part._padded(longest) for part in parts]
        return _merged(wide, 0, torch.cat([part.following_positions(ahead) for part in parts]))

    @staticmethod
    def join(parts: Sequence[Compressed]) -> Compressed:
        """Return parts of equal rows side by side: row b sees what row b of every part holds.

        What comes next follows the last part. UsageError where they differ in kind or number of rows.
        """
        _alike(parts)
        if len({len(part) for part in parts}) > 1:
            raise UsageError(f"contexts side by side need as many rows, found {[len(part) for part in parts]}")
        return _merged(parts, 1, parts[-1].following)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Compressed:
        layers = self.layers and tuple((change(keys), change(values)) for keys, values in self.layers)
        embeddings = None if self.embeddings is None else change(self.embeddings)
        return Compressed(change(self.positions), change(self.seen), change(self.following), layers, embeddings)

    def _padded(self, longest: int) -> Compressed:
        extra = longest - self.seen.shape[1]
        if extra == 0:
            return self

        def grown(tensor: Tensor, dim: int) -> Tensor:
            shape = list(tensor.shape)
            shape[dim] = extra
            return torch.cat([tensor, tensor.new_zeros(shape)], dim)

        layers = self.layers and tuple((grown(keys, 2), grown(values, 2)) for keys, values in self.layers)
        embeddings = None if self.embeddings is None else grown(self.embeddings, 1)
        return Compressed(grown(self.positions, 1), grown(self.seen, 1), self.following, layers, embeddings)


def memory_tokens(compressed: Compressed) -> Tokens:
    """Return a compressed context as tokens that others see."""
    return layout.memory(compressed.seen, compressed.positions, kept=compressed.layers is not None)


def _merged(parts: Sequence[Compressed], dim: int, following: Tensor) -> Compressed:
    """Return parts along rows (0) or tokens (1)."""
    every = [part.layers for part in parts if part.layers is not None]
    inner = 0 if dim == 0 else 2
    layers = tuple(
        (torch.cat([keys for keys, _ in layer], inner), torch.cat([values for _, values in layer], inner))
        for layer in zip(*every, strict=True)
    )
    embedded = [part.embeddings for part in parts if part.embeddings is not None]
    return Compressed(
        torch.cat([part.positions for part in parts], dim),
        torch.cat([part.seen for part in parts], dim),
        following,
        layers or None,
        torch.cat(embedded, dim) if embedded else None,
    )


def _ahead(parts: Sequence[Compressed]) -> int:
    """Return for how many tokens every part knows what comes next."""
    drawn = [part.following.shape[1] for part in parts if part.following.shape[1] > 1]
    return min(drawn, default=1)


def _alike(parts: Sequence[Compressed]) -> None:
    if not parts:
        raise UsageError("there is no compressed context to put together")
    kinds = {"keys and values" if part.layers is not None else "embeddings" for part in parts}
    depths = {len(part.layers) for part in parts if part.layers is not None}
    if len(kinds) > 1 or len(depths) > 1:
        raise UsageError("compressed contexts of different models or read-outs cannot be put together")
