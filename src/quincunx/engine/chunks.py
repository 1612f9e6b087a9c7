"""Cutting a logical batch into chunks: by count, by tokens, always by length, never above a limit.

S tokens of the longest example of a chunk.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

OVERHEAD = {"cpu": 64}
"""What a chunk costs besides its tokens, in tokens, by type of device: adding its gradients to all weights and clearing
those of the embedding table. On two cores and an encoder of 6 layers of 384 it was 40 tokens."""
ELSEWHERE = 2048
"""The same on other devices, where a small chunk costs the starting of its kernels. An estimate."""

PADDED = 8
"""How many times its limit of tokens a chunk may be with padding, where that is held but not computed."""


def overhead(device: torch.device) -> int:
    """Return what a chunk costs on a device besides its tokens, in tokens."""
    return OVERHEAD.get(device.type, ELSEWHERE)


def cut(
    count: int, lengths: Tensor | None, samples: int | None, tokens: int | None, each: int | None = OVERHEAD["cpu"]
) -> list[Tensor] | None:
    """Return the positions that form each chunk, or None when the whole batch is one chunk as it stands.

    Chunks hold examples of like length, so that each is padded only to its own longest. By count they are as even as
    possible and never above `samples`. By `tokens` a chunk's examples times its longest stays within the limit, and of
    all such cuts it is the one with the least tokens, padding and `each` for every chunk counted. `each` None says that
    padding is not computed: then there are as few chunks as their own tokens allow, of any lengths. An example longer
    than `tokens` is a chunk by itself. `lengths [count]`.
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
    sizes = lengths[order].numpy()
    bounds = fewest(sizes, limit, tokens) if each is None else cheapest(sizes, limit, tokens, each)
    if len(bounds) == 2:
        return None
    return [torch.sort(order[start:end]).values for start, end in pairwise(bounds)]


def cheapest(sizes: np.ndarray, samples: int, tokens: int, each: int) -> list[int]:
    """Return where to cut ascending sizes: 0, the end of each chunk, their number last.

    The cheapest cut of the first `end` examples is the cheapest of the first `start`, and a chunk from there on, for
    some start; a chunk's cost is its examples times its longest, and `each`.
    """
    sizes = np.maximum(sizes.astype(np.int64), 1)
    cost = np.zeros(len(sizes) + 1, np.int64)
    came = np.zeros(len(sizes) + 1, np.int64)
    for end in range(1, len(sizes) + 1):
        longest = int(sizes[end - 1])
        most = max(1, min(samples, tokens // longest, end))
        starts = np.arange(end - most, end)
        costs = cost[starts] + (end - starts) * longest + each
        best = int(costs.argmin())
        cost[end], came[end] = costs[best], starts[best]
    bounds = [len(sizes)]
    while bounds[-1] > 0:
        bounds.append(int(came[bounds[-1]]))
    return bounds[::-1] if len(sizes) else [0, 0]


def fewest(sizes: np.ndarray, samples: int, tokens: int) -> list[int]:
    """Return where to cut ascending sizes into few chunks of at most so many tokens, padding not counted.

    A chunk is padded all the same to hold its results, so its examples times its longest stay within a few times that.
    """
    bounds, held = [0], 0
    for end, size in enumerate(sizes.tolist()):
        rows = end - bounds[-1]
        if rows and (rows >= samples or held + size > tokens or (rows + 1) * size > PADDED * tokens):
            bounds.append(end)
            held = 0
        held += size
    return [*bounds, len(sizes)]
