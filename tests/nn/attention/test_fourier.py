"""Transforms with gradients of whole spectra: their values, and that a way there and back is right."""

from __future__ import annotations

import pytest
import torch

from quincunx.nn.attention import hrr
from quincunx.nn.attention.fourier import inverse_transform, power, transform, unit_bins


def vectors(width: int, count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(8)
    return [torch.randn(4, width, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(count)]


def way(a, b, c, there, back):
    """All that is allowed between the two."""
    spectrum = there(a) * there(b).conj() * power(there(c)) + unit_bins(there(c)) * there(b).sum(0, keepdim=True)
    return back(spectrum, a.shape[-1])


def plain_inverse(spectrum, width):
    return torch.fft.irfft(spectrum, n=width)


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_values_and_gradients_are_those_of_torch(width):
    ours, theirs = vectors(width), vectors(width)
    out = way(*ours, transform, inverse_transform)
    expected = way(*theirs, torch.fft.rfft, plain_inverse)
    assert torch.equal(out, expected)
    factors = torch.randn_like(out)
    mine = torch.autograd.grad(out, ours, factors)
    others = torch.autograd.grad(expected, theirs, factors)
    for one, other in zip(mine, others, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("width", [4, 5])
def test_first_and_second_gradients_against_differences(width):
    def function(*tensors):
        return way(*tensors, transform, inverse_transform)

    assert torch.autograd.gradcheck(function, vectors(width))
    assert torch.autograd.gradgradcheck(function, vectors(width))


@pytest.mark.parametrize("width", [4, 5])
def test_gradients_of_a_spectrum_are_those_of_the_whole_spectrum(width):
    (x,) = vectors(width, 1)
    factors = torch.randn_like(x)
    half, whole = transform(x), torch.fft.fft(x)
    (found,) = torch.autograd.grad(inverse_transform(half, width), half, factors)
    (expected,) = torch.autograd.grad(torch.fft.ifft(whole).real, whole, factors)
    assert torch.allclose(found, expected[:, : width // 2 + 1], atol=1e-12)


@pytest.mark.parametrize("width", [6, 7])
def test_unit_bins_are_the_unit_spectrum(width):
    (x,) = vectors(width, 1)
    x = torch.cat([x, torch.zeros(1, width, dtype=torch.float64)])
    found = inverse_transform(unit_bins(transform(x)), width)
    assert torch.allclose(found, hrr.unit_spectrum(x), atol=1e-12)
    assert not found[-1].any()
