"""Softmax attention (Vaswani et al. 2017, arXiv 1706.03762) through torch's fused kernel: O(S) memory, no matrix.

Only dropout on the weights needs the matrix, and forms it. B batch, S sequence, H heads, E head width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from quincunx.nn.attention.layer import AttentionCore
from quincunx.nn.dropout import CounterDropout


class SoftmaxAttention(AttentionCore):
    """softmax(q kᵀ / √E) v over the valid tokens.

    Args:
        num_heads: Number of heads H.
        head_dim: Width of a head E.
        weight_dropout: Probability of dropout on the attention weights. Above 0, training forms the weights
            `[B, H, S, S]`, since the fused kernel's own dropout would change with the chunk.
    """

    def __init__(self, num_heads: int, head_dim: int, weight_dropout: float = 0.0) -> None:
        super().__init__(num_heads, head_dim)
        # Three leading dimensions: the mask of weight (row, head, query, key) then depends on no padded length.
        self.dropout = CounterDropout(weight_dropout, leading=3) if weight_dropout > 0 else None

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, salt: int = 0) -> Tensor:
        """Return the weighted sums of values `[B, H, S, E]`; see `AttentionCore.forward`."""
        mask = seen = None
        if valid is not None:
            # A row without a valid token attends to its padding, and is then zeroed: a softmax over nothing is NaN.
            seen = valid.any(dim=1, keepdim=True)
            mask = (valid | ~seen)[:, None, None, :]
        if self.dropout is not None and self.training:
            mixed = self._explicit(q, k, v, mask, salt)
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return mixed if seen is None else mixed * seen[:, :, None, None].to(mixed.dtype)

    def checkpointing_note(self) -> str | None:
        """Return why recomputing saves no memory: the fused kernel stores no weights."""
        if self.dropout is not None:
            return None
        return (
            "gradient checkpointing saves next to nothing under softmax attention: the fused kernel stores no matrix "
            "of weights that could be recomputed instead"
        )

    def _explicit(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, salt: int) -> Tensor:
        assert self.dropout is not None
        scores = (q * self.head_dim**-0.5) @ k.transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        weights = torch.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        return self.dropout(weights, salt).to(v.dtype) @ v
