"""Exact search by inner product, in blocks, so that scores of all pairs never exist at once.

Q queries, N documents, D width, k results a query.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quincunx.nn.attention.parts import without_autocast

NOTHING = -1
"""In place of a document's number where fewer than k documents are there."""
BLOCK = 2**23
"""Scores of a block, 32 MiB of them: what stays in a processor's reach."""

Score = Callable[[int, int, int, int], Tensor]
"""`score(q0, q1, d0, d1)` returns the scores `[q1 - q0, d1 - d0]` of a block of queries and documents."""


@dataclass(frozen=True)
class Found:
    """What a search returns, best first; equal scores in the order of the documents."""

    documents: NDArray[np.int64]
    """`[Q, k]`, NOTHING where there are fewer than k."""
    scores: NDArray[np.float32]
    """`[Q, k]`, minus infinity beside NOTHING."""


def search(queries: Tensor, documents: Tensor, k: int, block: int = BLOCK) -> Found:
    """Return the k documents `[N, D]` of highest inner product with each query `[Q, D]`, computed in float32."""
    if queries.shape[-1] != documents.shape[-1]:
        raise ValueError(f"queries are {queries.shape[-1]} wide and documents {documents.shape[-1]}")
    queries, transposed = queries.float(), documents.float().T
    with without_autocast(queries):
        return search_by(
            lambda q0, q1, d0, d1: queries[q0:q1] @ transposed[:, d0:d1], len(queries), len(documents), k, block
        )


def search_by(score: Score, queries: int, documents: int, k: int, block: int = BLOCK) -> Found:
    """Return the k best of so many documents for each query, by any score that can be had block by block."""
    if k < 1:
        raise ValueError(f"k is {k}; a search returns at least one document")
    found = np.full((queries, k), NOTHING, np.int64)
    scores = np.full((queries, k), -np.inf, np.float32)
    rows = max(1, min(queries, 256))
    columns = max(k, block // rows)
    for q0 in range(0, queries, rows):
        q1 = min(queries, q0 + rows)
        best: tuple[Tensor, Tensor] | None = None
        for d0 in range(0, documents, columns):
            d1 = min(documents, d0 + columns)
            values = score(q0, q1, d0, d1).float()
            numbers = torch.arange(d0, d1, device=values.device).expand_as(values)
            if best is not None:  # those found before come first, which keeps equal scores in order
                values, numbers = torch.cat([best[0], values], 1), torch.cat([best[1], numbers], 1)
            best = _top(values, numbers, k)
        if best is not None:
            width = best[0].shape[1]
            scores[q0:q1, :width] = best[0].cpu().numpy()
            found[q0:q1, :width] = best[1].cpu().numpy()
    return Found(found, scores)


def _top(values: Tensor, numbers: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best values of each row and their numbers, sorted; equal values in their order in the row."""
    width = values.shape[1]
    if k < width:
        top, places = torch.topk(values, k, dim=1, sorted=False)
        least = top.amin(1, keepdim=True)
        # topk takes any of those that equal the k-th value: where there are more of them, take the first
        crowded = (values >= least).sum(1) > k
        if bool(crowded.any()):
            places = places.clone()
            places[crowded] = _first_of_equals(values[crowded], least[crowded], k)
        places = places.sort(1).values
        values, numbers = values.gather(1, places), numbers.gather(1, places)
    order = torch.sort(values, dim=1, descending=True, stable=True)
    return order.values, numbers.gather(1, order.indices)


def _first_of_equals(values: Tensor, least: Tensor, k: int) -> Tensor:
    above = values > least
    equal = values == least
    room = k - above.sum(1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(1) <= room))
    return chosen.nonzero()[:, 1].view(len(values), k)
