"""The softmax core against a plain loop, and the contract of a kind."""

from __future__ import annotations

import pytest
import torch

from quincunx.nn.attention.softmax import SoftmaxAttention
from quincunx.nn.rows import attach_rows
from reference import attention as reference
from reference import pairs


def inputs(batch: int = 4, heads: int = 2, length: int = 9, width: int = 6, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(5)
    return [
        torch.randn(batch, heads, length, width, dtype=dtype, generator=generator).requires_grad_() for _ in range(3)
    ]


VALID = torch.tensor([[True] * 9, [True] * 3 + [False] * 6, [False] * 9, [False] * 4 + [True] + [False] * 4])


def explicit(p: float, causal: bool = False) -> SoftmaxAttention:
    """A core that forms its weights, its rows set; p = 0 makes it drop none of them."""
    core = SoftmaxAttention(2, 6, weight_dropout=p or 0.5, causal=causal)
    assert core.dropout is not None
    core.dropout.p = p
    context = attach_rows(core)
    assert context is not None
    context.set(3, torch.arange(4))
    return core


@pytest.mark.parametrize("valid", [None, VALID], ids=["all valid", "masked"])
@pytest.mark.parametrize("core", [SoftmaxAttention(2, 6), explicit(0.0)], ids=["fused", "explicit"])
def test_values_and_gradients_against_the_plain_loop(core, valid):
    ours, theirs = inputs(), inputs()
    out, expected = core(*ours, valid), reference.softmax(*theirs, valid)
    assert (out - expected).abs().max() < 1e-10
    factors = torch.randn_like(out)
    (out * factors).sum().backward()
    (expected * factors).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.grad - other.grad).abs().max() < 1e-10


@pytest.mark.parametrize("valid", [None, VALID], ids=["all valid", "masked"])
@pytest.mark.parametrize("core", [SoftmaxAttention(2, 6, causal=True), explicit(0.0, True)], ids=["fused", "explicit"])
def test_causal_values_and_gradients_against_the_plain_loop(core, valid):
    ours, theirs = inputs(), inputs()
    out, expected = core(*ours, valid), pairs.softmax(*theirs, valid, True)
    assert (out - expected).abs().max() < 1e-10
    factors = torch.randn_like(out)
    (out * factors).sum().backward()
    (expected * factors).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.grad - other.grad).abs().max() < 1e-10


@pytest.mark.parametrize("causal", [False, True], ids=["bidirectional", "causal"])
def test_both_routes_have_the_dtype_of_their_inputs_under_autocast(causal):
    for core in (SoftmaxAttention(2, 6, causal=causal), explicit(0.0, causal)):
        q, k, v = inputs(dtype=torch.float32)
        plain = core(q, k, v, VALID)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(core(q, k, v, VALID), plain)


def test_causal_weights_are_dropped_whatever_comes_later():
    core = explicit(0.5, causal=True)
    q, k, v = inputs()
    later = [torch.cat([tensor[:, :, :4], tensor[:, :, 4:] + 1], 2) for tensor in (q, k, v)]
    assert torch.equal(core(q, k, v, None)[:, :, :4], core(*later, None)[:, :, :4])
    assert not torch.equal(core(q, k, v, None), core.eval()(q, k, v, None))


@pytest.mark.parametrize("core", [SoftmaxAttention(2, 6), explicit(0.3)], ids=["fused", "explicit"])
def test_rows_without_a_valid_token_give_zeros_and_padding_is_not_seen(core):
    q, k, v = inputs(dtype=torch.float32)
    out = core(q, k, v, VALID)
    assert out.isfinite().all() and not out[2].any() and out[0].any()
    out.sum().backward()
    for tensor in (q, k, v):
        assert tensor.grad.isfinite().all() and not tensor.grad[2].any()
    assert not k.grad[1, :, 3:].any() and not v.grad[1, :, 3:].any()


@pytest.mark.parametrize("core", [SoftmaxAttention(2, 6), explicit(0.3)], ids=["fused", "explicit"])
def test_padding_further_changes_nothing(core):
    q, k, v = inputs()
    short = [tensor[:, :, :5] for tensor in (q, k, v)]
    valid = torch.arange(9) < torch.tensor([5, 3, 0, 1])[:, None]
    assert torch.allclose(core(q, k, v, valid)[:, :, :5], core(*short, valid[:, :5]), atol=1e-12)


def test_weight_dropout_zeroes_whole_weights_and_keeps_the_mean():
    core = explicit(0.25)
    q, k, _ = inputs()
    identity = torch.eye(9, dtype=torch.float64).expand(4, 2, 9, 9)  # the output is then the matrix of weights
    dropped = core(q, k, identity, None)
    whole = core.eval()(q, k, identity, None)
    ratio = dropped / whole
    assert 0.15 < float((ratio == 0).double().mean()) < 0.35
    assert torch.allclose(ratio[ratio != 0], torch.tensor(1 / 0.75, dtype=torch.float64), atol=1e-8)
    assert not torch.equal(core.train()(q, k, identity, None, salt=1), dropped)


def test_only_the_fused_kernel_says_that_checkpointing_saves_nothing():
    assert "no matrix" in (SoftmaxAttention(2, 6).checkpointing_note() or "")
    assert SoftmaxAttention(2, 6, weight_dropout=0.1).checkpointing_note() is None
