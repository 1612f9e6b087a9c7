"""The Long Range Arena classifier in plain numpy: one sequence at a time, so that there is no padding and no mask.

Takes the weights by their names in the model's state; dropout is off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import cos, erf, sin
from typing import Any

import numpy as np

Weights = Mapping[str, np.ndarray]
gelu = np.vectorize(lambda x: x * (1 + erf(x / 2**0.5)) / 2, otypes=[float])


def linear(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return centred / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def fixed_position(place: int, width: int) -> list[float]:
    angles = [place / 10000 ** ((column - column % 2) / width) for column in range(width)]
    return [cos(angle) if column % 2 else sin(angle) for column, angle in enumerate(angles)]


def softmax_attention(weights: Weights, name: str, x: np.ndarray, heads: int, head_dim: int) -> np.ndarray:
    queries, keys, values = (linear(weights, f"{name}.{part}", x) for part in ("query", "key", "value"))
    outputs = []
    for head in range(heads):
        own = slice(head * head_dim, (head + 1) * head_dim)
        rows = []
        for query in queries[:, own]:
            scores = np.array([query @ key for key in keys[:, own]]) / head_dim**0.5
            chances = np.exp(scores - scores.max())
            rows.append(sum(c * value for c, value in zip(chances / chances.sum(), values[:, own], strict=True)))
        outputs.append(np.stack(rows))
    return linear(weights, f"{name}.output", np.concatenate(outputs, axis=1))


def states(
    weights: Weights,
    tokens: Sequence[int],
    *,
    kind: str,
    heads: int,
    head_dim: int,
    layers: int,
    tied: bool,
    learned: bool,
    cls: bool,
) -> np.ndarray:
    """Return the final state of every token of one sequence without padding, the cls token's first."""
    embedding = weights["embedding.weight"]
    ids = [len(embedding) - 1, *tokens] if cls else list(tokens)
    x = np.stack([embedding[token] for token in ids])
    if learned:
        x = x + weights["positions.table"][: len(ids)]
    else:
        table = np.array([fixed_position(place, x.shape[1]) for place in range(len(ids))])
        x = x + table.astype(np.float32)  # the model keeps its table in single precision
    for layer in range(layers):
        block = f"encoder.blocks.{0 if tied else layer}"
        if kind == "softmax":
            normed = norm(weights, f"{block}.attention_norm", x)
            x = x + softmax_attention(weights, f"{block}.attention", normed, heads, head_dim)
        hidden = gelu(linear(weights, f"{block}.feedforward.widen", norm(weights, f"{block}.feedforward_norm", x)))
        x = x + linear(weights, f"{block}.feedforward.narrow", hidden)
    return norm(weights, "encoder.norm", x)


def pooled(weights: Weights, tokens: Sequence[int], *, cls: bool, **shape: Any) -> np.ndarray:
    """Return the vector that stands for one sequence of token ids without padding; arguments as in `states`."""
    x = states(weights, tokens, cls=cls, **shape)
    return x[0] if cls else sum(x) / len(x)


def head(weights: Weights, features: np.ndarray) -> np.ndarray:
    """Return the logits for what the classifier's head sees."""
    return linear(weights, "classifier.2", np.maximum(linear(weights, "classifier.0", features), 0))


def logits(weights: Weights, tokens: Sequence[int], **shape: Any) -> np.ndarray:
    """Return the logits of one sequence of token ids without padding; `shape` as in `states`."""
    return head(weights, pooled(weights, tokens, **shape))


def pair_logits(weights: Weights, first: Sequence[int], second: Sequence[int], **shape: Any) -> np.ndarray:
    """Return the logits of one pair of sequences, from a, b, a * b and a - b; `shape` as in `states`."""
    a, b = pooled(weights, first, **shape), pooled(weights, second, **shape)
    columns = range(len(a))
    return head(weights, np.array([*a, *b, *(a[i] * b[i] for i in columns), *(a[i] - b[i] for i in columns)]))


def restored(weights: Weights, tokens: Sequence[int], place: int, *, cls: bool, **shape: Any) -> np.ndarray:
    """Return the denoiser's logits over the vocabulary for one place of a sequence; `shape` as in `states`."""
    return linear(weights, "restore", states(weights, tokens, cls=cls, **shape)[place + 1 if cls else place])
