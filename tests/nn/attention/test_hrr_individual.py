"""hrr-individual against its definition, and as what it becomes in its limits."""

from __future__ import annotations

import pytest
import torch

from quincunx.errors import UsageError
from quincunx.nn.attention import hrr
from quincunx.nn.attention.gate import gate_weights
from quincunx.nn.attention.hrr_individual import HrrIndividualAttention
from reference import pairs as reference

VALID = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0] * 6, [0, 1, 0, 0, 1, 0]]).bool()
both_orders = pytest.mark.parametrize("causal", [False, True], ids=["bidirectional", "causal"])


def draw(width: int = 8, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(len(VALID), 2, VALID.shape[1], width, dtype=dtype, generator=generator) for _ in range(3)]


def unit_values(width: int = 8):
    """The same, values with |F v| = 1."""
    q, k, v = draw(width)
    return q, k, hrr.unit_spectrum(v)


@pytest.mark.parametrize("score", ["cosine", "dot", "exact_cosine"])
@pytest.mark.parametrize("width", [7, 8])
@pytest.mark.parametrize("valid", [None, VALID], ids=["all valid", "masked"])
@both_orders
def test_the_definition(causal, valid, width, score):
    tensors = draw(width)
    core = HrrIndividualAttention(2, width, causal=causal, score=score, scale=0.8)
    assert (core(*tensors, valid) - reference.individual(*tensors, valid, causal, score, 0.8)).abs().max() < 1e-10
    core = HrrIndividualAttention(2, width, causal=causal, score=score, scale=0.8, individual_scope="self")
    assert (core(*tensors, valid) - reference.own_pair(*tensors, valid, causal, score, 0.8)).abs().max() < 1e-10


@both_orders
def test_with_values_of_unit_spectrum_it_is_softmax_attention(causal):
    tensors = unit_values()
    core = HrrIndividualAttention(2, 8, causal=causal, score="dot")
    assert (core(*tensors, VALID) - reference.softmax(*tensors, VALID, causal)).abs().max() < 1e-10
    other = core(*draw(), VALID)
    assert (other - reference.softmax(*draw(), VALID, causal)).abs().max() > 0.1  # and is not with others


def test_the_score_is_the_kernel_of_three_tokens_at_s_s():
    q, k, v = draw()
    core = HrrIndividualAttention(2, 8, score="dot", scale=1.0)
    queries, keys = core.features(q, k, v)
    kernel = reference.kernel(q[0, 0], k[0, 0], v[0, 0])
    assert ((queries @ keys.transpose(-1, -2))[0, 0] - torch.einsum("tss->ts", kernel)).abs().max() < 1e-10


def test_cosine_features_have_length_1_and_the_scale():
    queries, keys = HrrIndividualAttention(2, 8, scale=3.0).features(*draw())
    assert torch.allclose(queries.norm(dim=-1), torch.tensor(3.0, dtype=torch.float64))
    assert torch.allclose(keys.norm(dim=-1), torch.tensor(1.0, dtype=torch.float64))


def test_the_exact_cosine_finds_each_value_by_its_own_key():
    q, _, v = draw()
    queries, keys = HrrIndividualAttention(2, 8, score="exact_cosine", scale=1.0).features(q, q, v)
    cosines = queries @ keys.transpose(-1, -2)
    assert (cosines.diagonal(dim1=-2, dim2=-1) - 1).abs().max() < 1e-10
    assert cosines.abs().max() < 1 + 1e-10


def test_the_scope_self_weighs_each_tokens_own_value_and_the_weights_add_up_to_1():
    q, k, v = draw()
    v = torch.ones_like(v) + 0.1 * v
    ratio = HrrIndividualAttention(2, 8, individual_scope="self")(q, k, v, VALID) / v
    assert torch.allclose(ratio, ratio[..., :1].expand_as(ratio), atol=1e-12)
    total = ratio[..., 0].sum(-1)
    assert torch.allclose(total, VALID.any(1)[:, None].expand_as(total).double(), atol=1e-12)


def test_the_scope_self_of_equal_tokens_halves_with_every_doubling():
    q, k, v = (tensor[:, :, :1].expand(-1, -1, 4, -1) for tensor in draw())
    out = HrrIndividualAttention(2, 8, individual_scope="self", causal=True)(q, k, v, None)
    shares = torch.tensor([1, 1 / 2, 1 / 3, 1 / 4], dtype=torch.float64)[:, None]
    assert (out - shares * v).abs().max() < 1e-12
    assert torch.allclose(gate_weights(torch.zeros(1, 1, 4).double(), None, True)[0, 0], shares[:, 0])


def test_a_state_of_scope_self_has_one_number_a_head():
    core = HrrIndividualAttention(2, 8, individual_scope="self", causal=True)
    state = core.start(3, torch.zeros(1))
    for _ in range(2):
        assert [tuple(tensor.shape) for tensor in state] == [(3, 2)]
        _, state = core.step(*(tensor[:3, :, 0].float() for tensor in draw()), state)


def test_an_unknown_scope_names_those_there_are():
    with pytest.raises(UsageError, match="individual_scope 'own' is not available: choose one of all, self"):
        HrrIndividualAttention(2, 8, individual_scope="own")
