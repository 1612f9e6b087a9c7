"""Vectors as encoders give them, and small indexes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.index.building import Arrays

MADE: dict[str, Any] = {"weights": "a", "tokenizer": "t", "similarity": "cosine", "dimension": 0}


def clustered(rows: int, width: int, seed: int = 0, *, topics: int = 40, spread: float = 0.6) -> NDArray[np.float32]:
    """Return vectors `[rows, width]` of length 1 round a few directions, the same for the same seed."""
    centres = np.random.default_rng(99).standard_normal((topics, width))
    generator = np.random.default_rng(seed)
    found = centres[generator.integers(0, topics, rows)] + spread * generator.standard_normal((rows, width))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def source(vectors: NDArray[np.float32], ids: Sequence[str] | None = None, **made: Any) -> Arrays:
    """Return vectors `[N, D]` with ids, d0, d1 ... where none are given."""
    names = [f"d{row}" for row in range(len(vectors))] if ids is None else ids
    return Arrays(names, vectors, {**MADE, "dimension": vectors.shape[1], **made})


def sorted_by_hand(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int
) -> tuple[list[list[int]], list[list[float]]]:
    """Return the k best documents of each query and their inner products in float64, equal ones in their order."""
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    rows = [sorted(range(len(vectors)), key=lambda d: (-row[d], d))[:k] for row in scores]
    return rows, [[float(scores[q][d]) for d in row] for q, row in enumerate(rows)]
