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
    count: int,
    lengths: Tensor | None,
    samples: int | None,
    tokens: int | None,
    each: int | None = OVERHEAD["cpu"],
    parts: Tensor | None = None,
) -> list[Tensor] | None:
    """Return the positions that form each chunk, or None when the whole batch is one chunk as it stands.

    Chunks hold examples of like length, so that each is padded only to its own longest. By count they are as even as
    possible and never above `samples`. By `tokens` a chunk's examples times its longest stays within the limit, and of
    all such cuts it is the one with the least tokens, padding and `each` for every chunk counted. `each` None says that
    padding is not computed: then there are as few chunks as their own tokens allow, of any lengths. An example longer
    than `tokens` is a chunk by itself. `lengths [count]`.

    Where an example has parts that are padded apart, `parts [count, P]`, a chunk's longest is the sum of the longest of
    each; cuts are looked for among examples in the order of their lengths, and of each part.
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
    if each is None:
        bounds = fewest(lengths[order].numpy(), limit, tokens)
    elif parts is None:
        bounds = cheapest(lengths[order].numpy(), limit, tokens, each)
    else:
        # by length within equal parts
        orders = [order, *(order[torch.argsort(part[order], stable=True)] for part in parts.unbind(1))]
        found = [(*cheapest_of_parts(parts[one].numpy(), limit, tokens, each), one) for one in orders]
        _, bounds, order = min(found, key=lambda one: one[0])
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
    return _bounds(came)


def cheapest_of_parts(sizes: np.ndarray, samples: int, tokens: int, each: int) -> tuple[int, list[int]]:
    """Return what the cheapest cut of sizes `[n, P]` costs, and where it cuts them; as `cheapest`, in the order given.

    A chunk's longest is the sum of the longest of each part.
    """
    sizes = sizes.astype(np.int64)
    cost = np.zeros(len(sizes) + 1, np.int64)
    came = np.zeros(len(sizes) + 1, np.int64)
    for end in range(1, len(sizes) + 1):
        own = max(1, int(sizes[end - 1].sum()))
        most = max(1, min(samples, tokens // own, end))
        # of chunks from here backwards: one example, two ...
        longest = np.maximum(np.maximum.accumulate(sizes[end - most : end][::-1], 0).sum(1), 1)
        costs = np.arange(1, most + 1) * longest
        costs = costs[: max(1, int(np.searchsorted(costs, tokens, side="right")))]
        starts = np.arange(end - 1, end - 1 - len(costs), -1)
        totals = cost[starts] + costs + each
        best = int(totals.argmin())
        cost[end], came[end] = totals[best], starts[best]
    return int(cost[-1]), _bounds(came)


def _bounds(came: np.ndarray) -> list[int]:
    """Return where a cut begins and ends, from where the last chunk of every beginning does."""
    bounds = [len(came) - 1]
    while bounds[-1] > 0:
        bounds.append(int(came[bounds[-1]]))
    return bounds[::-1] if len(came) > 1 else [0, 0]


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
