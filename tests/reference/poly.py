"""The poly-encoder in plain numpy, one query and one document at a time: codes, what a document takes from them, score.

Codes that are not there are left out of the loops instead of being masked.
"""

from __future__ import annotations

import numpy as np


def softmax(values: np.ndarray) -> np.ndarray:
    chances = np.exp(values - values.max())
    return chances / chances.sum()


def taken(query: np.ndarray, vectors: np.ndarray, scale: float) -> np.ndarray:
    """Return what a query `[D]` takes from vectors `[M, D]`."""
    weights = softmax(np.array([scale * (query @ vector) for vector in vectors]))
    return sum(weight * vector for weight, vector in zip(weights, vectors, strict=True))


def taken_by_heads(query: np.ndarray, vectors: np.ndarray, weights: dict[str, np.ndarray], heads: int) -> np.ndarray:
    """The same with projections, `weights` by their names in the module's state."""

    def project(name: str, x: np.ndarray) -> np.ndarray:
        return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]

    width = len(query) // heads
    asked = project("query", query)
    keys = [project("key", vector) for vector in vectors]
    values = [project("value", vector) for vector in vectors]
    mixed = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        chances = softmax(np.array([asked[own] @ key[own] / width**0.5 for key in keys]))
        mixed.append(sum(chance * value[own] for chance, value in zip(chances, values, strict=True)))
    return project("output", np.concatenate(mixed))


def score(mixture: np.ndarray, document: np.ndarray, similarity: str) -> float:
    product = float(mixture @ document)
    if similarity == "cosine":
        return product / float(np.linalg.norm(mixture) * np.linalg.norm(document))
    return product


def scores(
    codes: np.ndarray,
    mask: np.ndarray,
    documents: np.ndarray,
    *,
    scale: float = 1.0,
    similarity: str = "dot",
    weights: dict[str, np.ndarray] | None = None,
    heads: int = 1,
) -> np.ndarray:
    """Return `[B, N]` of codes `[B, M, D]`, mask `[B, M]`, documents `[N, D]`; 0 for a query without codes."""
    found = np.zeros((len(codes), len(documents)))
    for row, (all_codes, there) in enumerate(zip(codes, mask, strict=True)):
        own = all_codes[there]
        for column, document in enumerate(documents):
            if len(own):
                mixture = (
                    taken(document, own, scale) if weights is None else taken_by_heads(document, own, weights, heads)
                )
                found[row, column] = score(mixture, document, similarity)
    return found
