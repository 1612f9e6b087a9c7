"""What the kinds that compare every token with every other share: softmax over all pairs without a matrix of pairs.

The score of a pair is an inner product of what a query and a key are turned into, so that torch's fused kernel can
take it. B batch, S sequence, G keys, H heads, E head width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.errors import UsageError
from quincunx.nn.attention.gate import EPSILON
from quincunx.nn.attention.layer import AttentionCore, State
from quincunx.nn.attention.parts import without_autocast


def mixture(
    q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Return softmax(scale · q kᵀ) v over the valid keys, in O(S + G) memory, in the dtype of v even under autocast.

    The kernel takes no mask beside its causal order, other than one of S x S. So a causal mask is part of the vectors:
    one more feature, which adds a large negative number to the score of every key that is not valid.

    Args:
        q: `[B, H, S, E]`.
        k: `[B, H, G, E]`.
        v: `[B, H, G, E]`.
        valid: `[B, G]` bool, False for keys that nobody sees; None when all are valid.
        causal: Query t sees the keys up to t; needs S = G.
        scale: 1/√E when None.

    Returns:
        `[B, H, S, E]`; zeros for queries that see no valid key.
    """
    width = q.shape[-1]
    scale = float(width**-0.5) if scale is None else scale
    with without_autocast(q):
        if valid is None:
            return functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
        if causal:
            seen = valid.cumsum(1) > 0
            q, k, v = _with_mask_feature(q, k, v, valid, scale)
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)[..., :width]
        else:
            # A row without a valid token attends to its padding, and is then zeroed: a softmax over nothing is NaN.
            seen = valid.any(dim=1, keepdim=True)
            mask = (valid | ~seen)[:, None, None]
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        return mixed.masked_fill(~seen[:, None, :, None], 0.0)


def _with_mask_feature(q: Tensor, k: Tensor, v: Tensor, valid: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three with a feature more that tells valid keys, filled up to a multiple of 8, as kernels like it."""
    features = 8 - q.shape[-1] % 8
    first = torch.arange(features, device=q.device) == 0
    # Far below any score, yet within the dtype also where products are rounded to it; valid keys get an exact 0.
    excluded = -3e4 if v.dtype == torch.float16 else -1e9
    query_tail = torch.where(first, 1 / scale, 0.0).to(q.dtype)
    key_tail = torch.where(first & ~valid[:, None, :, None], excluded, 0.0).to(k.dtype)
    q, k = (
        torch.cat([tensor, tail.expand(*tensor.shape[:-1], features)], dim=-1)
        for tensor, tail in ((q, query_tail), (k, key_tail))
    )
    return q, k, functional.pad(v, (0, features))


def unit(x: Tensor) -> Tensor:
    """Return vectors x `[..., E]` at length 1; zeros stay zeros."""
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + EPSILON)


def work_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that transforms and sums of such inputs are computed in: float32 or wider."""
    return torch.promote_types(dtype, torch.float32)


def spectrum_bytes(x: Tensor) -> int:
    """Return the size of the spectrum of one vector of x `[..., E]`, in the dtype it is computed in."""
    return (x.shape[-1] // 2 + 1) * 2 * work_dtype(x.dtype).itemsize


def pair_scale(score: str, head_dim: int, scale: float | None) -> float:
    """Return the scale of scores of pairs: the one given, or 1/√E for inner products and √E for cosines."""
    if scale is not None:
        return scale
    return head_dim ** (-0.5 if score == "dot" else 0.5)


def one_of(name: str, value: str, words: tuple[str, ...]) -> str:
    """Return a word that an option was given; UsageError when it is none of `words`."""
    if value not in words:
        raise UsageError(f"{name} {value!r} is not available: choose one of {', '.join(words)}")
    return value


class ScoreScale(nn.Module):
    """What scores are multiplied by: a number, or one learned number for each head, kept positive by its logarithm.

    Args:
        num_heads: Number of heads H.
        value: The number, or where learning starts; above 0.
        learned: Make it a parameter `logarithm` `[H]`.
    """

    def __init__(self, num_heads: int, value: float, learned: bool) -> None:
        super().__init__()
        if not (value > 0 and math.isfinite(value)):
            raise UsageError(f"scale must be above 0 and finite, found {value}")
        self.value = value
        self.logarithm = nn.Parameter(torch.full((num_heads,), math.log(value))) if learned else None

    def forward(self, like: Tensor) -> Tensor:
        """Return `[1, H, 1, 1]`, or 1 for H where no head has its own; on the device of `like`, float32 or wider."""
        dtype = work_dtype(like.dtype)
        if self.logarithm is None:
            return torch.full((1, 1, 1, 1), self.value, dtype=dtype, device=like.device)
        return self.logarithm.to(dtype).exp()[None, :, None, None]


class PairAttention(AttentionCore):
    """Base of the kinds whose scores are inner products of a query's and a key's features.

    Causal steps keep the features of all keys and all values: a cache that grows with the tokens.
    """

    kernel_scale: float | None = 1.0
    """What the kernel multiplies scores by: the features hold the scale already. None means 1/√E."""

    def features(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is compared in place of queries and keys, each `[B, H, S, E]` and in their dtype."""
        return q, k

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, salt: int = 0) -> Tensor:
        """Return the weighted sums of values `[B, H, S, E]`; see `AttentionCore.forward`."""
        with without_autocast(q):
            queries, keys = self.features(q, k, v)
        return mixture(queries, keys, v, valid, self.causal, self.kernel_scale)

    def start(self, batch: int, like: Tensor) -> State:
        """Return empty caches, `[B, H, 0, E]` each; see `AttentionCore.start`."""
        self.refuse_steps()
        empty = like.new_empty((batch, self.num_heads, 0, self.head_dim))
        return empty, empty

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the next output `[B, H, E]` and the caches, one token longer; see `AttentionCore.step`."""
        q, k, v = q[:, :, None], k[:, :, None], v[:, :, None]
        with without_autocast(q):
            query, key = self.features(q, k, v)
            keys, values = longer(state[0], key), longer(state[1], v)
        return mixture(query, keys, values, None, scale=self.kernel_scale)[:, :, 0], (keys, values)

    def checkpointing_note(self) -> str | None:
        """Return why recomputing saves little: the fused kernel stores no weights."""
        return (
            f"gradient checkpointing saves little under {self.kind} attention: the fused kernel stores no matrix of "
            "weights, so that only the transformed queries and keys are recomputed instead of stored"
        )

    kind: str = "this"
    """The kind's word in a config."""


def longer(cache: Tensor, token: Tensor) -> Tensor:
    """Return a cache `[B, H, S, E]` with one token `[B, H, 1, E]` more, in the token's dtype."""
    return torch.cat([cache.to(token.dtype), token], dim=2)
