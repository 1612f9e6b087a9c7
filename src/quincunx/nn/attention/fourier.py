"""The real Fourier transform, its half spectra having the gradients that the whole spectra would have.

torch takes the bins of a half spectrum for all there is: the way back through a transform then fills the spectrum up
and takes a complex transform of full length, and the way back through an inverse doubles most bins. With the gradients
of whole spectra, whose bins and mirror images count each for itself, the way back through either is the other.

E width, F = E // 2 + 1 bins.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quincunx.nn.attention.hrr import FLOOR


def transform(x: Tensor) -> Tensor:
    """Return the spectra `[..., F]` of x `[..., E]`, float32 or wider.

    Gradients are right only where all that comes of the spectrum ends in `inverse_transform`, and nothing in between
    mixes bins: products, conjugates and magnitudes bin by bin, and sums over other dimensions.
    """
    if torch.compiler.is_compiling():
        return torch.fft.rfft(x)
    return _Transform.apply(x, "backward")  # pyright: ignore[reportReturnType]


def inverse_transform(spectrum: Tensor, width: int) -> Tensor:
    """Return the vectors `[..., E]` of spectra `[..., F]` that come from `transform`; `width` is E."""
    if torch.compiler.is_compiling():
        return torch.fft.irfft(spectrum, n=width)
    return _Inverse.apply(spectrum, width, "backward")  # pyright: ignore[reportReturnType]


def power(spectrum: Tensor) -> Tensor:
    """Return |spectrum|², real."""
    return spectrum.real**2 + spectrum.imag**2


def unit_bins(spectrum: Tensor) -> Tensor:
    """Return a spectrum with every magnitude made 1; bins below `FLOOR` stay short. See `hrr.unit_spectrum`."""
    return spectrum * power(spectrum).clamp(min=FLOOR**2).rsqrt()


class _Transform(torch.autograd.Function):
    """rfft; `norm` says which direction divides by E."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: str) -> Tensor:
        ctx.width, ctx.norm = x.shape[-1], norm
        return torch.fft.rfft(x, norm=norm)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Inverse.apply(gradient, ctx.width, _other(ctx.norm)), None  # pyright: ignore[reportReturnType]


class _Inverse(torch.autograd.Function):
    """irfft; `norm` says which direction divides by E."""

    @staticmethod
    def forward(ctx: Any, spectrum: Tensor, width: int, norm: str) -> Tensor:
        ctx.norm = norm
        return torch.fft.irfft(spectrum, n=width, norm=norm)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Transform.apply(gradient, _other(ctx.norm)), None, None  # pyright: ignore[reportReturnType]


def _other(norm: str) -> str:
    return "forward" if norm == "backward" else "backward"
