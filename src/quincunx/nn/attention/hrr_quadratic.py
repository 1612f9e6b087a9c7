"""Attention between bound pairs: the pair of query t and value t is compared with the pair of key s and value s.

The score is ⟨q_t ⊛ v_t, k_s ⊛ v_s⟩; summed over s it is the numerator of Hrrformer's (Alam et al. 2023,
arXiv 2305.19534), which compares with the superposition of all pairs. `superposition` is the way from one to the other.

B batch, S sequence, H heads, E head width, C tokens in a group, G groups.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from quincunx.errors import UsageError
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


class HrrQuadraticAttention(PairAttention):
    """Softmax over all bound pairs, or over superpositions of C of them; O(S² E / C) time, O(S E) memory.

    With C above 1, tokens are cut by place into groups of C. A group's pairs are added up, its values averaged, over
    its valid tokens, and each token attends to groups:

        place      0 1 2 | 3 4 5 | 6 7        C = 3, bidirectional: three slots, the last of two tokens
        causal 4   [0 1 2] [3 4]              token 4 sees the finished group and its own as far as it goes

    Causal with C above 1 no fused kernel serves: the scores `[S, S / C + 1]` are formed for a few tokens at a time, and
    once more in the backward pass, for which only features of length S are kept; under torch.compile they are formed at
    once, and their softmax is kept.

    Args:
        num_heads: Number of heads H.
        head_dim: Width of a head E, odd ones too.
        causal: Token t sees the pairs up to t only.
        score: `dot`, the score as it stands, of fourth order in the inputs: float16 may overflow; `cosine`, both pairs
            (or the superposition) at length 1.
        scale: What scores are multiplied by. None: 1/√E for `dot`, √E for `cosine`.
        learn_scale: Learn the scale, one number for each head.
        superposition: C; 1 compares every pair with every other, and from S up there is one slot for all.

    Raises:
        UsageError: An option that is none of these.
    """

    kind = "hrr-quadratic"

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        *,
        causal: bool = False,
        score: str = "cosine",
        scale: float | None = None,
        learn_scale: bool = False,
        superposition: int = 1,
    ) -> None:
        super().__init__(num_heads, head_dim, causal=causal)
        self.score = one_of("score", score, ("cosine", "dot"))
        self.scale = ScoreScale(num_heads, pair_scale(score, head_dim, scale), learn_scale)
        if superposition < 1:
            raise UsageError(f"superposition must be at least 1, found {superposition}: so many pairs share a slot")
        self.superposition = superposition

    def features(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pairs q ⊛ v and k ⊛ v; see `PairAttention.features`."""
        function = partial(_pairs, score=self.score)
        queries, keys = in_parts(function, q, k, v, self.scale(q), token_bytes=spectrum_bytes(q))
        return queries, keys

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, salt: int = 0) -> Tensor:
        """Return the weighted sums of values `[B, H, S, E]`; see `AttentionCore.forward`."""
        if self.superposition == 1:
            return super().forward(q, k, v, valid, salt)
        with without_autocast(q):
            shown = v.new_ones(1, v.shape[2], dtype=torch.bool) if valid is None else valid
            shown = shown[:, None, :, None]
            size = max(1, min(self.superposition, v.shape[2]))
            present = _groups(shown, size).any(3)[:, 0, :, 0]
            function = partial(_prefixes if self.causal else _slots, score=self.score, size=size)
            slots = in_parts(function, q, k, v, shown, self.scale(q), token_bytes=spectrum_bytes(q), tokens=False)
            if self.causal:
                return _causal_mixture(*slots, shown=shown, present=present, size=size).to(v.dtype)
            queries, keys, values = (tensor.to(v.dtype) for tensor in slots)
        return mixture(queries, keys, values, None if valid is None else present, scale=1.0)

    def start(self, batch: int, like: Tensor) -> State:
        """Return empty caches, with C above 1 those of finished groups, and a running group without tokens.

        That is keys and values of the groups `[B, H, G, E]`, the running group's sums of keys and of values
        `[B, H, E]`, and its number of tokens n, told by the shape `[B, n, 0]`: a number on a GPU would have to be
        waited for at every step.
        """
        if self.superposition == 1:
            return super().start(batch, like)
        self.refuse_steps()
        cache = torch.zeros(batch, self.num_heads, 0, self.head_dim, dtype=work_dtype(like.dtype), device=like.device)
        total = cache.new_zeros(batch, self.num_heads, self.head_dim)
        return cache, cache, total, total, cache.new_zeros(batch, 0, 0)

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the next output `[B, H, E]` and the state after it; see `AttentionCore.step`."""
        if self.superposition == 1:
            return super().step(q, k, v, state)
        keys, values, key_sum, value_sum, count = state
        with without_autocast(q):
            q, k, value = (tensor[:, :, None].to(key_sum.dtype) for tensor in (q, k, v))
            query, key = _pairs(q, k, value, self.scale(q), score=self.score, alone=False)
            key_sum, value_sum = key_sum + key[:, :, 0], value_sum + value[:, :, 0]
            tokens = count.shape[1] + 1
            sums = (key_sum[:, :, None], value_sum[:, :, None])
            own_key, own_value = _slot(*sums, key_sum.new_full((1,), tokens), self.score)
            all_keys, all_values = longer(keys, own_key), longer(values, own_value)
            mixed = mixture(query, all_keys, all_values, None, scale=1.0)[:, :, 0].to(v.dtype)
        if tokens < self.superposition:
            return mixed, (keys, values, key_sum, value_sum, count.new_zeros(len(count), tokens, 0))
        nothing = torch.zeros_like(key_sum)
        return mixed, (all_keys, all_values, nothing, nothing, count.new_zeros(len(count), 0, 0))


def _pairs(q: Tensor, k: Tensor, v: Tensor, scale: Tensor, *, score: str, alone: bool = True) -> tuple[Tensor, Tensor]:
    """Return q ⊛ v times the scale, and k ⊛ v, as the score wants them; the latter as it is unless it stands alone."""
    spectra = [transform(tensor.to(work_dtype(tensor.dtype))) for tensor in (q, k, v)]
    queries, keys = (inverse_transform(spectrum * spectra[2], v.shape[-1]) for spectrum in spectra[:2])
    if score == "cosine":
        queries = unit(queries)
        keys = unit(keys) if alone else keys
    return (queries * scale).to(q.dtype), keys.to(k.dtype)


def _groups(x: Tensor, size: int) -> Tensor:
    """Return x `[B, H, S, N]` cut into groups `[B, H, G, size, N]`, the last filled up with zeros."""
    return functional.pad(x, (0, 0, 0, -x.shape[2] % size)).unflatten(2, (-1, size))


def _slots(
    q: Tensor, k: Tensor, v: Tensor, shown: Tensor, scale: Tensor, *, score: str, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries `[B, H, S, E]`, and keys and values of the groups `[B, H, G, E]`, float32 or wider."""
    queries, *grouped = _grouped(q, k, v, shown, scale, score=score, size=size)
    keys, values, counts = (tensor.sum(3) for tensor in grouped)
    return queries, *_slot(keys, values, counts, score)


