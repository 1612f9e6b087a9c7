"""Holographic reduced representations (Plate 1995): binding by circular convolution, on the last axis of any tensors.

F is the discrete Fourier transform, a* the conjugate, E the width. A *packed spectrum* is the same vector in an
orthonormal real Fourier basis: inner products and norms are those of the vector, and binding is elementwise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FLOOR = 1e-4
"""Least magnitude that a spectrum is divided by: below it the gradient of 1/|F a| would blow up."""


def bind(a: Tensor, b: Tensor) -> Tensor:
    """Return a ⊛ b, the circular convolution F⁻¹(F a · F b).

    Args:
        a: `[..., E]`, of any width, odd ones too.
        b: `[..., E]`, broadcast against a.

    Returns:
        `[..., E]`, of the wider dtype of the two; half precision is computed in float32.
    """
    return _inverse_transform(_transform(a) * _transform(b), a.shape[-1], torch.promote_types(a.dtype, b.dtype))


def unbind(bound: Tensor, key: Tensor) -> Tensor:
    """Return what `key` was bound to in `bound`, approximately: the correlation F⁻¹(F bound · (F key)*).

    Exact where the key has a unit spectrum (`unit_spectrum`); otherwise the answer is convolved with the key's
    autocorrelation.

    Args:
        bound: `[..., E]`.
        key: `[..., E]`, broadcast against bound.
    """
    dtype = torch.promote_types(bound.dtype, key.dtype)
    return _inverse_transform(_transform(bound) * _transform(key).conj(), bound.shape[-1], dtype)


def inverse(a: Tensor, exact: bool = False) -> Tensor:
    """Return what undoes binding with a `[..., E]`.

    The involution (a reversed but for its first element, F⁻¹((F a)*)) is stable and approximate; the exact inverse
    F⁻¹(1 / F a) is exact where |F a| exceeds `FLOOR`, and floored there: its norm grows without bound otherwise.
    """
    if not exact:
        return torch.cat([a[..., :1], a[..., 1:].flip(-1)], dim=-1)
    spectrum = _transform(a)
    power = (spectrum.real**2 + spectrum.imag**2).clamp(min=FLOOR**2)
    return _inverse_transform(spectrum.conj() / power, a.shape[-1], a.dtype)


def unit_spectrum(a: Tensor) -> Tensor:
    """Return a `[..., E]` with every |F a| made 1, so that unbinding by it is exact; bins below `FLOOR` stay short."""
    spectrum = _transform(a)
    magnitude = (spectrum.real**2 + spectrum.imag**2).clamp(min=FLOOR**2).sqrt()
    return _inverse_transform(spectrum / magnitude, a.shape[-1], a.dtype)


def packed_basis(width: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
    """Return the orthonormal real Fourier basis `[E, E]`: `a @ packed_basis(E).T` is the packed spectrum of a.

    The first half of the packed spectrum is real: the constant term, then the real parts of the frequencies from 1 up.
    The second half belongs to it place by place: for an even E the Nyquist term, then the imaginary parts; an odd E has
    no Nyquist term. The constant and the Nyquist term are scaled by 1/√E, all else by √(2/E).
    """
    place = torch.arange(width, dtype=torch.float64)
    bins = torch.arange(width // 2 + 1, dtype=torch.float64)
    angles = 2 * math.pi * bins[:, None] * place / width
    scale = torch.full((len(bins), 1), math.sqrt(2 / width), dtype=torch.float64)
    scale[0] = math.sqrt(1 / width)
    if width % 2 == 0:
        scale[-1] = math.sqrt(1 / width)
    real, imaginary = scale * angles.cos(), -scale * angles.sin()
    rows = [real, imaginary[1:]] if width % 2 else [real[:-1], real[-1:], imaginary[1:-1]]
    return torch.cat(rows).to(dtype).to(device)


def pack(a: Tensor) -> Tensor:
    """Return the packed spectrum `[..., E]` of a `[..., E]`: the same vector in the basis `packed_basis`."""
    width = a.shape[-1]
    spectrum = _transform(a) * math.sqrt(2 / width)
    real, imaginary = spectrum.real, spectrum.imag
    ends = math.sqrt(0.5)
    if width % 2:
        parts = [real[..., :1] * ends, real[..., 1:], imaginary[..., 1:]]
    else:
        parts = [real[..., :1] * ends, real[..., 1:-1], real[..., -1:] * ends, imaginary[..., 1:-1]]
    return torch.cat(parts, dim=-1).to(a.dtype)


def unpack(packed: Tensor) -> Tensor:
    """Return the vector `[..., E]` of a packed spectrum `[..., E]`: the inverse of `pack`, and its transpose."""
    width = packed.shape[-1]
    work = packed.to(_work_dtype(packed.dtype))
    half = (width + 1) // 2
    ends = math.sqrt(2.0)
    zero = torch.zeros_like(work[..., :1])
    if width % 2:
        real = torch.cat([work[..., :1] * ends, work[..., 1:half]], dim=-1)
        imaginary = torch.cat([zero, work[..., half:]], dim=-1)
    else:
        real = torch.cat([work[..., :1] * ends, work[..., 1:half], work[..., half : half + 1] * ends], dim=-1)
        imaginary = torch.cat([zero, work[..., half + 1 :], zero], dim=-1)
    spectrum = torch.complex(real, imaginary) * math.sqrt(width / 2)
    return _inverse_transform(spectrum, width, packed.dtype)


def _work_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _transform(a: Tensor) -> Tensor:
    return torch.fft.rfft(a.to(_work_dtype(a.dtype)), dim=-1)


def _inverse_transform(spectrum: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    return torch.fft.irfft(spectrum, n=width, dim=-1).to(dtype)
