"""Binding and its inverses, and the packed real spectrum, against sums over explicit indices."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.nn.attention import hrr
from reference import hrr as reference

WIDTHS = [*range(1, 10), 64]


def vectors(count: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(width, dtype=dtype, generator=generator) for _ in range(count)]


def impulse(width: int) -> torch.Tensor:
    return torch.eye(width, dtype=torch.float64)[0]


@pytest.mark.parametrize("width", WIDTHS)
def test_bind_and_unbind_are_the_sums_they_stand_for(width):
    a, b = vectors(2, width)
    assert torch.allclose(hrr.bind(a, b), reference.bind(a, b), atol=1e-12)
    assert torch.allclose(hrr.unbind(a, b), reference.unbind(a, b), atol=1e-12)


@pytest.mark.parametrize("width", WIDTHS)
def test_they_broadcast_over_leading_axes(width):
    a, b = vectors(3, width), vectors(2, width, seed=1)
    bound = hrr.bind(torch.stack(a)[:, None], torch.stack(b))
    assert bound.shape == (3, 2, width)
    assert torch.allclose(bound[2, 1], reference.bind(a[2], b[1]), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 24), st.integers(0, 2**31))
def test_binding_commutes_associates_and_distributes(width, seed):
    a, b, c = vectors(3, width, seed)
    assert torch.allclose(hrr.bind(a, b), hrr.bind(b, a), atol=1e-11)
    assert torch.allclose(hrr.bind(hrr.bind(a, b), c), hrr.bind(a, hrr.bind(b, c)), atol=1e-10)
    assert torch.allclose(hrr.bind(a + b, c), hrr.bind(a, c) + hrr.bind(b, c), atol=1e-11)
    assert torch.allclose(hrr.bind(a, impulse(width)), a, atol=1e-12)


@pytest.mark.parametrize("width", WIDTHS)
def test_unbinding_is_binding_with_the_involution_and_its_transpose(width):
    a, b, c = vectors(3, width)
    assert torch.allclose(hrr.unbind(a, b), hrr.bind(a, hrr.inverse(b)), atol=1e-12)
    assert torch.allclose(hrr.unbind(a, b) @ c, a @ hrr.bind(b, c), atol=1e-11)
    assert torch.equal(hrr.inverse(hrr.inverse(a)), a)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_unit_spectrum_makes_unbinding_exact(width):
    key, value = vectors(2, width)
    key = hrr.unit_spectrum(key)
    assert torch.allclose(torch.fft.fft(key).abs(), torch.ones(width, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(hrr.unbind(hrr.bind(key, value), key), value, atol=1e-12)
    # what makes softmax attention the unitary limit of hrr-individual: the autocorrelation is the impulse
    assert torch.allclose(hrr.unbind(key, key), impulse(width), atol=1e-12)


@pytest.mark.parametrize("width", WIDTHS)
def test_binding_folds_the_outer_product_along_its_wrapped_antidiagonals(width):
    key, value = vectors(2, width)
    outer = key[:, None] * value
    sums = [sum(outer[j, (i - j) % width] for j in range(width)) for i in range(width)]
    assert torch.allclose(hrr.bind(key, value), torch.stack(sums), atol=1e-12)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_exact_inverse_is_exact_where_no_bin_is_small(width):
    a = impulse(width) * 3 + 0.5 * vectors(1, width)[0] / math.sqrt(width)
    assert torch.fft.rfft(a).abs().min() > 0.5
    assert torch.allclose(hrr.bind(a, hrr.inverse(a, exact=True)), impulse(width), atol=1e-12)
    assert not torch.allclose(hrr.bind(a, hrr.inverse(a)), impulse(width), atol=1e-3)


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-5, 0.9e-4])
def test_the_exact_inverse_is_floored_where_a_bin_is_small(size):
    spectrum = torch.tensor([1.0, size, 2.0j, 0.5], dtype=torch.complex128)
    inverse = torch.fft.rfft(hrr.inverse(torch.fft.irfft(spectrum, n=6), exact=True))
    assert torch.allclose(inverse[[0, 2]], 1 / spectrum[[0, 2]], atol=1e-9)
    assert inverse.abs().max() <= 1 / hrr.FLOOR
    assert torch.allclose(
        inverse[1].abs(), torch.tensor(size / hrr.FLOOR**2, dtype=torch.float64), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("start", ["zeros", "constant", "ordinary"])
@pytest.mark.parametrize("function", [hrr.unit_spectrum, lambda a: hrr.inverse(a, exact=True)], ids=["unit", "inverse"])
def test_gradients_stay_finite_where_bins_vanish(start, function):
    a = {"zeros": torch.zeros(6), "constant": torch.ones(6), "ordinary": torch.arange(6.0)}[start].double()
    a.requires_grad_()
    weights = torch.arange(1.0, 7.0, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((function(a) * weights).sum(), a)
    assert gradient.isfinite().all() and gradient.abs().max() <= 2 * weights.sum() / hrr.FLOOR**2
    if function is hrr.unit_spectrum:
        assert gradient.abs().max() <= weights.sum() / hrr.FLOOR


@pytest.mark.parametrize("width", WIDTHS)
def test_the_packed_spectrum_is_the_vector_in_an_orthonormal_basis(width):
    basis = hrr.packed_basis(width, torch.float64)
    assert torch.allclose(basis @ basis.T, torch.eye(width, dtype=torch.float64), atol=1e-12)
    a = torch.stack(vectors(3, width))
    assert torch.allclose(hrr.pack(a), a @ basis.T, atol=1e-12)
    assert torch.allclose(hrr.unpack(hrr.pack(a)), a, atol=1e-12)
    assert torch.allclose(hrr.pack(hrr.unpack(a)), a, atol=1e-12)


def test_the_layout_of_the_packed_spectrum():
    for width, last in ((6, 3), (5, 2)):
        (a,) = vectors(1, width)
        spectrum, packed = torch.fft.rfft(a), hrr.pack(a)
        half = (width + 1) // 2
        assert torch.isclose(packed[0], a.sum() / math.sqrt(width))
        assert torch.allclose(packed[1:half], spectrum.real[1:half] * math.sqrt(2 / width))
        if width % 2 == 0:
            assert torch.isclose(packed[half], spectrum.real[last] / math.sqrt(width))
        assert torch.allclose(packed[width - half + 1 :], spectrum.imag[1:half] * math.sqrt(2 / width))


def test_the_gradients_of_pack_and_unpack_are_each_other():
    for width in (5, 6):
        a, b = (x.requires_grad_() for x in vectors(2, width))
        (back,) = torch.autograd.grad(hrr.pack(a) @ b.detach(), a)
        assert torch.allclose(back, hrr.unpack(b.detach()), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_and_rounded_once(dtype):
    a, b = (x.to(dtype) for x in vectors(2, 64))
    step = torch.finfo(dtype).eps
    for function in (hrr.bind, hrr.unbind):
        found = function(a, b)
        assert found.dtype == dtype
        exact = function(a.double(), b.double())
        assert ((found.double() - exact).abs() <= exact.abs() * step / 2 + 1e-5).all()
    for function in (hrr.pack, hrr.unpack, hrr.unit_spectrum, hrr.inverse):
        found = function(a)
        assert found.dtype == dtype
        exact = function(a.double())
        assert ((found.double() - exact).abs() <= exact.abs() * step / 2 + 1e-5).all()


def test_the_wider_dtype_wins():
    (a,) = vectors(1, 8, dtype=torch.float32)
    assert hrr.bind(a, a.double()).dtype == hrr.unbind(a.bfloat16(), a.double()).dtype == torch.float64
    assert hrr.bind(a.bfloat16(), a).dtype == torch.float32
