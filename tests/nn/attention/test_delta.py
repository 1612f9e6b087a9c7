"""The delta rule by chunks against token by token, and what it remembers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from quincunx.nn.attention.delta import CHUNK, cut, delta_reads, delta_write
from reference import tpr as reference


def inputs(length: int, width: int, seed: int = 3, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(length, width, dtype=dtype, generator=generator) for _ in range(3))
    return q, functional.normalize(k, dim=-1), v


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 5, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_chunks_equal_token_by_token(length, causal):
    q, k, v = inputs(length, 6)
    assert (delta_reads(q, k, v, 0.7, causal) - reference.delta_reads(q, k, v, 0.7, causal)).abs().max() < 1e-12


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 150), st.integers(1, 9), st.floats(0.05, 2.0), st.booleans(), st.integers(0, 1000))
def test_chunks_equal_token_by_token_at_any_size_and_rate(length, width, rate, causal, seed):
    q, k, v = inputs(length, width, seed)
    expected = reference.delta_reads(q, k, v, rate, causal)
    error = (delta_reads(q, k, v, rate, causal) - expected).abs().max()
    assert error < 1e-11 * (1 + expected.abs().max())


def test_one_write_after_another_is_the_same():
    q, k, v = inputs(CHUNK + 9, 5)
    memory = torch.zeros(5, 5, dtype=torch.float64)
    for t in range(len(k)):
        memory = delta_write(memory, k[t : t + 1], v[t : t + 1], 0.9)
    assert torch.allclose(delta_reads(q, k, v, 0.9, causal=False), q @ memory, atol=1e-12)


def test_rate_one_puts_the_last_value_of_a_repeated_key_in_place_of_the_earlier_ones():
    _, keys, v = inputs(8, 8)
    basis = torch.linalg.qr(keys).Q
    order = torch.tensor([0, 1, 2, 0, 1, 2, 0, 3])
    k = basis[order]
    out = delta_reads(k, k, v, 1.0, causal=False)
    last = {int(key): place for place, key in enumerate(order)}
    for t, key in enumerate(order.tolist()):
        assert torch.allclose(out[t], v[last[key]], atol=1e-12)
    assert torch.allclose(delta_reads(k, k, v, 1.0, causal=True), v, atol=1e-12)  # each reads what it just wrote


def test_a_smaller_rate_moves_part_of_the_way_and_the_order_matters():
    _, k, v = inputs(2, 4)
    same = k[:1].expand(2, 4)
    assert torch.allclose(delta_reads(same, same, v, 0.25, causal=False)[0], 0.75 * 0.25 * v[0] + 0.25 * v[1])
    forwards, backwards = delta_reads(k, k, v, 1.0, False), delta_reads(k.flip(0), k.flip(0), v.flip(0), 1.0, False)
    assert (forwards - backwards.flip(0)).abs().max() > 0.01


@pytest.mark.parametrize("causal", [False, True])
def test_zero_keys_write_nothing_anywhere(causal):
    q, k, v = inputs(2 * CHUNK + 3, 6)
    silent = torch.rand(len(k), generator=torch.Generator().manual_seed(0)) < 0.5
    silent[:3] = True
    some = delta_reads(q, k.masked_fill(silent[:, None], 0.0), v, 1.0, causal)
    alone = delta_reads(q[~silent], k[~silent], v[~silent], 1.0, causal)
    assert torch.allclose(some[~silent], alone, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_gradients(causal):
    q, k, v = (x.requires_grad_() for x in inputs(CHUNK + 2, 2))
    assert torch.autograd.gradcheck(lambda q, k, v: delta_reads(q, k, v, 0.8, causal), (q, k, v), fast_mode=True)


def test_float32_stays_accurate_over_many_chunks():
    q, k, v = inputs(30 * CHUNK, 16)
    exact = delta_reads(q, k, v, 1.0, causal=True)
    found = delta_reads(q.float(), k.float(), v.float(), 1.0, causal=True)
    assert (found - exact).abs().max() < 1e-5 * exact.abs().max()


def test_chunks_are_filled_up_with_zeros():
    x = torch.arange(1.0, 11.0)[:, None]
    assert cut(x, 4)[..., 0].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 0, 0]]
    assert cut(x, 5)[..., 0].tolist() == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
