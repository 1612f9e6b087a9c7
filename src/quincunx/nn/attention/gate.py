"""Gating: each token's own value, weighed by how well it agrees with what the token retrieved (Alam et al. 2023,
arXiv 2305.19534: Hrrformer). Shared by the kinds that keep a trace instead of comparing pairs.

B batch, S sequence, H heads, E head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-12
"""Added under the root of a cosine, so that zero vectors agree with nothing instead of giving NaN."""


def agreement(a: Tensor, b: Tensor, score: str) -> Tensor:
    """Return how far vectors a and b `[..., E]` agree, `[...]`: their inner product (`dot`) or their `cosine`."""
    product = (a * b).sum(-1)
    if score == "dot":
        return product
    return product * torch.rsqrt((a * a).sum(-1) * (b * b).sum(-1) + EPSILON)


def gate_weights(scores: Tensor, valid: Tensor | None, causal: bool) -> Tensor:
    """Return the weight of every token's own value.

    Args:
        scores: Agreement of each token `[B, H, S]`, times the scale; float32 or wider.
        valid: `[B, S]` bool, False where a token is padding; None when all are valid.
        causal: Normalise token t over the tokens up to t, so that no later one matters.

    Returns:
        `[B, H, S]`: a softmax over the valid tokens, 0 for the others; zeros in rows without a valid token.
    """
    if valid is not None:
        scores = scores.masked_fill(~valid[:, None], float("-inf"))
    # a total of -inf, where nothing is valid (yet), would give NaN in the difference; 0 gives exp(-inf) = 0
    total = torch.logcumsumexp(scores, -1) if causal else torch.logsumexp(scores, -1, keepdim=True)
    return (scores - total.masked_fill(total == float("-inf"), 0.0)).exp()


def valid_counts(scores: Tensor, valid: Tensor | None, causal: bool) -> Tensor:
    """Return how many valid tokens each token sees `[B or 1, 1, S or 1]`, in the dtype of scores `[B, H, S]`; >= 1."""
    length = scores.shape[-1]
    if valid is None:
        if not causal:
            return scores.new_full((1, 1, 1), float(length))
        return torch.arange(1, length + 1, device=scores.device, dtype=scores.dtype)[None, None]
    ones = valid.to(scores.dtype)[:, None]
    return (ones.cumsum(-1) if causal else ones.sum(-1, keepdim=True)).clamp(min=1)
