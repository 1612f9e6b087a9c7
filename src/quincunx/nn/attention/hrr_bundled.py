"""Bundled holographic attention (Alam et al. 2023, arXiv 2305.19534: Hrrformer): all pairs of keys and values go into
one vector a head; every token unbinds it by its query and weighs its own value by how well the two agree. O(S) time,
O(1) state. The fast form on packed spectra is in `quincunx.nn.attention.spectral`.

B batch, S sequence, H heads, E head width, R traces a head.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.nn.attention.gate import agreement, gate_weights, valid_counts
from quincunx.nn.attention.layer import AttentionCore, State
from quincunx.nn.attention.spectral import SpectralForm, SpectralGate, compile_method, gated, variant

SLICE = 1 << 20
"""Bytes of an array that eager code goes through at a time: from 32 MiB on glibc maps every block anew."""

NORM_EPSILON = 1e-5
"""Added to the variance of what is read, as in torch's layer normalisation."""

Form = Literal["rfft", "spectral"]
Score = Literal["cosine", "dot"]
Gate = Literal["softmax", "mean_preserving"]


class TimeForm(nn.Module):
    """Binding and retrieval of vectors, through their spectra: a trace is a sum of spectra.

    Args:
        width: Head width E.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def split(self, vectors: Tensor) -> Tensor:
        """Return the vectors: as they come they can be bound."""
        return vectors

    def merge(self, vectors: Tensor) -> Tensor:
        """Return the vectors."""
        return vectors

    def bind(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the spectra `[..., E // 2 + 1]` of the bound pairs of a and b `[..., E]`."""
        return torch.fft.rfft(a, dim=-1) * torch.fft.rfft(b, dim=-1)

    def retrieve(self, trace: Tensor, query: Tensor) -> Tensor:
        """Return what was bound to the query `[..., E]` in a sum of `bind` `[..., E // 2 + 1]`, approximately."""
        return torch.fft.irfft(trace * torch.fft.rfft(query, dim=-1).conj(), n=self.width, dim=-1)

    def centred(self, vectors: Tensor) -> Tensor:
        """Return the vectors `[..., E]` less their mean over the width."""
        return vectors - vectors.mean(-1, keepdim=True)


