"""Attention to single bound pairs: how well does the query unbind a value from its own pair?

The score of query t and pair s is ⟨v_s, q_t† ⊛ (k_s ⊛ v_s)⟩ = ⟨q_t, k_s ⊛ (v_s ⊛ v_s†)⟩: an inner product of the query
with a key that its value has coloured. Where every |F v| = 1 this is softmax attention. The representation is Plate's
(1995); the kind is the ablation of Hrrformer (Alam et al. 2023, arXiv 2305.19534) without its superposition.

B batch, S sequence, H heads, E head width.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from quincunx.nn.attention.fourier import inverse_transform, power, transform, unit_bins
from quincunx.nn.attention.fused import PairAttention, ScoreScale, one_of, pair_scale, spectrum_bytes, unit, work_dtype
from quincunx.nn.attention.gate import EPSILON, agreement, gate_weights
from quincunx.nn.attention.layer import State
from quincunx.nn.attention.parts import in_parts, without_autocast


class HrrIndividualAttention(PairAttention):
    """Softmax over all pairs, each of them unbound alone; O(S² E) time, O(S E) memory.

    Args:
        num_heads: Number of heads H.
        head_dim: Width of a head E, odd ones too.
        causal: Token t sees the pairs up to t only.
        score: `dot`, the score as it stands, cubic in the inputs: float16 may overflow; `cosine`, query and coloured
            key at length 1; `exact_cosine`, the cosine of the retrieved and the stored value, which is an inner
            product of features once query and key have unit spectra, so they are given them.
        scale: What scores are multiplied by. None: 1/√E for `dot`, √E for the cosines; 1 under `self`.
        learn_scale: Learn the scale, one number for each head.
        individual_scope: `self`: each token unbinds its own pair only, and its value is weighed, among all tokens, by
            how well that went: out_t = w_t v_t, in O(S E log E) time. `all`: as above.

    Raises:
        UsageError: An option that is none of these.
    """

    kind = "hrr-individual"

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        *,
        causal: bool = False,
        score: str = "cosine",
        scale: float | None = None,
        learn_scale: bool = False,
        individual_scope: str = "all",
    ) -> None:
        super().__init__(num_heads, head_dim, causal=causal)
        self.score = one_of("score", score, ("cosine", "dot", "exact_cosine"))
        self.individual_scope = one_of("individual_scope", individual_scope, ("all", "self"))
        if scale is None and individual_scope == "self":
            scale = 1.0
        self.scale = ScoreScale(num_heads, pair_scale(score, head_dim, scale), learn_scale)

    def features(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries, and keys coloured by their values; see `PairAttention.features`."""
        function = partial(_coloured, score=self.score)
        queries, keys = in_parts(function, q, k, v, self.scale(q), token_bytes=spectrum_bytes(q))
        return queries, keys

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, salt: int = 0) -> Tensor:
        """Return the weighted sums of values, or the weighted values, `[B, H, S, E]`; see `AttentionCore.forward`."""
        if self.individual_scope == "all":
            return super().forward(q, k, v, valid, salt)
        with without_autocast(q):
            return (gate_weights(self._own_scores(q, k, v), valid, self.causal)[..., None] * v).to(v.dtype)

    def start(self, batch: int, like: Tensor) -> State:
        """Return empty caches, or the logarithm of an empty sum `[B, H]`; see `AttentionCore.start`."""
        if self.individual_scope == "all":
            return super().start(batch, like)
        self.refuse_steps()
        empty = torch.full((batch, self.num_heads), float("-inf"), dtype=work_dtype(like.dtype), device=like.device)
        return (empty,)

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the next output `[B, H, E]` and the state after it; see `AttentionCore.step`."""
        if self.individual_scope == "all":
            return super().step(q, k, v, state)
        with without_autocast(q):
            score = self._own_scores(*(tensor[:, :, None] for tensor in (q, k, v)))[..., 0]
            total = torch.logaddexp(state[0], score)
            return ((score - total).exp()[..., None] * v).to(v.dtype), (total,)

    def checkpointing_note(self) -> str | None:
        """Return why recomputing saves little."""
        if self.individual_scope == "all":
            return super().checkpointing_note()
        return (
            "gradient checkpointing saves next to nothing under hrr-individual attention of scope self: beside "
            "queries, keys and values, one weight a token is stored"
        )

    def _own_scores(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        function = partial(_own_agreement, score=self.score)
        (scores,) = in_parts(function, q, k, v, token_bytes=spectrum_bytes(q))
        return scores * self.scale(q)[..., 0]


def _coloured(q: Tensor, k: Tensor, v: Tensor, scale: Tensor, *, score: str) -> tuple[Tensor, Tensor]:
    """Return queries times the scale, and keys k_s ⊛ (v_s ⊛ v_s†), both as the score wants them."""
    dtype = q.dtype
    q, k, v = (tensor.to(work_dtype(dtype)) for tensor in (q, k, v))
    values, key_spectra = transform(v), transform(k)
    if score == "exact_cosine":
        q = inverse_transform(unit_bins(transform(q)), q.shape[-1])
        key_spectra = unit_bins(key_spectra)
    keys = inverse_transform(key_spectra * power(values), v.shape[-1])
    if score == "cosine":
        q, keys = unit(q), unit(keys)
    elif score == "exact_cosine":
        keys = keys / ((v * v).sum(-1, keepdim=True) + EPSILON)
    return (q * scale).to(dtype), keys.to(dtype)


def _own_agreement(q: Tensor, k: Tensor, v: Tensor, *, score: str) -> tuple[Tensor]:
    """Return how far each value agrees with what its token's query unbinds from the token's pair `[B, H, S]`."""
    q, k, v = (tensor.to(work_dtype(q.dtype)) for tensor in (q, k, v))
    queries, keys = transform(q), transform(k)
    if score == "exact_cosine":
        queries, keys = unit_bins(queries), unit_bins(keys)
    retrieved = inverse_transform(keys * transform(v) * queries.conj(), v.shape[-1])
    return (agreement(v, retrieved, "dot" if score == "dot" else "cosine"),)
