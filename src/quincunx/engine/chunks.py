"""Cutting a logical batch into chunks: by count, by tokens, always by length, never above a limit."""

from __future__ import annotations

import torch
from torch import Tensor


def cut(count: int, lengths: Tensor | None, samples: int | None, tokens: int | None) -> list[Tensor] | None:
    """Return the positions that form each chunk, or None when the whole batch is one chunk as it stands.

    Chunks hold examples of like length, so that each is padded only to its own longest; by count they are as even as
    possible and never above `samples`; by `tokens` a chunk's examples times its longest stays within the limit. An
    example longer than `tokens` is a chunk by itself. `lengths [count]`.
    """
    limit = count if samples is None else min(samples, count)
    if tokens is None or lengths is None:
        if tokens is not None and lengths is None:
            raise ValueError("chunking.tokens needs examples with lengths; this data has none: use chunking.samples")
        if limit >= count:
            return None
        order = torch.arange(count) if lengths is None else torch.argsort(lengths, stable=True)
        return [torch.sort(chunk).values for chunk in torch.tensor_split(order, -(-count // limit))]
    order = torch.argsort(lengths, stable=True)
    sizes = lengths[order].tolist()
    chunks: list[Tensor] = []
    start = 0
    for end in range(1, count + 1):
        # sizes grow along the order, so the next example would be the longest of the chunk
        if end == count or end + 1 - start > limit or (end + 1 - start) * sizes[end] > tokens:
            chunks.append(torch.sort(order[start:end]).values)
            start = end
    return None if len(chunks) == 1 else chunks