class Mix(nn.Module):
    """Gating by what the traces answer, in either form, autograd looking into it: for every option and causal too.

    A module without parameters, since the compiler takes a module's numbers for constants.

    Args:
        form: `rfft` or `spectral`.
        width: Head width E.
        causal: Token t sees the tokens up to t only.
        score: `cosine` or `dot`.
        mean_preserving: Weights are multiplied by the number of valid tokens.
        mask_trace: Tokens that are not valid are kept out of the traces too.
    """

    def __init__(
        self, form: Form, width: int, causal: bool, score: Score, mean_preserving: bool, mask_trace: bool
    ) -> None:
        super().__init__()
        self.settings = (form, width, causal, score, mean_preserving, mask_trace)
        self.form = TimeForm(width) if form == "rfft" else SpectralForm(width)
        self.causal = causal
        self.score = score
        self.mean_preserving = mean_preserving
        self.mask_trace = mask_trace

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        valid: Tensor | None,
        scale: Tensor,
        read_gain: Tensor | None,
        query_maps: Tensor | None,
        key_maps: Tensor | None,
    ) -> Tensor:
        """Return what each token takes from the others `[B, H, S, E]`.

        Args:
            q: Queries `[B, H, S, E]`.
            k: Keys `[B, H, S, E]`.
            v: Values `[B, H, S, E]`.
            valid: `[B, S]` bool or None.
            scale: What the scores of a head are multiplied by `[H]`.
            read_gain: γ of each head `[H]`, None without reading.
            query_maps: Maps of queries for the further traces `[R - 1, H, E, E]`, None without any.
            key_maps: Those of keys.
        """
        work = scale.dtype
        if read_gain is not None and valid is not None and not self.mask_trace:
            # a trace of padding alone is not to be read
            seen = valid.cumsum(1) > 0 if self.causal else valid.any(1, keepdim=True)
            q = q.masked_fill(~seen[:, None, :, None], 0.0)
        step = _step(q, work)
        # split, not slices: its backward pass joins the parts' gradients once, without a whole of zeros for each
        parts = list(zip(*(x.split(step, dim=2) for x in (q, k, v)), strict=True))
        masks = [None] * len(parts) if valid is None else valid.split(step, dim=1)
        like = v[..., 0].to(work)
        roots = valid_counts(like, valid if self.mask_trace else None, self.causal).sqrt()[..., None]
        traces = self._traces(parts, masks, key_maps, work)
        scores, reads = [], []
        rooted = roots.split(step, dim=2) if self.causal else [roots] * len(parts)
        for part, root, found in zip(parts, rooted, traces, strict=True):
            some_q, some_v = part[0].to(work), part[2].to(work)
            score, answer = self.answers(some_q, some_v, found, root, scale, query_maps)
            scores.append(score)
            if read_gain is not None:
                reads.append(self.normed(answer, root, read_gain))
        weights = gate_weights(_joined(scores), valid, self.causal)
        if self.mean_preserving:
            weights = weights * valid_counts(like, valid, self.causal)
        outs = [w[..., None] * part[2] for w, part in zip(weights.split(step, dim=2), parts, strict=True)]
        if reads:
            outs = [out + read for out, read in zip(outs, reads, strict=True)]
        return _joined([out.to(v.dtype) for out in outs])

    def _traces(
        self,
        parts: Sequence[tuple[Tensor, ...]],
        masks: Sequence[Tensor | None],
        key_maps: Tensor | None,
        work: torch.dtype,
    ) -> Iterator[list[Tensor]]:
        """Yield for every part of the tokens the R traces `[B, H, S or 1, ...]` that its tokens unbind."""
        sums: list[Tensor] = []
        bound = (
            [self.bound(key, v.to(work), mask if self.mask_trace else None) for key in _mapped(k.to(work), key_maps)]
            for (_, k, v), mask in zip(parts, masks, strict=True)
        )
        if self.causal:
            for pairs in bound:
                traces = [pair.cumsum(2) for pair in pairs]
                if sums:
                    traces = [before + trace for before, trace in zip(sums, traces, strict=True)]
                sums = [trace[:, :, -1:] for trace in traces]
                yield traces
            return
        for pairs in bound:
            added = [pair.sum(2, keepdim=True) for pair in pairs]
            sums = [before + one for before, one in zip(sums, added, strict=True)] if sums else added
        for _ in parts:
            yield sums

    def bound(self, k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
        """Return the bound pairs of keys and values `[B, H, S, E]`, nothing for tokens not valid `[B, S]`."""
        if valid is not None:
            k = k.masked_fill(~valid[:, None, :, None], 0.0)
        return self.form.bind(self.form.split(k), self.form.split(v))

    def answers(
        self, q: Tensor, v: Tensor, traces: Sequence[Tensor], root: Tensor, scale: Tensor, query_maps: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the scores `[B, H, S]` of tokens and what they retrieve, over `root`, `[B, H, S, E]`.

        Args:
            q: Queries `[B, H, S, E]`.
            v: Values `[B, H, S, E]`.
            traces: Sums of `bound`, each `[B, H, S or 1, ...]`.
            root: √ of the number of tokens in them, which keeps what they answer in range: `[B or 1, 1, S or 1, 1]`.
            scale: `[H]`.
            query_maps: `[R - 1, H, E, E]` or None.
        """
        over = root.view(*root.shape, *(1,) * (traces[0].ndim - root.ndim))
        found = [
            self.form.merge(self.form.retrieve(trace / over, self.form.split(query)))
            for trace, query in zip(traces, _mapped(q, query_maps), strict=True)
        ]
        score = _mean([agreement(v, one, self.score) for one in found])
        if self.score == "dot":
            score = score * root[..., 0]
        return score * scale[:, None], _mean(found)

    def normed(self, answer: Tensor, root: Tensor, gain: Tensor) -> Tensor:
        """Return γ LN(v̂) of `answer`, v̂ over `root`; the same in both forms."""
        answer = self.form.centred(answer)
        variance = answer.square().mean(-1, keepdim=True)
        return answer * torch.rsqrt(variance + NORM_EPSILON / root.square()) * gain[:, None, None]


@functools.cache
def _compiled(settings: tuple[Form, int, bool, Score, bool, bool], _: tuple[Any, ...]) -> Callable[..., Tensor]:
    return compile_method(Mix(*settings).forward)


class HrrBundledAttention(AttentionCore):
    """w_t v_t, where w is a softmax over tokens of how well v_t agrees with v̂_t = q_t† ⊛ Σ_s k_s ⊛ v_s.

    As published, a token takes nothing from others but its weight; `gate` and `read` repair that. No form has a matrix
    of S x S weights.

    Args:
        num_heads: Number of heads H.
        head_dim: Head width E.
        causal: Trace, softmax and counts of a token go over the tokens up to it.
        form: `rfft`: queries, keys, values and output are vectors. `spectral`: all four are packed real spectra (the
            layout of `hrr.pack`), and there is no transform; the same class of functions, since the projections round
            the core can hold the transform. `quincunx.nn.attention.convert` turns the weights of one into the other's.
        compile: Generate machine code for the spectral form at the first call: the same values, several times faster.
        mask_trace: Keep tokens that are not valid out of the trace too; False is the published behaviour, where the
            output depends on how far the batch is padded.
        score: How value and retrieved value are compared: `cosine`, or `dot`, the inner product.
        scale: What scores are multiplied by, above 0; None means 1.
        learn_scale: The scale is learned, one a head, starting at `scale`; kept as its logarithm.
        gate: `softmax`; or `mean_preserving`: weights times the number of valid tokens, so that the mean weight is 1.
        read: Add γ · LN(v̂_t), the only way for the content of other tokens; γ is learned, one a head, starting at 1.
        traces: Traces R a head; each further one has learned maps `[E, E]` of queries and keys of its own, starting
            orthogonal. The agreements are averaged, and what is read.

    Raises:
        UsageError: An unknown word, a number out of range, or options that contradict one another.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        *,
        causal: bool = False,
        form: Form = "rfft",
        compile: bool = False,
        mask_trace: bool = True,
        score: Score = "cosine",
        scale: float | None = None,
        learn_scale: bool = False,
        gate: Gate = "softmax",
        read: bool = False,
        traces: int = 1,
    ) -> None:
        super().__init__(num_heads, head_dim, causal=causal)
        _check_options(form, compile, score, scale, gate, traces)
        self.options: dict[str, Any] = {
            "mask_trace": mask_trace,
            "score": score,
            "scale": scale,
            "learn_scale": learn_scale,
            "gate": gate,
            "read": read,
            "traces": traces,
        }
        self.form = form
        self.traces = traces
        self.compile_passes = compile
        self.scale = 1.0 if scale is None else float(scale)
        self.mix = Mix(form, head_dim, causal, score, gate == "mean_preserving", mask_trace)
        # the passes with a backward of their own know the plain case only
        plain = form == "spectral" and not causal and not read and traces == 1
        self.gate = SpectralGate(head_dim, score, gate == "mean_preserving", mask_trace) if plain else None
        start = torch.full((num_heads,), math.log(self.scale)) if learn_scale else None
        self.log_scale = None if start is None else nn.Parameter(start)
        self.read_gain = nn.Parameter(torch.ones(num_heads)) if read else None
        shape = (traces - 1, num_heads, head_dim, head_dim)
        self.query_maps = nn.Parameter(_orthogonal(shape)) if traces > 1 else None
        self.key_maps = nn.Parameter(_orthogonal(shape)) if traces > 1 else None

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, salt: int = 0) -> Tensor:
        """Return the gated values `[B, H, S, E]`; see `AttentionCore.forward`."""
        with torch.autocast(q.device.type, enabled=False):
            scale = self._scale(q)
            compiled = self.compile_passes and not torch.compiler.is_compiling()
            if self.gate is not None and not torch.compiler.is_compiling():
                q, k, v = (self.gate.split(x) for x in (q, k, v))
                return self.gate.merge(gated(self.gate, q, k, v, valid, scale, compiled=compiled))
            mix: Callable[..., Tensor] = self.mix
            if compiled:
                mix = _compiled(self.mix.settings, (*variant(v, valid), torch.is_grad_enabled()))
            return mix(
                q, k, v, valid, scale, *(_to(x, scale) for x in (self.read_gain, self.query_maps, self.key_maps))
            )

    def start(self, batch: int, like: Tensor) -> State:
        """Return the traces, the logarithm of the gate's sum so far `[B, H, 1]` and the count of tokens `[B, 1, 1]`.

        A trace is `[B, H, 1, E // 2 + 1]` complex in the form `rfft`, `[B, H, 1, 2, ⌈E / 2⌉]` in the form `spectral`.
        """
        self.refuse_steps()
        work = torch.promote_types(like.dtype, torch.float32)
        zeros = like.new_zeros(batch, self.num_heads, 1, self.head_dim, dtype=work)
        traces = [self.mix.bound(zeros, zeros, None) for _ in range(self.traces)]
        return *traces, zeros.new_full((batch, self.num_heads, 1), float("-inf")), zeros.new_zeros(batch, 1, 1)

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the next token's output `[B, H, E]` and the state after it; see `AttentionCore.step`."""
        *traces, total, count = state
        mix, dtype = self.mix, v.dtype
        with torch.autocast(q.device.type, enabled=False):
            q, k, v = (x.to(total.dtype)[:, :, None] for x in (q, k, v))
            scale = self._scale(q)
            read_gain, query_maps, key_maps = (_to(x, scale) for x in (self.read_gain, self.query_maps, self.key_maps))
            keys = _mapped(k, key_maps)
            traces = [trace + mix.bound(key, v, None) for trace, key in zip(traces, keys, strict=True)]
            count = count + 1
            root = count.sqrt()[..., None]
            score, answer = mix.answers(q, v, traces, root, scale, query_maps)
            total = torch.logaddexp(total, score)
            weight = (score - total).exp()
            if mix.mean_preserving:
                weight = weight * count
            out = weight[..., None] * v
            if read_gain is not None:
                out = out + mix.normed(answer, root, read_gain)
        return out[:, :, 0].to(dtype), (*traces, total, count)

    def in_form(self, form: Form, *, compile: bool = False) -> HrrBundledAttention:
        """Return a core with the options of this one in a form, dtype and device alike; learned numbers start anew."""
        core = HrrBundledAttention(
            self.num_heads, self.head_dim, causal=self.causal, form=form, compile=compile, **self.options
        )
        like = next(self.parameters(), None)
        return core if like is None else core.to(like)

    def checkpointing_note(self) -> str | None:
        """Return why recomputing saves no memory, where the backward pass needs but queries, keys and values."""
        if self.gate is None:
            return None
        return (
            "gradient checkpointing saves next to nothing under hrr-bundled in the form spectral: its backward pass "
            "keeps queries, keys, values and the trace alone, and computes the rest again as it is"
        )

    def _scale(self, like: Tensor) -> Tensor:
        """The factor of each head's scores `[H]`, float32 or wider."""
        work = torch.promote_types(like.dtype, torch.float32)
        if self.log_scale is None:
            return like.new_full((self.num_heads,), self.scale, dtype=work)
        return self.log_scale.to(work).exp()


