"""Softmax attention (Vaswani et al. 2017, arXiv 1706.03762) through torch's fused kernel: O(S) memory, no matrix.

Only dropout on the weights needs the matrix, and forms it. B batch, S sequence, H heads, E head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quincunx.nn.attention.fused import PairAttention, mixture, work_dtype
from quincunx.nn.attention.parts import without_autocast
from quincunx.nn.dropout import CounterDropout


class SoftmaxAttention(PairAttention):
    """softmax(q kᵀ / √E) v over the valid tokens.

    Args:
        num_heads: Number of heads H.
        head_dim: Width of a head E.
        causal: Token t sees the tokens up to t only.
        weight_dropout: Probability of dropout on the attention weights. Above 0, training forms the weights
            `[B, H, S, S]`, since the fused kernel's own dropout would change with the chunk.
    """

    kind = "softmax"
    kernel_scale = None

    def __init__(self, num_heads: int, head_dim: int, *, causal: bool = False, weight_dropout: float = 0.0) -> None:
        super().__init__(num_heads, head_dim, causal=causal)
        # Three leading dimensions: the mask of weight (row, head, query, key) then depends on no padded length.
        self.dropout = CounterDropout(weight_dropout, leading=3) if weight_dropout > 0 else None

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, salt: int = 0) -> Tensor:
        """Return the weighted sums of values `[B, H, S, E]`; see `AttentionCore.forward`."""
        if self.dropout is not None and self.training:
            with without_autocast(q):
                return self._explicit(self.dropout, q, k, v, valid, salt)
        return mixture(q, k, v, valid, self.causal)

    def checkpointing_note(self) -> str | None:
        """Return why recomputing saves no memory: the fused kernel stores no weights."""
        if self.dropout is not None:
            return None
        return (
            "gradient checkpointing saves next to nothing under softmax attention: the fused kernel stores no matrix "
            "of weights that could be recomputed instead"
        )

    def _explicit(
        self, dropout: CounterDropout, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, salt: int
    ) -> Tensor:
        scores = (q * self.head_dim**-0.5) @ k.transpose(-1, -2)
        visible = seen = None
        if valid is not None:
            visible = valid[:, None, :]
        if self.causal:
            order = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
            visible = order[None] if visible is None else visible & order
        if visible is not None:
            # A query that sees nothing attends to everything, and is then zeroed: a softmax over nothing is NaN.
            seen = visible.any(-1, keepdim=True)
            scores = scores.masked_fill(~(visible | ~seen)[:, None], float("-inf"))
        weights = torch.softmax(scores, dim=-1, dtype=work_dtype(scores.dtype))
        mixed = dropout(weights, salt).to(v.dtype) @ v
        return mixed if seen is None else mixed.masked_fill(~seen[:, None], 0.0)
