"""Holographic reduced representations and the attention that bundles them, by sums over explicit indices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def bind(a: Tensor, b: Tensor) -> Tensor:
    """Circular convolution of vectors `[E]`: c_i = Σ_j a_j b_{i-j}."""
    width = len(a)
    return torch.stack([sum(a[j] * b[(i - j) % width] for j in range(width)) for i in range(width)])


def unbind(bound: Tensor, key: Tensor) -> Tensor:
    """Circular correlation of vectors `[E]`: c_i = Σ_j key_j bound_{i+j}."""
    width = len(key)
    return torch.stack([sum(key[j] * bound[(i + j) % width] for j in range(width)) for i in range(width)])


def bundled(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    valid: Tensor | None = None,
    *,
    causal: bool = False,
    mask_trace: bool = True,
    score: str = "cosine",
    scale: Sequence[float] | None = None,
    gate: str = "softmax",
    gain: Sequence[float] | None = None,
    query_maps: Tensor | None = None,
    key_maps: Tensor | None = None,
) -> Tensor:
    """Bundled attention `[B, H, S, E]`, one row, head and token at a time over the tokens that it sees.

    Args:
        q: Queries `[B, H, S, E]`.
        k: Keys `[B, H, S, E]`.
        v: Values `[B, H, S, E]`.
        valid: `[B, S]` bool or None.
        causal: Token t sees the tokens up to t.
        mask_trace: Tokens that are not valid are not in the trace.
        score: `cosine` or `dot`.
        scale: Factor of each head's scores; None is 1.
        gate: `softmax` or `mean_preserving`.
        gain: Factor of what each head reads; None is no reading.
        query_maps: Maps of the queries of further traces `[R - 1, H, E, E]`.
        key_maps: Those of keys.
    """
    batch, heads, length, width = v.shape
    shift = (torch.arange(width)[:, None] - torch.arange(width)) % width
    rows = []
    for b in range(batch):
        for h in range(heads):
            good = [t for t in range(length) if valid is None or valid[b, t]]
            traced = good if mask_trace else list(range(length))
            queries, keys = [q[b, h]], [k[b, h]]
            if query_maps is not None and key_maps is not None:
                queries += [q[b, h] @ one[h] for one in query_maps]
                keys += [k[b, h] @ one[h] for one in key_maps]
            # pairs[s, i] = Σ_j k[s, j] v[s, i - j];  answers[t, j] = Σ_i q[t, i - j] trace[i]
            pairs = [torch.einsum("sj,sij->si", one, v[b, h][:, shift]) for one in keys]
            answers, scores = {}, {}
            for t in range(length):
                seen = [s for s in traced if s <= t or not causal]
                found = []
                for query, pair in zip(queries, pairs, strict=True):
                    trace = pair[seen].sum(0)
                    found.append(torch.einsum("ij,i->j", query[t][shift], trace))
                answers[t] = sum(found) / len(found)
                scores[t] = sum(_score(v[b, h, t], one, score) for one in found) / len(found)
                scores[t] = scores[t] * (1.0 if scale is None else scale[h])
            for t in range(length):
                seen = [s for s in good if s <= t or not causal]
                row = torch.zeros_like(v[b, h, t])
                if seen and t in good:
                    total = torch.logsumexp(torch.stack([scores[s] for s in seen]), 0)
                    weight = (scores[t] - total).exp() * (len(seen) if gate == "mean_preserving" else 1)
                    row = row + weight * v[b, h, t]
                if gain is not None and seen:
                    centred = answers[t] - answers[t].mean()
                    row = row + gain[h] * centred / (centred.square().mean() + 1e-5).sqrt()
                rows.append(row)
    return torch.stack(rows).view(batch, heads, length, width)


def _score(value: Tensor, answer: Tensor, score: str) -> Tensor:
    product = value @ answer
    return product if score == "dot" else product / (value.norm() * answer.norm()).clamp(min=1e-30)
