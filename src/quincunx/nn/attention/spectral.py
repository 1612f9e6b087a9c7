"""Bundled holographic attention on packed real spectra: no Fourier transform, three passes over the tokens forward and
two backward, nothing kept between them but queries, keys, values, the trace and a normaliser for each head.

In a packed spectrum (`hrr.packed_basis`) bin f holds a complex number, its real part in the first half of the vector
and its imaginary part in the second: two planes. Binding multiplies bin by bin. Bin 0 holds two real numbers instead,
the constant and the Nyquist term, each multiplied by itself: there the mixed products are left out. What a trace
retrieves is linear in the query, bin by bin: (r, i) -> (b1 r + b2 i, b2 r + b4 i), b1, b2, b4 from the trace alone.

B batch, S sequence, H heads, E head width, J = ⌈E / 2⌉ bins.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from quincunx.errors import RunError
from quincunx.nn.attention.gate import EPSILON

SLICE = 1 << 19
"""Bytes of an array that eager code goes through at a time, tokens of all rows and heads: what it computes then stays
in the processor's cache, and far below 32 MiB, from where on glibc maps every block anew."""

COMPILER_OPTIONS = {"realize_acc_reads_threshold": 10_000}
"""The compiler stores what many reads went into; the passes are bound by memory, and the gradient by the values, from
some 20 reads, would be stored half done and read again."""

Bins = tuple[Tensor, ...]
"""Three numbers a bin, each `[B, H, J]`: sums over tokens of products real by real, imaginary by imaginary and mixed,
or the table b1, b2, b4 of a trace."""


