"""Tensor product attention one row, head and token at a time, its memory written token by token: slow and plain."""

from __future__ import annotations

import torch
from torch import Tensor


def unit(x: Tensor) -> Tensor:
    return x / x.norm()


def mapped(x: Tensor, feature_map: str, delta: bool) -> Tensor:
    if feature_map == "elu":
        x = torch.stack([value + 1 if value > 0 else value.exp() for value in x])
    return unit(x) if delta else x


def normed(x: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / ((centred * centred).mean() + 1e-5).sqrt()


def gated_weight(value: Tensor, answer: Tensor, score: str, scale: float) -> Tensor:
    agreement = value @ answer
    if score == "cosine":
        agreement = agreement / ((value @ value) * (answer @ answer) + 1e-12).sqrt()
    return (scale * agreement).exp()


def tpr(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    valid: Tensor | None = None,
    *,
    causal: bool = False,
    mode: str = "gated",
    score: str = "cosine",
    scale: float = 1.0,
    gate: str = "softmax",
    read: bool = False,
    feature_map: str = "identity",
    denominator: str = "count",
    delta: bool = False,
    delta_rate: float = 1.0,
) -> Tensor:
    """Tensor product attention `[B, H, S, E]`; zeros for padded tokens, and where a row has no valid token (so far)."""
    output = torch.zeros_like(v)
    if mode == "gated":
        feature_map, delta = "identity", False
    for b in range(q.shape[0]):
        tokens = [t for t in range(q.shape[2]) if valid is None or valid[b, t]]
        for h in range(q.shape[1]):
            query = {t: mapped(q[b, h, t], feature_map, delta) for t in tokens}
            key = {t: mapped(k[b, h, t], feature_map, delta) for t in tokens}
            value = {t: v[b, h, t] for t in tokens}
            answers: dict[int, Tensor] = {}
            for t in tokens:
                seen = [s for s in tokens if s <= t or not causal]
                memory = torch.zeros(q.shape[3], q.shape[3], dtype=q.dtype)
                for s in seen:
                    held = memory.T @ key[s] if delta else torch.zeros_like(value[s])
                    memory = memory + (delta_rate if delta else 1.0) * torch.outer(key[s], value[s] - held)
                answers[t] = memory.T @ query[t]
            for t in tokens:
                seen = [s for s in tokens if s <= t or not causal]
                answer = answers[t]
                if mode == "gated":
                    weights = {s: gated_weight(value[s], answers[s], score, scale) for s in seen}
                    weight = weights[t] / sum(weights.values())
                    out = weight * (len(seen) if gate == "mean_preserving" else 1) * value[t]
                    output[b, h, t] = out + normed(answer) if read else out
                elif denominator == "norm":
                    output[b, h, t] = normed(answer)
                elif denominator == "keys":
                    output[b, h, t] = answer / (query[t] @ torch.stack([key[s] for s in seen]).sum(0))
                else:
                    output[b, h, t] = answer / (len(seen) if denominator == "count" else 1)
    return output


def delta_reads(q: Tensor, k: Tensor, v: Tensor, rate: float, causal: bool) -> Tensor:
    """What each token `[N, E]` reads from a memory written by the delta rule, one token after another."""
    memory = torch.zeros(k.shape[1], v.shape[1], dtype=k.dtype)
    output = torch.zeros_like(v)
    for t in range(len(k)):
        memory = memory + rate * torch.outer(k[t], v[t] - memory.T @ k[t])
        output[t] = memory.T @ q[t]
    return output if causal else q @ memory
