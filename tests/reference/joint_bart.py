"""The encoder of BART over words and visual tokens by hand: one example without padding.

L tokens, of which the first S are words; D width, H heads, E width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def norm(x: Tensor, module: Any) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return module.weight * centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + module.eps) + module.bias


def linear(x: Tensor, module: Any) -> Tensor:
    return torch.einsum("ld,ed->le", x, module.weight) + module.bias


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def encode(
    encoder: Any, words: Tensor, visual: Tensor, *, positions: str, shared: bool, before: bool = False
) -> Tensor:
    """Return the states `[S + V, D]`.

    Args:
        encoder: Its weights are read.
        words: `[S, D]`, scaled already.
        visual: `[V, D]`.
        positions: `none` or `learned`, of visual tokens.
        shared: Whether the norm of embeddings goes over visual tokens too.
        before: Whether the layers' norms come first, and one last, as in mBART.
    """
    table = encoder.embed_positions.weight[2:]  # whose first two rows mean nothing
    words = words + table[: len(words)]
    if positions == "learned":
        visual = visual + table[len(words) : len(words) + len(visual)]
    if shared:
        x = norm(torch.cat([words, visual]), encoder.layernorm_embedding)
    else:
        x = torch.cat([norm(words, encoder.layernorm_embedding), visual])
    for layer in encoder.layers:
        y = norm(x, layer.self_attn_layer_norm) if before else x
        x = x + attend(layer.self_attn, y)
        x = x if before else norm(x, layer.self_attn_layer_norm)
        y = norm(x, layer.final_layer_norm) if before else x
        x = x + linear(gelu(linear(y, layer.fc1)), layer.fc2)
        x = x if before else norm(x, layer.final_layer_norm)
    return norm(x, encoder.layer_norm) if before else x


def attend(attention: Any, x: Tensor) -> Tensor:
    heads = attention.num_heads
    query, key, value = (
        linear(x, each).view(len(x), heads, -1) for each in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    scores = torch.einsum("ihe,jhe->hij", query, key) / query.shape[-1] ** 0.5
    return linear(torch.einsum("hij,jhe->ihe", scores.softmax(-1), value).flatten(1), attention.out_proj)
