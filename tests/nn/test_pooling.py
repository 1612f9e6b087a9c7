"""Pooling."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.nn.pooling import AttentionPool, attend, cls_pool, initial_codes, last_pool, mean_pool


def padded(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    states = torch.randn(len(lengths), max(lengths), 5, dtype=torch.float64, requires_grad=True)
    return states, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def test_mean_is_over_valid_tokens_only():
    lengths = [7, 1, 4]
    states, valid = padded(lengths)
    pooled = mean_pool(states, valid)
    for row, length in enumerate(lengths):
        assert torch.allclose(pooled[row], states[row, :length].mean(0), atol=1e-14)
    pooled.sum().backward()
    for row, length in enumerate(lengths):
        assert torch.allclose(states.grad[row, :length], torch.full((length, 5), 1 / length, dtype=torch.float64))
        assert not states.grad[row, length:].any()


def test_without_padding_the_mask_makes_no_difference():
    states, valid = padded([6, 6])
    assert torch.allclose(mean_pool(states, None), mean_pool(states, valid), atol=1e-15)


def test_a_row_without_a_valid_token_gives_zeros_and_a_finite_gradient():
    states, valid = padded([3, 0])
    pooled = mean_pool(states, valid)
    assert not pooled[1].any()
    pooled.sum().backward()
    assert states.grad.isfinite().all() and not states.grad[1].any()


@pytest.mark.parametrize("masked", [True, False])
def test_half_precision_is_summed_in_single(masked):
    states = torch.ones(1, 1001, 2, dtype=torch.bfloat16)
    pooled = mean_pool(states, torch.ones(1, 1001, dtype=torch.bool) if masked else None)
    assert pooled.dtype == torch.bfloat16 and torch.equal(pooled, torch.ones(1, 2, dtype=torch.bfloat16))


def test_cls_is_the_first_state():
    states, _ = padded([4, 4])
    assert torch.equal(cls_pool(states), states[:, 0])


EVERY = {
    "mean": mean_pool,
    "cls": cls_pool,
    "last": last_pool,
    "attention": lambda states, valid: attend(QUERY, states, valid)[:, 0],
}
QUERY = torch.tensor([[0.3, -1.2, 0.7, 0.1, 2.0]], dtype=torch.float64)


@pytest.mark.parametrize("pool", EVERY.values(), ids=EVERY)
@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), more=st.integers(0, 4), seed=st.integers(0, 99))
def test_padding_changes_nothing_and_empty_rows_give_zeros(pool, lengths, more, seed):
    torch.manual_seed(seed)
    size = max(*lengths, 1, 1)
    states = torch.randn(len(lengths), size, 5, dtype=torch.float64)
    valid = torch.arange(size) < torch.tensor(lengths)[:, None]
    pooled = pool(states, valid)
    longer = torch.cat([states, torch.full((len(lengths), more, 5), 1e6, dtype=torch.float64)], dim=1)
    longer[:, :size][~valid] = -1e6
    assert torch.allclose(pool(longer, torch.arange(size + more) < torch.tensor(lengths)[:, None]), pooled, atol=1e-12)
    for row, length in enumerate(lengths):
        alone = pool(states[row : row + 1, :length], None)[0] if length else torch.zeros(5, dtype=torch.float64)
        assert torch.allclose(pooled[row], alone, atol=1e-12)


@pytest.mark.parametrize("pool", EVERY.values(), ids=EVERY)
def test_gradients_stay_finite_in_empty_rows(pool):
    states, valid = padded([3, 0])
    pool(states, valid).square().sum().backward()
    assert states.grad.isfinite().all() and states.grad[0].any() and not states.grad[1].any()


def test_last_is_the_last_valid_state():
    states, valid = padded([2, 4, 1])
    assert torch.equal(last_pool(states, valid), torch.stack([states[0, 1], states[1, 3], states[2, 0]]))


def test_attention_weighs_by_the_softmax_of_products():
    states, _ = padded([4])
    queries = torch.randn(3, 5, dtype=torch.float64)
    weights = torch.softmax(0.5 * states[0] @ queries.T, dim=0)
    assert torch.allclose(attend(queries, states, None, scale=0.5)[0], weights.T @ states[0], atol=1e-12)
    pool = AttentionPool(5).double()
    assert torch.allclose(pool(states, None), attend(pool.query[None], states, None)[:, 0], atol=1e-14)


def test_attention_computes_half_precision_in_single_even_under_autocast():
    torch.manual_seed(0)
    states = torch.randn(2, 50, 5).bfloat16()
    queries = torch.randn(2, 5)
    exact = attend(queries.double(), states.double(), None)
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(queries, states.float(), None)
    assert found.dtype == torch.float32 and torch.allclose(found.double(), exact, atol=1e-6)
    assert torch.equal(attend(queries, states, None), exact.bfloat16())


def test_a_learned_query_starts_spread_out():
    torch.manual_seed(0)
    weights = torch.softmax(torch.randn(128, 768) @ initial_codes(64, 768).T, dim=0).amax(dim=0)
    assert 0.04 < float(weights.mean()) < 0.12  # of 128 tokens; drawn from N(0, 1) the largest weighs 0.9 and more
