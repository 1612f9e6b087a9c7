"""Pooling."""

from __future__ import annotations

import pytest
import torch

from quincunx.nn.pooling import cls_pool, mean_pool


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