class SpectralForm(nn.Module):
    """Binding and retrieval on packed spectra.

    A module without parameters: the compiler takes a module's numbers for constants, all others for variables, and it
    needs the width as a constant to generate vector instructions.

    Args:
        width: Head width E.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.bins = (width + 1) // 2

    def split(self, packed: Tensor) -> Tensor:
        """Return the planes `[..., 2, J]` of packed spectra `[..., E]`; an odd width gets a Nyquist term of 0."""
        if self.width % 2:
            packed = torch.cat([packed[..., : self.bins], functional.pad(packed[..., self.bins :], (1, 0))], dim=-1)
        return packed.unflatten(-1, (2, self.bins))

    def merge(self, planes: Tensor) -> Tensor:
        """Return the packed spectra `[..., E]` of planes `[..., 2, J]`: `split` undone."""
        if self.width % 2:
            return torch.cat([planes[..., 0, :], planes[..., 1, 1:]], dim=-1)
        return planes.flatten(-2)

    def bind(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the bound pairs of a and b, all planes `[..., 2, J]`, scaled as `retrieve` wants them."""
        (ar, ai), (br, bi) = _halves(a), _halves(b)
        return torch.stack(self._fold((ar * br, ai * bi, ar * bi + ai * br)), dim=-2)

    def retrieve(self, trace: Tensor, query: Tensor) -> Tensor:
        """Return what was bound to the query in a sum of `bind`, approximately, all planes `[..., 2, J]`."""
        (qr, qi), (b1, b2, b4) = _halves(query), self._tables(*_halves(trace))
        return torch.stack([qr * b1 + qi * b2, qr * b2 + qi * b4], dim=-2)

    def centred(self, packed: Tensor) -> Tensor:
        """Return packed spectra `[..., E]` of the vectors less their mean over the width: the constant term is 0."""
        return functional.pad(packed[..., 1:], (1, 0))

    def _paired(self, like: Tensor) -> Tensor:
        """1 where a bin holds a complex number, 0 in bin 0 `[J]`."""
        return (torch.arange(self.bins, device=like.device) > 0).to(like.dtype)

    def _weight(self, like: Tensor) -> Tensor:
        """One over the scale of a bin in binding, twice `[J]`: E in bin 0, E / 2 elsewhere."""
        return self.width / (1 + self._paired(like))

    def _fold(self, sums: Bins) -> tuple[Tensor, Tensor]:
        """The halves of the trace that products add up to.

        Binding divides by √(1 / E) in bin 0 and by √(2 / E) elsewhere, retrieving once more: both are done here.
        """
        straight, crossed, mixed = sums
        paired, weight = self._paired(straight), self._weight(straight)
        return (straight - paired * crossed) * weight, (paired * mixed + (1 - paired) * crossed) * weight

    def _tables(self, real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """b1, b2, b4 of a trace."""
        paired = self._paired(real)
        return real, paired * imaginary, (1 - paired) * imaginary - paired * real


class SpectralGate(SpectralForm):
    """The gate of `HrrBundledAttention`, bidirectional, one trace a head, as passes that autograd does not look into.

    Arrays of the size of the queries that are read or written, forward: keys, values | queries, values | values and
    output; backward: gradient, queries, values | gradient, queries, keys, values and three gradients. That is 6 + 10.
    The backward sums over queries and values a second time once the weighted mean over all tokens is known: from the
    cache, where a head fits it. Sums that do not wait for that mean spare the reading, but took as long, on short
    sequences twice as long, and lose digits to a difference.

    Args:
        width: Head width E.
        score: `cosine` or `dot`.
        mean_preserving: Weights are multiplied by the number of valid tokens.
        mask_trace: Tokens that are not valid are kept out of the trace too.
    """

    def __init__(self, width: int, score: str, mean_preserving: bool, mask_trace: bool) -> None:
        super().__init__(width)
        self.settings = (width, score, mean_preserving, mask_trace)
        self.cosine = score == "cosine"
        self.mean_preserving = mean_preserving
        self.mask_trace = mask_trace

    def run_forward(
        self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, scale: Tensor, ones: Tensor, out: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Write the gated values into `out` and return what the backward needs besides q, k and v.

        Args:
            q: Queries in planes `[B, H, S, 2, J]`.
            k: Keys, alike.
            v: Values, alike.
            valid: `[B, S]` bool or None.
            scale: What scores are multiplied by `[H, 1]`, float32 or wider.
            ones: `[B, H, 1, 1]`, ones. A factor that belongs to a head keeps the compiler from joining heads and tokens
                to one loop in some sums only, which it could then not compute together with the others.
            out: `[B, H, S, 2, J]`, overwritten.

        Returns:
            The halves `[B, H, J]` of the trace over √(tokens in it), which keeps it in range; and the logarithm of the
            sum of the exponentials of the scores `[B, H, 1]`, 0 where no token is valid.
        """
        traced, root, gain = self._counts(valid, v, scale)
        sums = _added(self._products, k, v, None if traced is None else traced[:, None, :, None])
        real, imaginary = (half / root for half in self._fold(sums))
        measure = functools.partial(self._measure, self._tables(real, imaginary), ones)
        product, n1, n2 = _joined(measure, q, v)
        scores = product * self._factor(n1, n2, root) * scale
        if valid is not None:
            scores = scores.masked_fill(~valid[:, None], float("-inf"))
        largest = scores.amax(-1, keepdim=True)
        largest = largest.masked_fill(largest == float("-inf"), 0.0)
        total = (scores - largest).exp().sum(-1, keepdim=True)
        normaliser = largest + total.masked_fill(total == 0, 1.0).log()
        weights = (scores - normaliser).exp() * gain
        for tokens in _slices(v):
            out[:, :, tokens].copy_(weights[:, :, tokens, None, None] * v[:, :, tokens])
        return real, imaginary, normaliser

    def run_backward(
        self,
        gradient: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        valid: Tensor | None,
        scale: Tensor,
        ones: Tensor,
        real: Tensor,
        imaginary: Tensor,
        normaliser: Tensor,
        dq: Tensor,
        dk: Tensor,
        dv: Tensor,
    ) -> Tensor:
        """Write the gradients by q, k and v into dq, dk, dv `[B, H, S, 2, J]`; return that by the scale `[B, H]`.

        With v̂_t = B q_t, B symmetric, and a_t = num_t r_t the score of token t, where r_t = 1 / √(‖v_t‖² ‖v̂_t‖²):
        ∂a/∂v̂ = r v - num r³ ‖v‖² v̂, likewise by v; and ∂a/∂q = B ∂a/∂v̂ = r B v - num r³ ‖v‖² B² q, B² diagonal.
        """
        traced, root, gain = self._counts(valid, v, scale)
        measure = functools.partial(self._measure_both, self._tables(real, imaginary), ones)
        product, n1, n2, by_weight = _joined(measure, q, v, gradient)
        factor = self._factor(n1, n2, root)
        agree = product * factor
        weights = (agree * scale - normaliser).exp()
        if valid is not None:
            weights = weights.masked_fill(~valid[:, None], 0.0)
        weighted = weights * by_weight * gain
        by_score = weighted - weights * weighted.sum(-1, keepdim=True)
        straight = by_score * scale * factor
        curved = straight * agree * factor
        moments = _added(self._moments, q, v, straight[..., None], (curved * n1)[..., None])
        by_real, by_imaginary = self._fold(moments[:3])
        if self.cosine:
            power_real, power_imaginary = (power * self._weight(power) for power in moments[3:])
            paired = self._paired(real)
            by_real = by_real - (power_real + paired * power_imaginary) * real
            by_imaginary = by_imaginary - (paired * power_real + power_imaginary) * imaginary
        retrieving, binding = self._tables(real, imaginary), self._tables(by_real / root, by_imaginary / root)
        factors = gain * weights, straight, curved * n1, curved * n2
        for tokens in _slices(v):
            inputs = [x[:, :, tokens] for x in (gradient, q, k, v)]
            outputs = [x[:, :, tokens] for x in (dq, dk, dv)]
            here = [factor[:, :, tokens, None, None] for factor in factors]
            kept = None if traced is None else traced[:, None, tokens, None, None]
            self._write_gradients(inputs, outputs, here, kept, retrieving, binding)
        return (by_score * agree).sum(-1)

    def _counts(self, valid: Tensor | None, v: Tensor, like: Tensor) -> tuple[Tensor | None, Tensor, Tensor | float]:
        """Which tokens are in the trace, √ their number, and what weights are multiplied by."""
        length = torch.full((), v.shape[2], dtype=like.dtype, device=like.device)
        count = length if valid is None else valid.sum(1).to(like.dtype).clamp(min=1)[:, None, None]
        traced = valid if self.mask_trace else None
        return traced, (length if traced is None else count).sqrt(), count if self.mean_preserving else 1.0

    def _products(self, k: Tensor, v: Tensor, kept: Tensor | None) -> Bins:
        """First pass: sums over tokens of the products of keys and values, of those that are kept `[B, 1, S, 1]`."""
        (kr, ki), (vr, vi) = _halves(k), _halves(v)
        if kept is not None:
            kr, ki = kr.masked_fill(~kept, 0.0), ki.masked_fill(~kept, 0.0)
        return (kr * vr).sum(2), (ki * vi).sum(2), (kr * vi + ki * vr).sum(2)

    def _measure(self, tables: Bins, ones: Tensor, q: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Second pass: inner product of value and retrieved value, their squared norms, each `[B, H, S]`."""
        (qr, qi), (vr, vi) = _halves(q), _halves(v)
        b1, b2, b4 = (table[:, :, None] for table in tables)
        product = (b1 * (qr * vr) + b4 * (qi * vi) + b2 * (qr * vi + qi * vr)).sum(-1)
        n1 = ((vr * vr + vi * vi) * ones).sum(-1)
        n2 = ((b1 * b1 + b2 * b2) * (qr * qr) + (b2 * b2 + b4 * b4) * (qi * qi)).sum(-1)
        return product, n1, n2

    def _measure_both(
        self, tables: Bins, ones: Tensor, q: Tensor, v: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The second pass once more, and the inner product of gradient and value."""
        (vr, vi), (gr, gi) = _halves(v), _halves(gradient)
        return (*self._measure(tables, ones, q, v), ((gr * vr + gi * vi) * ones).sum(-1))

    def _factor(self, n1: Tensor, n2: Tensor, root: Tensor) -> Tensor:
        """What the inner product of value and retrieved value, over √ tokens, is multiplied by to give the score."""
        return torch.rsqrt(n1 * n2 + EPSILON) if self.cosine else root.expand_as(n1)

    def _moments(self, q: Tensor, v: Tensor, straight: Tensor, curved: Tensor) -> tuple[Tensor, ...]:
        """Weighted sums over tokens of the products of queries and values, then those of the queries' squares."""
        (qr, qi), (vr, vi) = _halves(q), _halves(v)
        xr, xi = straight * qr, straight * qi
        sums = (xr * vr).sum(2), (xi * vi).sum(2), (xr * vi + xi * vr).sum(2)
        return (*sums, (curved * qr * qr).sum(2), (curved * qi * qi).sum(2)) if self.cosine else sums

    def _write_gradients(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        factors: Sequence[Tensor],
        kept: Tensor | None,
        retrieving: Bins,
        binding: Bins,
    ) -> None:
        """Last pass of the backward: every array is read and written once."""
        gradient, q, k, v = (_wide(x) for x in inputs)
        weights, straight, curved_v, curved_q = factors
        by_q = straight * self._turn(retrieving, v)
        by_k = self._turn(binding, v)
        by_v = self._turn(binding, k)
        if kept is not None:
            by_k, by_v = by_k.masked_fill(~kept, 0.0), by_v.masked_fill(~kept, 0.0)
        by_v = by_v + weights * gradient + straight * self._turn(retrieving, q)
        if self.cosine:
            b1, b2, b4 = retrieving
            by_q = by_q - curved_v * torch.stack([b1 * b1 + b2 * b2, b2 * b2 + b4 * b4], -2)[:, :, None] * q
            by_v = by_v - curved_q * v
        for target, found in zip(outputs, (by_q, by_k, by_v), strict=True):
            target.copy_(found)

    def _turn(self, tables: Bins, planes: Tensor) -> Tensor:
        """(r, i) -> (b1 r + b2 i, b2 r + b4 i) on planes `[B, H, S, 2, J]`, written so that both are one expression."""
        b1, b2, b4 = tables
        return torch.stack([b1, b4], -2)[:, :, None] * planes + b2[:, :, None, None] * _swapped(planes)


def gated(
    gate: SpectralGate, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, scale: Tensor, *, compiled: bool = False
) -> Tensor:
    """Return the gated values `[B, H, S, 2, J]`, differentiable once by q, k, v and scale.

    Args:
        gate: What is computed.
        q: Queries in planes `[B, H, S, 2, J]`.
        k: Keys, alike.
        v: Values, alike.
        valid: `[B, S]` bool or None.
        scale: What the scores of a head are multiplied by `[H]`, float32 or wider.
        compiled: Let torch.compile generate the passes, at the first call for a device and dtype.

    Raises:
        RunError: The passes cannot be compiled here.
    """
    return _Gated.apply(gate, compiled, q, k, v, valid, scale)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        gate: SpectralGate,
        compiled: bool,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        valid: Tensor | None,
        scale: Tensor,
    ) -> Tensor:
        ctx.gate, ctx.compiled = gate, compiled
        out = torch.empty_like(v)
        run, _ = _passes(gate, compiled, v, valid)
        ones = scale.new_ones(v.shape[0], v.shape[1], 1, 1)
        # detached, since the compiler would generate the passes anew for inputs that ask for gradients
        kept = run(q.detach(), k.detach(), v.detach(), valid, scale.detach()[:, None], ones, out)
        ctx.save_for_backward(q, k, v, valid, scale, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, valid, scale, *kept = ctx.saved_tensors
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        _, run = _passes(ctx.gate, ctx.compiled, v, valid)
        ones = scale.new_ones(v.shape[0], v.shape[1], 1, 1)
        tensors = (x.detach() for x in (q, k, v))
        dscale = run(gradient, *tensors, valid, scale.detach()[:, None], ones, *kept, dq, dk, dv)
        return None, None, dq, dk, dv, None, dscale.sum(0)


Passes = tuple[Callable[..., Any], Callable[..., Any]]
"""`run_forward` and `run_backward` of a gate."""


def _passes(gate: SpectralGate, compiled: bool, v: Tensor, valid: Tensor | None) -> Passes:
    if not compiled:
        return gate.run_forward, gate.run_backward
    return _compiled_passes(gate.settings, variant(v, valid))


@functools.cache
def _compiled_passes(settings: tuple[int, str, bool, bool], _: tuple[Any, ...]) -> Passes:
    gate = SpectralGate(*settings)
    return compile_method(gate.run_forward), compile_method(gate.run_backward)


def variant(v: Tensor, valid: Tensor | None) -> tuple[Any, ...]:
    """Return what torch.compile would generate code anew for, besides the settings: a key for the cache of results."""
    order = sorted(range(v.ndim), key=v.stride, reverse=True)
    return v.dtype, v.device.type, valid is None, *(size == 1 for size in v.shape), *order


def compile_method(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that is compiled when first called, for all lengths at once.

    It raises RunError where it cannot be compiled.
    """
    # A copy of the code: torch.compile keeps no more than 8 versions of one, whatever object it belongs to.
    original = method.__func__  # pyright: ignore[reportFunctionMemberAccess]
    copy = types.FunctionType(original.__code__.replace(), original.__globals__, original.__name__)
    own = types.MethodType(copy, method.__self__)  # pyright: ignore[reportFunctionMemberAccess]
    fast = torch.compile(own, fullgraph=True, dynamic=True, options=dict(COMPILER_OPTIONS))

    def call(*arguments: Any) -> Any:
        try:
            return fast(*arguments)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            # what follows torch's first line is advice to its own developers
            raise RunError(
                f"hrr-bundled: torch.compile cannot be had here: {str(error).partition(chr(10))[0]}\n"
                "Install what it misses (on a CPU, a C++ compiler), or set the option compile to false: the same "
                "values, slower"
            ) from error

    return call


def _slices(like: Tensor) -> list[slice]:
    """Return the slices of tokens that eager code takes one after the other on a CPU; elsewhere a single one."""
    if torch.compiler.is_compiling() or like.device.type != "cpu" or not like.numel():
        return [slice(None)]
    length = like.shape[2]
    step = max(1, SLICE * length // (like.numel() * like.element_size()))
    return [slice(start, start + step) for start in range(0, length, step)]


def _by_slices(
    function: Callable[..., tuple[Tensor, ...]], first: Tensor, *others: Tensor | None
) -> list[tuple[Tensor, ...]]:
    arrays = (first, *others)
    return [
        function(*(None if array is None else array[:, :, tokens] for array in arrays)) for tokens in _slices(first)
    ]


def _added(function: Callable[..., tuple[Tensor, ...]], first: Tensor, *others: Tensor | None) -> tuple[Tensor, ...]:
    """Return the sums of what the function makes of every slice of tokens of arrays `[B, H, S, ...]`."""
    parts = _by_slices(function, first, *others)
    return functools.reduce(lambda one, other: tuple(a + b for a, b in zip(one, other, strict=True)), parts)


def _joined(function: Callable[..., tuple[Tensor, ...]], first: Tensor, *others: Tensor | None) -> tuple[Tensor, ...]:
    """Return what the function makes of every slice of tokens of arrays `[B, H, S, ...]`, joined along the tokens."""
    parts = _by_slices(function, first, *others)
    return parts[0] if len(parts) == 1 else tuple(torch.cat(part, dim=2) for part in zip(*parts, strict=True))


def _halves(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the real and the imaginary plane `[..., J]` of planes `[..., 2, J]`, float32 or wider."""
    planes = _wide(planes)
    return planes[..., 0, :], planes[..., 1, :]


def _swapped(planes: Tensor) -> Tensor:
    """Return planes `[..., 2, J]` with the two exchanged."""
    if torch.compiler.is_compiling():
        return planes.flip(-2)
    return torch.cat([planes[..., 1:, :], planes[..., :1, :]], dim=-2)  # twice as fast as flip


def _wide(array: Tensor) -> Tensor:
    return array.to(torch.promote_types(array.dtype, torch.float32))