def _prefixes(
    q: Tensor, k: Tensor, v: Tensor, shown: Tensor, scale: Tensor, *, score: str, size: int
) -> tuple[Tensor, ...]:
    """Return what `_slots` does, and keys and values of each token's own group as far as the token `[B, H, S, E]`."""
    queries, *grouped = _grouped(q, k, v, shown, scale, score=score, size=size)
    running = [tensor.cumsum(3) for tensor in grouped]
    keys, values, counts = (tensor[..., -1, :] for tensor in running)
    own_keys, own_values, own_counts = (tensor.flatten(2, 3)[:, :, : q.shape[2]] for tensor in running)
    return queries, *_slot(keys, values, counts, score), *_slot(own_keys, own_values, own_counts, score)


def _grouped(
    q: Tensor, k: Tensor, v: Tensor, shown: Tensor, scale: Tensor, *, score: str, size: int
) -> tuple[Tensor, ...]:
    """Return queries, and in groups `[B, H, G, C, ...]` bound pairs, values and ones, of valid tokens."""
    q, k, v = (tensor.to(work_dtype(tensor.dtype)) for tensor in (q, k, v))
    queries, keys = _pairs(q, k, v, scale, score=score, alone=False)
    return queries, *(_groups(tensor, size) for tensor in (keys * shown, v * shown, shown.to(v.dtype)))


def _slot(keys: Tensor, values: Tensor, counts: Tensor, score: str) -> tuple[Tensor, Tensor]:
    """Return key and value of a slot, from the sums of its pairs and values; zeros where it has none."""
    return unit(keys) if score == "cosine" else keys, values / counts.clamp(min=1)


def _causal_mixture(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    own_keys: Tensor,
    own_values: Tensor,
    *,
    shown: Tensor,
    present: Tensor,
    size: int,
) -> Tensor:
    """Return what each token takes from the finished groups and its own `[B, H, S, E]`; see `_rows`."""
    length = shown.shape[2]
    own_shown = _groups(shown, size).cumsum(3).flatten(2, 3)[:, :, :length] > 0
    place = torch.arange(length, device=shown.device)[None, None, :, None] // size
    rows = (queries, own_keys, own_values, own_shown, place)
    slots = (keys[:, :, None], values[:, :, None], present[:, None, None])
    (mixed,) = in_parts(_rows, *rows, *slots, token_bytes=(keys.shape[2] + 1) * keys.dtype.itemsize)
    return mixed


def _rows(
    queries: Tensor,
    own_keys: Tensor,
    own_values: Tensor,
    own_shown: Tensor,
    place: Tensor,
    keys: Tensor,
    values: Tensor,
    present: Tensor,
) -> tuple[Tensor]:
    """Return the outputs of some tokens `[B, H, R, E]`.

    Args:
        queries: `[B, H, R, E]`, times the scale.
        own_keys: The token's own group as far as the token `[B, H, R, E]`.
        own_values: Likewise.
        own_shown: `[B, 1, R, 1]`, whether that holds a valid token.
        place: Which group it is `[1, 1, R, 1]`.
        keys: `[B, H, 1, G, E]`.
        values: `[B, H, 1, G, E]`.
        present: `[B, 1, 1, G]`, whether a group has a valid token.
    """
    keys, values = keys[:, :, 0], values[:, :, 0]
    finished = (torch.arange(keys.shape[2], device=keys.device) < place) & present
    seen = own_shown | finished.any(-1, keepdim=True)
    own_scores = (queries * own_keys).sum(-1, keepdim=True).masked_fill(~own_shown & seen, float("-inf"))
    scores = (queries @ keys.transpose(-1, -2)).masked_fill(~finished, float("-inf"))
    weights = torch.softmax(torch.cat([scores, own_scores], -1), -1)
    mixed = weights[..., :-1] @ values + weights[..., -1:] * own_values
    return (mixed.masked_fill(~seen, 0.0),)
