"""hrr-quadratic against its definition, at both ends of its superposition, and beside the other holographic kinds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.errors import UsageError
from quincunx.nn.attention import parts
from quincunx.nn.attention.hrr_individual import HrrIndividualAttention
from quincunx.nn.attention.hrr_quadratic import HrrQuadraticAttention
from reference import pairs as reference

VALID = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [0] * 7, [0, 1, 0, 0, 0, 1, 0]]).bool()
both_orders = pytest.mark.parametrize("causal", [False, True], ids=["bidirectional", "causal"])


def draw(width: int = 8):
    generator = torch.Generator().manual_seed(2)
    shape = (len(VALID), 2, VALID.shape[1], width)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(3)]


@pytest.mark.parametrize("superposition", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("score", ["cosine", "dot"])
@pytest.mark.parametrize("valid", [None, VALID], ids=["all valid", "masked"])
@both_orders
def test_the_definition(causal, valid, score, superposition):
    for width in (7, 8):
        tensors = draw(width)
        core = HrrQuadraticAttention(2, width, causal=causal, score=score, scale=0.8, superposition=superposition)
        expected = reference.quadratic(*tensors, valid, causal, score, 0.8, superposition)
        assert (core(*tensors, valid) - expected).abs().max() < 1e-10


def test_the_score_is_the_kernel_of_three_tokens_at_t_t():
    q, k, v = draw()
    queries, keys = HrrQuadraticAttention(2, 8, score="dot", scale=1.0).features(q, k, v)
    scores = (queries @ keys.transpose(-1, -2))[0, 0]
    kernel = reference.kernel(q[0, 0], k[0, 0], v[0, 0])
    assert (scores - torch.einsum("tts->ts", kernel)).abs().max() < 1e-10
    # summed up over all pairs it is what hrr-bundled compares: each value with what the superposition gives back
    bundle = torch.stack([reference.bind(key, value) for key, value in zip(k[0, 0], v[0, 0], strict=True)]).sum(0)
    both = zip(q[0, 0], v[0, 0], strict=True)
    bundled = torch.stack([value @ reference.unbind(bundle, query) for query, value in both])
    assert (scores.sum(1) - bundled).abs().max() < 1e-10


def test_individual_and_quadratic_scores_agree_where_a_token_meets_itself():
    tensors = draw()
    diagonals = []
    for kind in (HrrIndividualAttention, HrrQuadraticAttention):
        queries, keys = kind(2, 8, score="dot", scale=1.0).features(*tensors)
        diagonals.append((queries * keys).sum(-1))
    assert (diagonals[0] - diagonals[1]).abs().max() < 1e-10
    assert diagonals[0].abs().max() > 1


def test_cosine_features_have_length_1_and_the_scale():
    queries, keys = HrrQuadraticAttention(2, 8, scale=3.0).features(*draw())
    assert torch.allclose(queries.norm(dim=-1), torch.tensor(3.0, dtype=torch.float64))
    assert torch.allclose(keys.norm(dim=-1), torch.tensor(1.0, dtype=torch.float64))


def test_a_single_slot_holds_the_mean_of_what_is_valid():
    q, k, v = draw()
    one = HrrQuadraticAttention(2, 8, superposition=7)(q, k, v, VALID)
    counts = VALID.sum(1).clamp(min=1)[:, None, None, None]
    mean = (v * VALID[:, None, :, None]).sum(2, keepdim=True) / counts
    assert (one - mean).abs().max() < 1e-12
    prefix = HrrQuadraticAttention(2, 8, superposition=7, causal=True)(q, k, v, None)
    assert (prefix - v.cumsum(2) / torch.arange(1, 8)[:, None]).abs().max() < 1e-12


def test_the_last_token_of_a_causal_run_sees_what_all_see_otherwise():
    tensors = draw()
    for superposition in (1, 2, 3, 7):
        ends = [
            HrrQuadraticAttention(2, 8, superposition=superposition, causal=causal)(*tensors, VALID)[:, :, -1]
            for causal in (False, True)
        ]
        assert (ends[0] - ends[1]).abs().max() < 1e-12


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.integers(1, 12), st.integers(1, 2000), st.integers(0, 2**12 - 1))
def test_causal_groups_of_any_size_are_the_definition_in_any_cut(superposition, length, part, bits):
    generator = torch.Generator().manual_seed(length)
    tensors = [torch.randn(1, 2, length, 4, dtype=torch.float64, generator=generator) for _ in range(3)]
    valid = torch.tensor([[bool(bits >> place & 1) for place in range(length)]])
    core = HrrQuadraticAttention(2, 4, causal=True, superposition=superposition)
    before = parts.PART
    parts.PART = part
    try:
        out = core(*tensors, valid)
    finally:
        parts.PART = before
    expected = reference.quadratic(*tensors, valid, True, "cosine", 2.0, superposition)
    assert (out - expected).abs().max() < 1e-10


def test_steps_keep_finished_groups_and_one_running_one():
    core = HrrQuadraticAttention(2, 8, causal=True, superposition=3)
    tensors = draw()
    state = core.start(4, tensors[0])
    slots = []
    for t in range(7):
        _, state = core.step(*(tensor[:, :, t] for tensor in tensors), state)
        slots.append((state[0].shape[2], state[4].shape[1]))
    assert slots == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]


def test_no_matrix_of_scores_is_kept_for_the_backward_pass():
    length, size = 96, 2
    tensors = [tensor.requires_grad_() for tensor in torch.randn(3, 1, 1, length, 4)]
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    core = HrrQuadraticAttention(1, 4, causal=True, superposition=size)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        core(*tensors, None)
    assert max(kept) == length * 4 < length * length // size


@pytest.mark.parametrize("superposition", [0, -1])
def test_a_superposition_of_nothing_is_refused(superposition):
    with pytest.raises(UsageError, match="superposition must be at least 1"):
        HrrQuadraticAttention(2, 8, superposition=superposition)
