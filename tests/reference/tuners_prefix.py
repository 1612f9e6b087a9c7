"""Attention with a prefix, one query of one head of one example after the other.

B examples, H heads of queries, G heads of keys, S queries, K keys, P length of the prefix, E width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    seen: Tensor,
    scaling: float,
    prefix: tuple[Tensor, Tensor],
    gate: Tensor | None,
    bias: Tensor | None = None,
) -> Tensor:
    """Return what attention gives `[B, S, H, E]`.

    Args:
        query: `[B, H, S, E]`.
        key: `[B, G, K, E]`.
        value: `[B, G, K, E]`.
        seen: Which keys a query sees `[B, S, K]`.
        scaling: Factor of the scores.
        prefix: Keys and values before the others, `[B, G, P, E]` each.
        gate: `[B, H]`, the prefix has a softmax of its own behind its tanh; None: one softmax over all.
        bias: Added to the scores of the text `[H, S, K]`.
    """
    batch, heads, length, width = query.shape
    groups = heads // key.shape[1]
    found = torch.zeros(batch, length, heads, width, dtype=query.dtype)
    for b in range(batch):
        for h in range(heads):
            own_keys, own_values = (each[b, h // groups] for each in prefix)
            for i in range(length):
                q = query[b, h, i]
                places = seen[b, i].nonzero()[:, 0]
                scores = scaling * key[b, h // groups, places] @ q
                if bias is not None:
                    scores = scores + bias[h, i, places]
                values = value[b, h // groups, places]
                before = scaling * own_keys @ q
                if gate is None:
                    chances = torch.cat([before, scores]).softmax(0)
                    found[b, i, h] = chances @ torch.cat([own_values, values])
                else:
                    found[b, i, h] = scores.softmax(0) @ values + torch.tanh(gate[b, h]) * (
                        before.softmax(0) @ own_values
                    )
    return found
