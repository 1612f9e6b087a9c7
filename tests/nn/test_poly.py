"""Poly-encoder scoring: equal to the plain form, whatever the parts; its gradient; its bound; the making of codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quincunx.errors import UsageError
from quincunx.nn.poly import ContextCodes, MultiheadAttention, attention_scale, poly_scores, upper_bound
from quincunx.nn.pooling import AttentionPool
from reference import poly as plain

WIDTH = 6
MODES = [("basic", "dot"), ("sqrt", "dot"), ("basic", "cosine"), ("sqrt", "cosine"), ("multihead", "dot"),
         ("multihead", "cosine")]  # fmt: skip


def case(seed: int = 0, queries: int = 3, count: int = 4, documents: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(queries, count, WIDTH, dtype=torch.float64, generator=generator)
    mask = torch.rand(queries, count, generator=generator) < 0.7
    return codes, mask, torch.randn(documents, WIDTH, dtype=torch.float64, generator=generator)


def mixer(seed: int = 0) -> MultiheadAttention:
    torch.manual_seed(seed)
    made = MultiheadAttention(WIDTH, 2).double()
    for bias in (made.query.bias, made.key.bias, made.value.bias, made.output.bias):
        torch.nn.init.normal_(bias)
    return made


def scored(
    attention: str,
    similarity: str,
    codes: Tensor,
    mask: Tensor | None,
    documents: Tensor,
    part_bytes: int | None = None,
) -> Tensor:
    if attention == "multihead":
        return mixer().scores(codes, mask, documents, similarity, part_bytes)
    scale = attention_scale(attention, WIDTH)
    return poly_scores(codes, mask, documents, scale=scale, similarity=similarity, part_bytes=part_bytes)


def naive(attention: str, similarity: str, codes: Tensor, mask: Tensor, documents: Tensor) -> np.ndarray:
    options = {"scale": attention_scale(attention, WIDTH)}
    if attention == "multihead":
        options = {"weights": {name: value.numpy() for name, value in mixer().state_dict().items()}, "heads": 2}
    return plain.scores(codes.numpy(), mask.numpy(), documents.numpy(), similarity=similarity, **options)


@pytest.mark.parametrize(("attention", "similarity"), MODES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), queries=st.integers(1, 4), count=st.integers(1, 5), documents=st.integers(1, 7))
def test_scores_equal_the_plain_form(attention, similarity, seed, queries, count, documents):
    tensors = case(seed, queries, count, documents)
    found = scored(attention, similarity, *tensors).detach().numpy()
    assert np.allclose(found, naive(attention, similarity, *tensors), atol=1e-12)


@pytest.mark.parametrize(("attention", "similarity"), MODES)
@pytest.mark.parametrize("part_bytes", [1, 200, 1000])
def test_parts_change_neither_scores_nor_gradients(attention, similarity, part_bytes):
    codes, mask, documents = case(1, queries=4, documents=9)
    results = []
    for limit in (1 << 30, part_bytes):
        leaves = [codes.clone().requires_grad_(), documents.clone().requires_grad_()]
        scores = scored(attention, similarity, leaves[0], mask, leaves[1], limit)
        results.append([scores, *torch.autograd.grad(scores.square().sum(), leaves)])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-13)


@pytest.mark.parametrize(("attention", "similarity"), MODES)
@pytest.mark.parametrize("part_bytes", [None, 100])
def test_gradients_are_those_of_finite_differences(attention, similarity, part_bytes):
    codes, mask, documents = case(2, queries=2, count=3, documents=3)
    mask[0] = torch.tensor([True, False, True])
    mask[1] = False
    assert torch.autograd.gradcheck(
        lambda codes, documents: scored(attention, similarity, codes, mask, documents, part_bytes),
        (codes.requires_grad_(), documents.requires_grad_()),
    )


@pytest.mark.parametrize(("attention", "similarity"), MODES)
def test_masked_codes_change_nothing_and_get_no_gradient(attention, similarity):
    codes, mask, documents = case(3)
    codes.requires_grad_()
    scores = scored(attention, similarity, codes, mask, documents)
    (gradient,) = torch.autograd.grad(scores.sum(), codes)
    assert not gradient[~mask].any() and gradient[mask].any()
    longer = torch.cat([codes.detach().masked_fill(~mask[..., None], 1e3), torch.full((3, 2, WIDTH), -1e3)], dim=1)
    padded = torch.nn.functional.pad(mask, (0, 2))
    assert torch.allclose(scored(attention, similarity, longer, padded, documents), scores, atol=1e-12)


@pytest.mark.parametrize(("attention", "similarity"), MODES)
def test_a_query_without_codes_scores_nothing(attention, similarity):
    codes, mask, documents = case(4)
    mask[1] = False
    scores = scored(attention, similarity, codes, mask, documents)
    assert not scores[1].any() and scores[0].all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), limit=st.sampled_from([None, 64]))
def test_no_score_exceeds_the_bound(seed, limit):
    codes, mask, documents = case(seed, queries=3, count=5, documents=6)
    bound = upper_bound(codes, mask, documents, part_bytes=limit)
    products = torch.where(mask[:, :, None], codes @ documents.T, -torch.inf).amax(dim=1)
    assert torch.allclose(bound, products.masked_fill(~mask.any(1)[:, None], 0), atol=1e-13)
    for scale in (1.0, WIDTH**-0.5):
        assert (poly_scores(codes, mask, documents, scale=scale) <= bound + 1e-12).all()
    # of a single code it is the score itself
    one = poly_scores(codes[:, :1], None, documents)
    assert torch.allclose(one, upper_bound(codes[:, :1], None, documents), atol=1e-12)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_half_precision_is_scored_in_single_even_under_autocast(similarity):
    codes, _, documents = (tensor.bfloat16() if tensor.is_floating_point() else tensor for tensor in case(5))
    exact = poly_scores(codes.double(), None, documents.double(), similarity=similarity)
    with torch.autocast("cpu", torch.bfloat16):
        found = poly_scores(codes.requires_grad_(), None, documents, similarity=similarity)
    assert found.dtype == torch.float32 and torch.allclose(found.double(), exact, atol=1e-5)
    found.sum().backward()
    assert codes.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("limit", [1 << 25, 0])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_nothing_of_the_size_of_all_pairs_and_widths_is_kept(limit, similarity, monkeypatch):
    codes, mask, documents = case(6, queries=4, count=8, documents=50)
    codes.requires_grad_()
    documents.requires_grad_()
    sizes: list[int] = []
    expected = torch.autograd.grad(poly_scores(codes, mask, documents, similarity=similarity).sum(), (codes, documents))
    monkeypatch.setattr("quincunx.nn.poly.KEPT", limit)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: sizes.append(tensor.numel()) or tensor, lambda x: x):
        scores = poly_scores(codes, mask, documents, similarity=similarity, part_bytes=1000)
    found = torch.autograd.grad(scores.sum(), (codes, documents))
    logits = 4 * 8 * 50 if limit else 0  # beyond the limit they are computed once more
    assert sum(sizes) == codes.numel() + mask.numel() + documents.numel() + scores.numel() + logits
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-13)


def states(lengths: list[int], size: int | None = None) -> tuple[Tensor, Tensor]:
    torch.manual_seed(7)
    size = size or max(lengths)
    return torch.randn(len(lengths), size, WIDTH, dtype=torch.float64), torch.arange(size) < torch.tensor(lengths)[
        :, None
    ]


@pytest.mark.parametrize("attention", ["basic", "sqrt", "multihead"])
def test_learned_codes_are_what_each_takes_from_the_valid_states(attention):
    torch.manual_seed(0)
    reducer = ContextCodes(WIDTH, "codes", 3, attention, 2 if attention == "multihead" else None).double()
    x, valid = states([5, 2, 0])
    codes, mask = reducer(x, valid)
    weights = {} if reducer.mixer is None else {k: v.numpy() for k, v in reducer.mixer.state_dict().items()}
    for row, length in enumerate([5, 2]):
        own = x[row, :length].numpy()
        for code, learned in zip(codes[row].detach().numpy(), reducer.codes.detach().numpy(), strict=True):
            if weights:
                expected = plain.taken_by_heads(learned, own, weights, 2)
            else:
                expected = plain.taken(learned, own, 1.0 if attention == "basic" else WIDTH**-0.5)
            assert np.allclose(code, expected, atol=1e-12)
    assert mask.tolist() == [[True] * 3, [True] * 3, [False] * 3] and not codes[2].any()


@pytest.mark.parametrize("attention", ["basic", "multihead"])
@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=3), more=st.integers(1, 4))
def test_codes_do_not_depend_on_padding(attention, lengths, more):
    torch.manual_seed(0)
    reducer = ContextCodes(WIDTH, "codes", 3, attention).double() if attention == "basic" else None
    reducer = reducer or ContextCodes(WIDTH, "codes", 3, attention, 3).double()
    x, valid = states(lengths, max(*lengths, 1, 1))
    longer = torch.nn.functional.pad(x.masked_fill(~valid[..., None], 1e4), (0, 0, 0, more), value=-1e4)
    for one, other in zip(reducer(x, valid), reducer(longer, torch.nn.functional.pad(valid, (0, more))), strict=True):
        assert torch.allclose(one.double(), other.double(), atol=1e-12)


def test_first_m_takes_the_first_states_and_masks_what_a_shorter_query_lacks():
    x, valid = states([5, 2])
    codes, mask = ContextCodes(WIDTH, "first-m", 3)(x, valid)
    assert torch.equal(codes[0], x[0, :3]) and torch.equal(codes[1, :2], x[1, :2]) and not codes[1, 2].any()
    assert mask.tolist() == [[True] * 3, [True, True, False]]
    codes, mask = ContextCodes(WIDTH, "first-m", 8)(x, valid)  # more than there are at all
    assert codes.shape == (2, 8, WIDTH) and mask.sum(1).tolist() == [5, 2] and not codes[0, 5:].any()


def test_all_is_first_m_of_the_whole_length_and_can_be_padded_to_a_common_one():
    x, valid = states([5, 2])
    codes, mask = ContextCodes(WIDTH, "all", None)(x, valid)
    first, first_mask = ContextCodes(WIDTH, "first-m", 5)(x, valid)
    assert torch.equal(codes, first) and torch.equal(mask, first_mask)
    longer, longer_mask = ContextCodes(WIDTH, "all", None)(x, None, pad_to=7)
    assert longer.shape == (2, 7, WIDTH) and torch.equal(longer[:, :5], x) and longer_mask.sum(1).tolist() == [5, 5]


def test_one_code_is_pooling_by_attention():
    torch.manual_seed(0)
    reducer, pool = ContextCodes(WIDTH, "codes", 1).double(), AttentionPool(WIDTH).double()
    pool.query.data = reducer.codes.data[0]
    x, valid = states([5, 2])
    documents = torch.randn(4, WIDTH, dtype=torch.float64)
    codes, mask = reducer(x, valid)
    assert torch.allclose(poly_scores(codes, mask, documents), pool(x, valid) @ documents.T, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reduction": "all", "count": 5}, "keeps every state"),
        ({"reduction": "first-m", "count": None}, "takes a count"),
        ({"reduction": "first-m", "count": 5, "attention": "sqrt"}, "no code attends"),
        ({"attention": "multihead", "heads": 4}, "do not divide"),
        ({"attention": "basic", "heads": 2}, "has none"),
    ],
)
def test_choices_without_meaning_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        ContextCodes(WIDTH, **options)


def test_padding_to_a_length_is_for_all_alone():
    x, valid = states([5, 2])
    for reducer, length in ((ContextCodes(WIDTH, "first-m", 3), 7), (ContextCodes(WIDTH, "all", None), 4)):
        with pytest.raises(UsageError, match="pad_to"):
            reducer(x, valid, pad_to=length)
