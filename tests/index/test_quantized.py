"""Codes of few bits against the same arithmetic written out in float64."""

from __future__ import annotations

import numpy as np
import pytest

from indexes import clustered
from quincunx.index import quantized
from quincunx.index.quantized import Quantized

VECTORS = clustered(300, 20) * np.float32(2) + np.float32(0.3)
QUERIES = clustered(7, 20, seed=1)


def blocks():
    """The vectors in blocks of unequal size."""
    return iter([VECTORS[:1], VECTORS[1:200], VECTORS[200:]])


def estimates(bits: int) -> np.ndarray:
    """Return the estimated scores `[Q, N]`."""
    centred = VECTORS.astype(np.float64) - VECTORS.mean(0, dtype=np.float64)
    asked = np.rint(QUERIES / (np.abs(QUERIES).max(1, keepdims=True) / 127))
    if bits == 8:
        scales = np.abs(centred).max(1, keepdims=True) / 127
        return asked @ (np.rint(centred / scales) * scales).T
    scales = (centred**2).sum(1, keepdims=True) / np.abs(centred).sum(1, keepdims=True)
    return asked @ (np.where(centred > 0, 1, -1) * scales).T


@pytest.mark.parametrize("exact_bytes", [True, False])
@pytest.mark.parametrize("bits", [8, 1])
def test_candidates_are_those_of_the_estimate_in_its_order(bits, exact_bytes, monkeypatch):
    if not exact_bytes:  # what a processor without exact products of bytes does
        monkeypatch.setattr(quantized, "_bytes_multiply", lambda: False)
    codes = Quantized.of(bits, blocks, len(VECTORS), 20)
    found = codes.candidates(QUERIES, 40)
    scores = estimates(bits)
    wanted = np.sort(scores, axis=1)[:, ::-1][:, :40]
    np.testing.assert_allclose(np.take_along_axis(scores, found, 1), wanted, rtol=1e-4, atol=1e-2)


def test_codes_take_the_bits_they_say():
    for bits, size in ((8, 20), (1, 3)):
        arrays = Quantized.of(bits, blocks, len(VECTORS), 20).arrays
        assert arrays["codes"].nbytes == len(VECTORS) * size
        assert arrays["scales"].shape == (len(VECTORS),)


@pytest.mark.parametrize("bits", [8, 1])
def test_one_vector_and_vectors_all_alike_have_codes(bits):
    same = np.repeat(VECTORS[:1], 5, axis=0)
    codes = Quantized.of(bits, lambda: iter([same]), 5, 20)
    assert np.isfinite(codes.scales).all()
    assert sorted(codes.candidates(QUERIES[:1], 5)[0].tolist()) == [0, 1, 2, 3, 4]
