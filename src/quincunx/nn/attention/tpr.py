"""Attention through a tensor product memory (Smolensky 1990): M = Σ_s k_s v_sᵀ, read by queries as v̂_t = Mᵀ q_t.

The memory of linear attention (Katharopoulos et al. 2020, arXiv 2006.16236) and of fast weights (Schlag et al. 2021,
arXiv 2102.11174): time O(S E²), no S x S matrix. B batch, S sequence, H heads, E head width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.errors import UsageError
from quincunx.nn.attention.delta import CHUNK, cut, delta_reads, delta_write
from quincunx.nn.attention.gate import EPSILON, agreement, gate_weights, valid_counts
from quincunx.nn.attention.layer import AttentionCore, State

SLICE_BYTES = 2**25 - 2**12
"""Most bytes of one temporary: glibc maps, clears and unmaps a block of 32 MiB or more every time it is asked for."""

NORM_EPSILON = 1e-5
"""Added to the variance in the layer norm of what was read."""

WORDS = {
    "mode": ("gated", "retrieval"),
    "score": ("cosine", "dot"),
    "gate": ("softmax", "mean_preserving"),
    "feature_map": ("identity", "elu"),
    "denominator": ("count", "keys", "norm", "none"),
}


class TprAttention(AttentionCore):
    """What the memory of all tokens answers to each token's query, or each token's own value gated by that answer.

    `gated` is Hrrformer's scheme (Alam et al. 2023, arXiv 2305.19534) with this memory in place of its trace: a_t says
    how well v_t agrees with v̂_t, and the output is softmax(a)_t v_t. `retrieval` puts out v̂_t itself, over a
    denominator. Permuting the tokens permutes the outputs, except under `delta`, where their order matters.

    Options of the mode that was not chosen have no effect. Temporaries are cut along batch and heads to stay below
    32 MiB each; the sequence of a single head is not cut (in float32, 131,072 tokens of width 64; half under `delta`).

    Args:
        num_heads: Number of heads H.
        head_dim: Width of a head E.
        causal: Token t reads the memory of the tokens up to t. Memory O(S E), state O(E²) per head.
        mode: `gated` or `retrieval`.
        score: Gated: agreement as `cosine`, or as `dot` product with the unnormalised sum v̂_t.
        scale: Gated: multiplies the agreement; above 0. None means 1.
        learn_scale: Gated: the scale is learned, one per head, starting at `scale`; kept as its logarithm.
        gate: Gated: `softmax`: the weights add up to 1, so outputs shrink with the number of tokens.
            `mean_preserving`: they are multiplied by the number of valid tokens (causal: so far).
        read: Gated: adds gain · LN(v̂_t), LN without affine part, the gain learned per head from 1: the only way by
            which the content of other tokens enters an output.
        feature_map: Retrieval: what queries and keys go through first: `identity`, or `elu`, elu(x) + 1.
        denominator: Retrieval: `count`, the number of valid tokens (causal: so far); `keys`, φ(q_t) · Σ_s φ(k_s), the
            Linear Transformer's, for the `elu` map alone; `norm`, LN without affine part times a gain learned per head
            from 1; `none`.
        delta: Retrieval: write by the delta rule (see `delta.py`); queries and keys are brought to unit length after
            the feature map. Bidirectional: the memory after all tokens in their order, read by every token. It does
            not grow with their number, so `norm` and `none` suit it, and `count` makes outputs shrink.
        delta_rate: Share of the error that a write corrects, above 0 and at most 2.

    Raises:
        UsageError: An unknown word, a number out of range, or options that contradict one another.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        *,
        causal: bool = False,
        mode: Literal["gated", "retrieval"] = "gated",
        score: Literal["cosine", "dot"] = "cosine",
        scale: float | None = None,
        learn_scale: bool = False,
        gate: Literal["softmax", "mean_preserving"] = "softmax",
        read: bool = False,
        feature_map: Literal["identity", "elu"] = "identity",
        denominator: Literal["count", "keys", "norm", "none"] = "count",
        delta: bool = False,
        delta_rate: float = 1.0,
    ) -> None:
        super().__init__(num_heads, head_dim, causal=causal)
        chosen = {"mode": mode, "score": score, "gate": gate, "feature_map": feature_map, "denominator": denominator}
        for option, word in chosen.items():
            if word not in WORDS[option]:
                raise UsageError(f"tpr: {option} is {word!r}: choose one of {', '.join(WORDS[option])}")
        self.gated = mode == "gated"
        self.scale = 1.0 if scale is None else scale
        if not self.scale > 0:
            raise UsageError(f"tpr: scale is {scale}: expected a number above 0, or null for 1")
        if delta and self.gated:
            raise UsageError("tpr: delta: true needs mode: retrieval; the gated mode reads the plain sum of all tokens")
        if not 0 < delta_rate <= 2:
            raise UsageError(f"tpr: delta_rate is {delta_rate}: expected above 0, and at most 2: errors grow beyond")
        if not self.gated and denominator == "keys":
            if feature_map != "elu":
                raise UsageError(
                    f"tpr: denominator: keys needs feature_map: elu; under {feature_map} the sum may vanish. Choose "
                    "elu, or one of the denominators count, norm, none"
                )
            if delta:
                raise UsageError(
                    "tpr: denominator: keys divides by the sum of all keys, which under delta: true the memory is not "
                    "a sum over: choose norm or none"
                )
        self.score, self.gate = score, gate
        self.feature_map, self.denominator = feature_map, denominator
        self.delta, self.delta_rate = delta, delta_rate
        # Only what acts becomes a parameter, so that no optimiser meets one without a gradient.
        learned = torch.full((num_heads,), math.log(self.scale)) if self.gated and learn_scale else None
        self.log_scale = None if learned is None else nn.Parameter(learned)
        gain = read if self.gated else denominator == "norm"
        self.gain = nn.Parameter(torch.ones(num_heads)) if gain else None

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, salt: int = 0) -> Tensor:
        """Return gated values, or what was retrieved, `[B, H, S, E]`; see `AttentionCore.forward`."""
        if torch.compiler.is_compiling():  # a compiler plans memory itself; cuts would tie its graph to one size
            return self._attend(q, k, v, valid, slice(None))
        rows, heads = self._cuts(q)
        if rows >= len(q) and heads == self.num_heads:
            return self._attend(q, k, v, valid, slice(None))
        # split, not slices: its backward pass joins the parts' gradients once, without a whole of zeros for each
        cuts = [tensor.split(rows) for tensor in (q, k, v)]
        masks = [None] * len(cuts[0]) if valid is None else valid.split(rows)
        outputs = []
        for some_q, some_k, some_v, mask in zip(*cuts, masks, strict=True):
            parts = zip(some_q.split(heads, 1), some_k.split(heads, 1), some_v.split(heads, 1), strict=True)
            chosen = (slice(at, at + heads) for at in range(0, self.num_heads, heads))
            done = [self._attend(*part, mask, of) for part, of in zip(parts, chosen, strict=True)]
            outputs.append(_joined(done, 1))
        return _joined(outputs, 0)

    def start(self, batch: int, like: Tensor) -> State:
        """Return the memory `[B, H, E, E]` and what the gate or denominator needs; see `AttentionCore.start`.

        Gated: the logarithm of the gate's sum so far `[B, H, 1]` and the count of tokens `[B, 1, 1]`; retrieval: the
        count, the sum of keys `[B, H, 1, E]`, or nothing.
        """
        self.refuse_steps()
        zeros = like.new_zeros(batch, self.num_heads, 1, self.head_dim, dtype=_work(like.dtype))
        memory, count = zeros.mT @ zeros, zeros.new_zeros(batch, 1, 1)
        if self.gated:
            return memory, zeros.new_full((batch, self.num_heads, 1), float("-inf")), count
        return {"count": (memory, count), "keys": (memory, zeros)}.get(self.denominator, (memory,))

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the next token's output `[B, H, E]` and the state after it; see `AttentionCore.step`."""
        dtype, heads = q.dtype, slice(None)
        memory, *rest = state
        with torch.autocast(q.device.type, enabled=False):
            q, k, v = (tensor.to(memory.dtype).unsqueeze(-2) for tensor in (q, k, v))
            q, k = self._features(q), self._features(k)
            memory = delta_write(memory, k, v, self.delta_rate) if self.delta else memory + k.mT @ v
            answer = q @ memory
            if self.gated:
                total, count = rest
                scores = self._scores(v, answer, heads)
                total, count = torch.logaddexp(total, scores), count + 1
                out = self._gated(v, answer, (scores - total).exp(), count, heads)
                rest = [total, count]
            else:
                rest = [tensor + (1 if self.denominator == "count" else k) for tensor in rest]
                out = self._divided(answer, q, rest[0] if rest else None, heads)
        return out.squeeze(-2).to(dtype), (memory, *rest)

    def checkpointing_note(self) -> str | None:
        """Return why recomputing saves no memory, where the backward pass needs but queries, keys and values."""
        plain = self.feature_map == "identity" and self.denominator in ("count", "none") and not self.delta
        if self.gated or self.causal or not plain:
            return None
        return (
            "gradient checkpointing saves next to nothing under plain tpr retrieval: its backward pass needs queries, "
            "keys, values and the memory, which is as small as a head is wide"
        )

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, heads: slice) -> Tensor:
        """Attend in the heads of this slice, all tensors holding these alone."""
        dtype = q.dtype
        with torch.autocast(q.device.type, enabled=False):
            q, k, v = (tensor.to(_work(dtype)) for tensor in (q, k, v))
            q, k = self._features(q), self._features(k)
            if valid is not None:
                padding = ~valid[:, None, :, None]
                k, v = k.masked_fill(padding, 0.0), v.masked_fill(padding, 0.0)
            if self.delta:
                answer = delta_reads(q, k, v, self.delta_rate, self.causal)
            else:
                answer = prefix_reads(q, k, v) if self.causal else q @ (k.mT @ v)
            counts = valid_counts(answer[..., 0], valid, self.causal)
            if self.gated:
                weights = gate_weights(self._scores(v, answer, heads), valid, self.causal)
                out = self._gated(v, answer, weights, counts, heads)
            else:
                sums = None
                if self.denominator == "count":
                    sums = counts
                elif self.denominator == "keys":
                    sums = k.cumsum(-2) if self.causal else k.sum(-2, keepdim=True)
                out = self._divided(answer, q, sums, heads)
        return out.to(dtype)

    def _features(self, x: Tensor) -> Tensor:
        if self.gated:
            return x
        if self.feature_map == "elu":
            # elu(x) + 1 without the cancellation that makes it 0 below -17 in float32
            x = functional.relu(x) + x.clamp(max=0).exp()
        if self.delta:
            x = x * torch.rsqrt((x * x).sum(-1, keepdim=True) + EPSILON)
        return x

    def _scores(self, v: Tensor, answer: Tensor, heads: slice) -> Tensor:
        scores = agreement(v, answer, self.score)
        return scores * (self.scale if self.log_scale is None else self.log_scale[heads].exp().to(v.dtype)[:, None])

    def _gated(self, v: Tensor, answer: Tensor, weights: Tensor, counts: Tensor, heads: slice) -> Tensor:
        if self.gate == "mean_preserving":
            weights = weights * counts
        out = weights[..., None] * v
        return out if self.gain is None else out + self._normed(answer, self.gain, heads)

    def _divided(self, answer: Tensor, q: Tensor, sums: Tensor | None, heads: slice) -> Tensor:
        """Divide by the counts `[B or 1, 1, S or 1]` or the sums of keys `[B, H, S or 1, E]`."""
        if self.gain is not None:
            return self._normed(answer, self.gain, heads)
        if sums is None:
            return answer
        divisor = sums[..., None] if self.denominator == "count" else (q * sums).sum(-1, keepdim=True)
        return answer / divisor.masked_fill(divisor == 0, 1.0)  # no valid token (yet): 0 / 1, in the gradient too

    def _normed(self, answer: Tensor, gain: Tensor, heads: slice) -> Tensor:
        normed = functional.layer_norm(answer, (self.head_dim,), eps=NORM_EPSILON)
        return normed * gain[heads].to(answer.dtype)[:, None, None]

    def _cuts(self, q: Tensor) -> tuple[int, int]:
        """Return how many rows and how many heads to take at once."""
        length, widest = q.shape[2], self.head_dim
        if self.causal or self.delta:  # products within chunks, and the tokens that fill the last one
            widest = max(2 * self.head_dim if self.delta else self.head_dim, CHUNK)
            length = math.ceil(length / widest) * widest
        head = length * widest * _work(q.dtype).itemsize
        fits = max(SLICE_BYTES // max(head, 1), 1)
        pieces = math.ceil(self.num_heads / fits)
        return max(fits // self.num_heads, 1), math.ceil(self.num_heads / pieces)


def prefix_reads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return Σ_{s<=t} (q_t · k_s) v_s `[..., S, E]`: products within chunks, and the memory of the chunks before.

    Chunks as long as the head is wide keep both parts, and the memories between them, at O(S E).
    """
    length, width = q.shape[-2:]
    q, k, v = (cut(tensor, max(width, CHUNK)) for tensor in (q, k, v))
    memories = (k.mT @ v).cumsum(-3)
    before = functional.pad(memories[..., :-1, :, :], (0, 0, 0, 0, 1, 0))
    reads = (q @ k.mT).tril() @ v + q @ before
    return reads.flatten(-3, -2)[..., :length, :]


def _joined(parts: list[Tensor], axis: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis)


def _work(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