def _check_options(form: str, compile: bool, score: str, scale: float | None, gate: str, traces: int) -> None:
    words = {"form": (form, Form), "score": (score, Score), "gate": (gate, Gate)}
    for option, (word, known) in words.items():
        if word not in get_args(known):
            raise UsageError(f"hrr-bundled: {option} is {word!r}: choose one of {', '.join(get_args(known))}")
    if compile and form != "spectral":
        raise UsageError(
            "hrr-bundled: compile: true needs form: spectral; the form rfft computes with complex numbers, for which "
            "torch.compile generates no code"
        )
    if scale is not None and not scale > 0:
        raise UsageError(f"hrr-bundled: scale is {scale}: expected a number above 0, or null for 1")
    if traces < 1:
        raise UsageError(f"hrr-bundled: traces is {traces}: expected at least 1")


def _orthogonal(shape: tuple[int, int, int, int]) -> Tensor:
    """Return random orthogonal matrices `[R - 1, H, E, E]`, each as likely as any other."""
    basis, triangle = torch.linalg.qr(torch.randn(shape, dtype=torch.float64))
    # without the signs, the distribution would be that of the algorithm
    return (basis * triangle.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]).to(torch.get_default_dtype())


def _mapped(x: Tensor, maps: Tensor | None) -> list[Tensor]:
    """Return queries or keys `[B, H, S, E]` for each of the R traces: as they are, then mapped."""
    return [x] if maps is None else [x, *(x @ one for one in maps)]


def _step(like: Tensor, work: torch.dtype) -> int:
    """Return how many tokens eager code takes at once on a CPU; a compiler and other devices get all of them."""
    length = like.shape[2]
    if torch.compiler.is_compiling() or like.device.type != "cpu" or not like.numel():
        return length
    return min(length, max(1, SLICE * length // (like.numel() * work.itemsize)))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=2)


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else functools.reduce(torch.add, tensors) / len(tensors)


def _to(parameter: Tensor | None, like: Tensor) -> Tensor | None:
    return None if parameter is None else parameter.to(like.dtype)
