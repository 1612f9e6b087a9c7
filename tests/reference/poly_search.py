"""Poly-encoder search written out: every score by itself, everything sorted."""

from __future__ import annotations

import math

import numpy as np


def score(codes: np.ndarray, document: np.ndarray, scale: float) -> float:
    """Return the score of a document `[D]` that attends over codes `[M, D]`."""
    logits = [float(np.dot(code.astype(np.float64), document.astype(np.float64))) for code in codes]
    most = max(scale * logit for logit in logits)
    weights = [math.exp(scale * logit - most) for logit in logits]
    return sum(weight * logit for weight, logit in zip(weights, logits, strict=True)) / sum(weights)


def best(codes: np.ndarray, documents: np.ndarray, k: int, scale: float) -> list[tuple[int, float]]:
    """Return the k best documents with their scores as float32, equal ones in their order."""
    scores = [float(np.float32(score(codes, document, scale))) for document in documents]
    return sorted(enumerate(scores), key=lambda pair: (-pair[1], pair[0]))[:k]
