"""Holographic retrieval with cleanup: what a query unbinds from the superposition of all pairs is compared with every
stored value (Plate 1995, the cleanup memory), softly, and the values are mixed by how well they fit.

The retrieved vector is v̂_t = q_t† ⊛ Σ_s k_s ⊛ v_s; the score of value u is ⟨v_u, v̂_t⟩. Where Hrrformer (Alam et al.
2023, arXiv 2305.19534) compares v̂_t with the token's own value only, this takes from the others what was retrieved.

B batch, S sequence, H heads, E head width.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from quincunx.nn.attention import hrr
from quincunx.nn.attention.fourier import inverse_transform, transform
from quincunx.nn.attention.fused import (
    PairAttention,
    ScoreScale,
    longer,
    mixture,
    one_of,
    pair_scale,
    spectrum_bytes,
    unit,
    work_dtype,
)
from quincunx.nn.attention.layer import State
from quincunx.nn.attention.parts import in_parts, without_autocast


class HrrCleanupAttention(PairAttention):
    """Softmax over all values, by their likeness to the retrieved vector; O(S² E) time, O(S E) memory.

    Causal, token t unbinds the superposition of the pairs up to t, and sees the values up to t.

    Args:
        num_heads: Number of heads H.
        head_dim: Width of a head E, odd ones too.
        causal: Token t sees the pairs and values up to t only.
        score: `dot`, the score as it stands, which grows with the number of pairs: float16 may overflow; `cosine`, the
            retrieved vector and the values at length 1.
        scale: What scores are multiplied by. None: 1/√E for `dot`, √E for `cosine`.
        learn_scale: Learn the scale, one number for each head.

    Raises:
        UsageError: An option that is none of these.
    """

    kind = "hrr-cleanup"

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        *,
        causal: bool = False,
        score: str = "cosine",
        scale: float | None = None,
        learn_scale: bool = False,
    ) -> None:
        super().__init__(num_heads, head_dim, causal=causal)
        self.score = one_of("score", score, ("cosine", "dot"))
        self.scale = ScoreScale(num_heads, pair_scale(score, head_dim, scale), learn_scale)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, salt: int = 0) -> Tensor:
        """Return the weighted sums of values `[B, H, S, E]`; see `AttentionCore.forward`."""
        with without_autocast(q):
            shown = v.new_ones(1, 1, dtype=torch.bool) if valid is None else valid
            function = partial(_retrieved, score=self.score, causal=self.causal)
            scale = self.scale(q)
            results = in_parts(
                function, q, k, v, shown[:, None, :, None], scale, token_bytes=spectrum_bytes(q), tokens=False
            )
            keys = results[1] if self.score == "cosine" else v
        return mixture(results[0], keys, v, valid, self.causal, scale=1.0)

    def start(self, batch: int, like: Tensor) -> State:
        """Return an empty superposition `[B, H, E]` and no values `[B, H, 0, E]`; see `AttentionCore.start`."""
        self.refuse_steps()
        trace = torch.zeros(batch, self.num_heads, self.head_dim, dtype=work_dtype(like.dtype), device=like.device)
        return trace, like.new_empty((batch, self.num_heads, 0, self.head_dim))

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the next output `[B, H, E]` and the state after it; see `AttentionCore.step`."""
        with without_autocast(q):
            trace = state[0] + hrr.bind(k.to(state[0].dtype), v.to(state[0].dtype))
            values = longer(state[1], v[:, :, None])
            retrieved = hrr.unbind(trace, q)[:, :, None]
            keys = values
            if self.score == "cosine":
                retrieved, keys = unit(retrieved), unit(values.to(trace.dtype)).to(v.dtype)
            query = (retrieved * self.scale(q)).to(v.dtype)
        return mixture(query, keys, values, None, scale=1.0)[:, :, 0], (trace, values)


def _retrieved(
    q: Tensor, k: Tensor, v: Tensor, shown: Tensor, scale: Tensor, *, score: str, causal: bool
) -> tuple[Tensor, ...]:
    """Return retrieved vectors `[B, H, S, E]`, as the score wants them and times the scale; for `cosine`, the values
    at length 1 too."""
    dtype = q.dtype
    q, k, v = (tensor.to(work_dtype(dtype)) for tensor in (q, k, v))
    pairs = transform(k.masked_fill(~shown, 0.0)) * transform(v)
    # sums of reals: not every device sums complex numbers up
    trace = torch.view_as_real(pairs).cumsum(2) if causal else torch.view_as_real(pairs).sum(2, keepdim=True)
    retrieved = inverse_transform(torch.view_as_complex(trace) * transform(q).conj(), v.shape[-1])
    if score == "dot":
        return ((retrieved * scale).to(dtype),)
    return (unit(retrieved) * scale).to(dtype), unit(v).to(dtype)
