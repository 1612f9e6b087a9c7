"""hrr-cleanup against its definition, and that it finds what was stored."""

from __future__ import annotations

import pytest
import torch

from quincunx.nn.attention import hrr
from quincunx.nn.attention.hrr_cleanup import HrrCleanupAttention
from reference import pairs as reference

VALID = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0] * 6, [0, 1, 0, 0, 1, 0]]).bool()
both_orders = pytest.mark.parametrize("causal", [False, True], ids=["bidirectional", "causal"])


def draw(width: int = 8):
    generator = torch.Generator().manual_seed(2)
    shape = (len(VALID), 2, VALID.shape[1], width)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(3)]


@pytest.mark.parametrize("score", ["cosine", "dot"])
@pytest.mark.parametrize("width", [7, 8])
@pytest.mark.parametrize("valid", [None, VALID], ids=["all valid", "masked"])
@both_orders
def test_the_definition(causal, valid, width, score):
    tensors = draw(width)
    core = HrrCleanupAttention(2, width, causal=causal, score=score, scale=0.8)
    assert (core(*tensors, valid) - reference.cleanup(*tensors, valid, causal, score, 0.8)).abs().max() < 1e-10


def test_the_score_is_the_kernel_of_three_tokens_summed_over_pairs():
    q, k, v = draw()
    kernel = reference.kernel(q[0, 0], k[0, 0], v[0, 0])
    expected = torch.softmax(kernel.sum(2), -1) @ v[0, 0]
    assert (HrrCleanupAttention(2, 8, score="dot", scale=1.0)(q, k, v, None)[0, 0] - expected).abs().max() < 1e-10


@both_orders
def test_a_sharp_cleanup_gives_back_the_value_that_was_bound_to_the_query(causal):
    generator = torch.Generator().manual_seed(3)
    keys = hrr.unit_spectrum(torch.randn(1, 1, 8, 256, dtype=torch.float64, generator=generator))
    values = torch.randn(1, 1, 8, 256, dtype=torch.float64, generator=generator)
    core = HrrCleanupAttention(1, 256, scale=200.0, causal=causal)
    assert (core(keys, keys, values, None) - values).abs().max() < 1e-6
    asked = core(keys.flip(2), keys, values, None)
    assert (asked[:, :, 4:] - values.flip(2)[:, :, 4:]).abs().max() < 1e-6  # all of these were stored by then
    assert causal == bool((asked[:, :, :4] - values.flip(2)[:, :, :4]).abs().max() > 0.1)


def test_the_last_token_of_a_causal_run_sees_what_all_see_otherwise():
    ends = [HrrCleanupAttention(2, 8, causal=causal)(*draw(), VALID)[:, :, -1] for causal in (False, True)]
    assert (ends[0] - ends[1]).abs().max() < 1e-12


def test_steps_keep_one_superposition_and_all_values():
    core = HrrCleanupAttention(2, 8, causal=True)
    q, k, v = draw()
    state = core.start(4, q)
    for t in range(3):
        _, state = core.step(q[:, :, t], k[:, :, t], v[:, :, t], state)
    bundle = hrr.bind(k[:, :, :3], v[:, :, :3]).sum(2)
    assert (state[0] - bundle).abs().max() < 1e-12
    assert torch.equal(state[1], v[:, :, :3])
