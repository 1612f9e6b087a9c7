"""The encoder of T5 over words and visual tokens by hand: one example without padding, every bias looked up by itself.

L tokens, of which the first S are words; D width, H heads, E width of a head.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def bucket(distance: int, buckets: int, furthest: int) -> int:
    """Return which bias a key has that stands so far behind a query (before it: below zero)."""
    half = buckets // 2
    first = half if distance > 0 else 0
    far = abs(distance)
    exact = half // 2
    if far < exact:
        return first + far
    wider = exact + int(math.log(far / exact) / math.log(furthest / exact) * (half - exact))
    return first + min(wider, half - 1)


def biases(attention: Any, length: int, words: int) -> Tensor:
    """Return `[H, L, L]`, zeros for pairs of which one is no word."""
    table = attention.relative_attention_bias.weight
    found = torch.zeros(table.shape[1], length, length, dtype=table.dtype)
    for query in range(words):
        for key in range(words):
            place = bucket(
                key - query, attention.relative_attention_num_buckets, attention.relative_attention_max_distance
            )
            found[:, query, key] = table[place]
    return found


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return weight * x / torch.sqrt((x**2).mean(-1, keepdim=True) + epsilon)


def encode(encoder: Any, tokens: Tensor, words: int) -> Tensor:
    """Return the states `[L, D]` of tokens `[L, D]`; biases go to the first `words`."""
    epsilon = encoder.config.layer_norm_epsilon
    heads = encoder.config.num_heads
    bias = biases(encoder.block[0].layer[0].SelfAttention, len(tokens), words)
    x = tokens
    for block in encoder.block:
        attention, feedforward = block.layer[0], block.layer[-1]
        y = norm(x, attention.layer_norm.weight, epsilon)
        own = attention.SelfAttention
        query, key, value = (
            torch.einsum("ld,ed->le", y, each.weight).view(len(y), heads, -1) for each in (own.q, own.k, own.v)
        )
        scores = torch.einsum("ihe,jhe->hij", query, key) + bias
        mixed = torch.einsum("hij,jhe->ihe", scores.softmax(-1), value).flatten(1)
        x = x + torch.einsum("le,de->ld", mixed, own.o.weight)
        y = norm(x, feedforward.layer_norm.weight, epsilon)
        inner = feedforward.DenseReluDense
        x = x + torch.relu(y @ inner.wi.weight.T) @ inner.wo.weight.T
    return norm(x, encoder.final_layer_norm.weight, epsilon)
