"""Tensor product attention against a plain loop, the exactness of its memory, and the contract of a kind."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from quincunx.errors import UsageError
from quincunx.nn.attention import tpr as module
from quincunx.nn.attention.tpr import TprAttention, prefix_reads
from reference import tpr as reference

HEADS, LENGTH, WIDTH = 2, 9, 6

GATED = [
    {"score": score, "gate": gate, "read": read}
    for score, gate, read in itertools.product(("cosine", "dot"), ("softmax", "mean_preserving"), (False, True))
]
RETRIEVAL = [
    {"mode": "retrieval", "feature_map": feature_map, "denominator": denominator}
    for feature_map, denominator in itertools.product(("identity", "elu"), ("count", "keys", "norm", "none"))
    if (feature_map, denominator) != ("identity", "keys")
]
DELTA = [
    {"mode": "retrieval", "feature_map": feature_map, "denominator": denominator, "delta": True, "delta_rate": rate}
    for feature_map, denominator, rate in itertools.product(("identity", "elu"), ("count", "norm", "none"), (1.0, 0.6))
]
OPTIONS = GATED + RETRIEVAL + DELTA
ROWS = [
    torch.tensor([True] * LENGTH),
    torch.tensor([True] * 3 + [False] * 6),
    torch.tensor([False] * LENGTH),
    torch.tensor([False, True, False, False, True, True, False, True, False]),
    torch.tensor([False] * 4 + [True] + [False] * 4),
]
VALID = torch.stack(ROWS)


def name(options: dict) -> str:
    return " ".join(f"{value}" for value in options.values())


every_option = pytest.mark.parametrize("options", OPTIONS, ids=name)
either_way = pytest.mark.parametrize("causal", [False, True], ids=["bidirectional", "causal"])


def inputs(batch: int = 5, heads: int = HEADS, length: int = LENGTH, width: int = WIDTH, dtype=torch.float64, seed=7):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, heads, length, width, dtype=dtype, generator=generator) for _ in range(3)]


def core(options: dict | None = None, heads: int = HEADS, width: int = WIDTH, causal: bool = False) -> TprAttention:
    return TprAttention(heads, width, causal=causal, **(options or {})).double()


def masked(out: Tensor, valid: Tensor | None) -> Tensor:
    return out if valid is None else out.masked_fill(~valid[:, None, :, None], 0.0)


@pytest.mark.parametrize("valid", [None, VALID], ids=["all valid", "masked"])
@either_way
@every_option
def test_values_and_gradients_against_the_plain_loop(options, causal, valid):
    ours, theirs = ([x.requires_grad_() for x in inputs()] for _ in range(2))
    out = masked(core(options, causal=causal)(*ours, valid), valid)
    expected = reference.tpr(*theirs, valid, causal=causal, **options)
    assert (out - expected).abs().max() < 1e-10 * (1 + expected.abs().max())
    factors = torch.randn_like(out)
    (out * factors).sum().backward()
    (expected * factors).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.grad - other.grad).abs().max() < 1e-9 * (1 + other.grad.abs().max())


@either_way
@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_the_scale_multiplies_the_score_and_the_learned_one_starts_there(score, causal):
    q, k, v = inputs()
    options = {"score": score, "scale": 2.5}
    expected = reference.tpr(q, k, v, causal=causal, **options)
    plain, learned = core(options, causal=causal), core({**options, "learn_scale": True}, causal=causal)
    assert torch.allclose(plain(q, k, v, None), expected, atol=1e-10)
    assert torch.allclose(learned(q, k, v, None), expected, atol=1e-6)
    with torch.no_grad():
        learned.log_scale.copy_(torch.tensor([0.5, 1.5]).log())
    out = learned(q, k, v, None)
    for head, scale in enumerate((0.5, 1.5)):
        single = reference.tpr(*(x[:, head : head + 1] for x in (q, k, v)), causal=causal, score=score, scale=scale)
        assert torch.allclose(out[:, head : head + 1], single, atol=1e-6)


@either_way
@pytest.mark.parametrize(
    "options", [{"read": True}, {"mode": "retrieval", "denominator": "norm"}], ids=["read", "norm"]
)
def test_the_gain_multiplies_what_was_read_head_by_head(options, causal):
    q, k, v = inputs()
    attention = core(options, causal=causal)
    ones, zeros = attention(q, k, v, None), core(causal=causal)(q, k, v, None)
    with torch.no_grad():
        attention.gain.copy_(torch.tensor([3.0, -1.0]))
    base = zeros if "read" in options else torch.zeros_like(ones)
    expected = base + torch.tensor([3.0, -1.0], dtype=torch.float64)[:, None, None] * (ones - base)
    assert torch.allclose(attention(q, k, v, None), expected, atol=1e-12)


def test_only_numbers_that_act_are_parameters():
    def names(**options):
        return [name for name, _ in TprAttention(3, 4, **options).named_parameters()]

    assert names() == names(denominator="norm") == []
    assert names(mode="retrieval") == names(mode="retrieval", read=True, learn_scale=True) == []
    assert names(learn_scale=True, read=True) == ["log_scale", "gain"]
    assert names(mode="retrieval", denominator="norm") == ["gain"]


@pytest.mark.parametrize("length", [1, 3, WIDTH])
def test_orthonormal_keys_are_recalled_exactly(length):
    basis = torch.linalg.qr(inputs(1, 1, WIDTH)[0][0, 0]).Q[:length]
    v = inputs(1, 1, length)[2]
    keys = basis.expand(1, 1, length, WIDTH)
    for delta in (False, True):
        attention = core({"mode": "retrieval", "denominator": "none", "delta": delta}, heads=1)
        assert torch.allclose(attention(keys, keys, v, None), v, atol=1e-9)


@pytest.mark.parametrize("length", [1, 5, 40, 200])
def test_retrieval_is_attention_without_softmax(length):
    q, k, v = inputs(2, length=length)
    products = q @ k.mT
    plain = {"mode": "retrieval", "denominator": "none"}
    assert torch.allclose(core(plain)(q, k, v, None), products @ v, atol=1e-9)
    assert torch.allclose(core(plain, causal=True)(q, k, v, None), products.tril() @ v, atol=1e-9)
    assert torch.allclose(prefix_reads(q, k, v), products.tril() @ v, atol=1e-9)


@either_way
def test_elu_over_keys_is_the_linear_transformer(causal):
    q, k, v = inputs(2, length=70)
    weights = (torch.nn.functional.elu(q) + 1) @ (torch.nn.functional.elu(k) + 1).mT
    weights = weights.tril() if causal else weights
    expected = weights / weights.sum(-1, keepdim=True) @ v
    linear = {"mode": "retrieval", "feature_map": "elu", "denominator": "keys"}
    assert torch.allclose(core(linear, causal=causal)(q, k, v, None), expected, atol=1e-10)


def test_elu_features_do_not_vanish_where_adding_one_would_cancel():
    q, k, v = (x.float() for x in inputs(1))
    linear = TprAttention(HEADS, WIDTH, mode="retrieval", feature_map="elu", denominator="keys")
    shifted = linear(q, k.clamp(max=0) - 30, v, None)  # e^x below 0: a shift cancels
    assert torch.allclose(shifted, linear(q, k.clamp(max=0) - 3, v, None), atol=1e-5)
    out = linear(q, torch.full_like(k, -30), v, None)  # equal keys: the mean of all values
    assert torch.allclose(out, v.mean(2, keepdim=True).expand_as(v), atol=1e-5)


@pytest.mark.parametrize("options", GATED + RETRIEVAL, ids=name)
def test_permuting_tokens_permutes_outputs(options):
    q, k, v = inputs()
    order = torch.randperm(LENGTH, generator=torch.Generator().manual_seed(1))
    valid = VALID[[0, 1, 3, 3, 4]]
    out = core(options)(q, k, v, valid)
    moved = core(options)(*(x[:, :, order] for x in (q, k, v)), valid[:, order])
    assert torch.allclose(moved, out[:, :, order], atol=1e-12)


def test_under_the_delta_rule_order_matters():
    q, k, v = inputs()
    delta = core({"mode": "retrieval", "denominator": "none", "delta": True})
    out, moved = delta(q, k, v, None), delta(*(x.flip(2) for x in (q, k, v)), None)
    assert (moved - out.flip(2)).abs().max() > 0.1


def test_delta_recalls_the_last_value_of_a_repeated_key_whatever_its_length():
    q, k, v = inputs(1, 1)
    k[0, 0, 2], k[0, 0, 8] = 4 * k[0, 0, 5], 0.5 * k[0, 0, 5]
    out = core({"mode": "retrieval", "denominator": "none", "delta": True}, heads=1)(k, k, v, None)
    for place in (2, 5, 8):
        assert torch.allclose(out[0, 0, place], v[0, 0, 8], atol=1e-9)
    assert (q.shape == v.shape) and not torch.allclose(out[0, 0, 4], v[0, 0, 4], atol=1e-3)


@either_way
@pytest.mark.parametrize("gate", ["softmax", "mean_preserving"])
def test_one_token_gives_its_own_value(gate, causal):
    q, k, v = inputs(3, length=1)
    assert torch.equal(core({"gate": gate}, causal=causal)(q, k, v, None), v)


def test_mean_preserving_keeps_the_size_that_softmax_loses():
    q, k, v = inputs(1, length=300)
    ratio = core({"gate": "mean_preserving"})(q, k, v, None) / core()(q, k, v, None)
    assert torch.allclose(ratio, torch.full_like(ratio, 300.0))


@either_way
@every_option
def test_padding_changes_nothing(options, causal):
    attention = core(options, causal=causal)
    q, k, v = inputs(1, length=70)  # more than one chunk
    places = torch.arange(70) % 3 != 1
    places[:2] = False
    valid = places[None]
    expected = attention(*(x[:, :, places] for x in (q, k, v)), None)
    assert (attention(q, k, v, valid)[:, :, places] - expected).abs().max() < 1e-12 * (1 + expected.abs().max())
    for x in (q, k, v):
        x[:, :, ~places] = float("nan") if x is not q else 1e3
    assert torch.equal(attention(q, k, v, valid)[:, :, places].isfinite(), torch.ones_like(expected, dtype=torch.bool))
    assert (attention(q, k, v, valid)[:, :, places] - expected).abs().max() < 1e-12 * (1 + expected.abs().max())


@either_way
@every_option
def test_rows_without_a_valid_token_give_zeros_also_as_gradients(options, causal):
    q, k, v = (x.requires_grad_() for x in inputs(dtype=torch.float32))
    out = TprAttention(HEADS, WIDTH, causal=causal, **options)(q, k, v, VALID)
    assert out.isfinite().all() and not out[2].any() and out[0].any()
    if causal:
        assert not out[3, :, 0].any() and not out[4, :, :4].any()
    masked(out, VALID).square().sum().backward()
    for x in (q, k, v):
        assert x.grad.isfinite().all() and not x.grad[2].any() and x.grad[0].any()
    for x in (k, v):
        assert not x.grad[1, :, 3:].any()


@every_option
def test_later_tokens_leave_earlier_outputs_bit_identical(options):
    attention = core(options, causal=True)
    tokens = inputs(2, length=140)  # three chunks
    before = attention(*tokens, None)
    for place in (5, 63, 64, 100):
        changed = [torch.cat([x[:, :, :place], 7 * x[:, :, place:].flip(2)], dim=2) for x in tokens]
        after = attention(*changed, None)
        assert torch.equal(after[:, :, :place], before[:, :, :place])
        assert not torch.allclose(after[:, :, place:], before[:, :, place:])


@every_option
def test_steps_equal_the_parallel_form(options):
    attention = core(options, causal=True)
    q, k, v = inputs(3, length=70)
    state = attention.start(3, q)
    sizes = [x.shape for x in state]
    for t in range(70):
        kept = [x.clone() for x in state]
        out, following = attention.step(q[:, :, t], k[:, :, t], v[:, :, t], state)
        assert all(torch.equal(x, y) for x, y in zip(state, kept, strict=True))
        state = following
        if t in (0, 1, 30, 69):
            expected = attention(*(x[:, :, : t + 1] for x in (q, k, v)), None)[:, :, t]
            assert (out - expected).abs().max() < 1e-10 * (1 + expected.abs().max())
    assert [x.shape for x in state] == sizes and all(len(x) == 3 for x in state)


@pytest.mark.parametrize("options", RETRIEVAL + DELTA, ids=name)
def test_the_last_causal_answer_is_the_bidirectional_one(options):
    q, k, v = inputs(2, length=70)
    last, whole = core(options, causal=True)(q, k, v, None)[:, :, -1], core(options)(q, k, v, None)[:, :, -1]
    assert (last - whole).abs().max() < 1e-10 * (1 + whole.abs().max())


def test_the_last_causal_gate_reads_the_whole_memory_but_is_normalised_over_what_each_token_saw():
    tokens = inputs(2, length=70)

    def last(causal: bool, **options: object) -> Tensor:
        return core(options, causal=causal)(*tokens, None)[:, :, -1]

    answers = [last(causal, read=True) - last(causal) for causal in (False, True)]
    assert torch.allclose(*answers, atol=1e-10)
    assert not torch.allclose(last(True), last(False), rtol=1e-3)


@either_way
@every_option
def test_gradients_also_of_the_learned_numbers(options, causal):
    attention = core({**options, "learn_scale": True}, heads=2, width=3, causal=causal)
    tokens = [x.requires_grad_() for x in inputs(2, length=4, width=3)]
    valid = torch.tensor([[True, True, True, False], [False, True, False, True]])
    learned = list(attention.parameters())

    def outputs(q: Tensor, k: Tensor, v: Tensor, *_: Tensor) -> Tensor:
        return masked(attention(q, k, v, valid), valid)

    assert torch.autograd.gradcheck(outputs, (*tokens, *learned), fast_mode=True)


@either_way
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [GATED[0], GATED[-1], RETRIEVAL[0], RETRIEVAL[4], DELTA[2]], ids=name)
def test_half_precision_inputs_are_summed_in_float32(options, dtype, causal):
    half = [x.to(dtype) for x in inputs(2, length=300)]
    out = TprAttention(HEADS, WIDTH, causal=causal, **options)(*half, None)
    exact = core(options, causal=causal)(*(x.double() for x in half), None)
    assert out.dtype == dtype
    # only the outputs are rounded: half a unit in the last of 8 (bfloat16) or 11 (float16) bits
    bound = exact.abs() * torch.finfo(dtype).eps * 0.51 + 1e-4 * exact.abs().max()
    assert ((out.double() - exact).abs() <= bound).all()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(TprAttention(HEADS, WIDTH, causal=causal, **options)(*half, None), out)


def test_steps_in_half_precision_keep_a_float32_memory():
    attention = TprAttention(HEADS, WIDTH, causal=True)
    half = [x.bfloat16() for x in inputs(2, length=20)]
    state = attention.start(2, half[0])
    with torch.autocast("cpu", torch.bfloat16):
        for t in range(20):
            out, state = attention.step(*(x[:, :, t] for x in half), state)
    assert out.dtype == torch.bfloat16 and all(x.dtype == torch.float32 for x in state)
    assert torch.allclose(out.float(), attention(*half, None)[:, :, -1].float(), rtol=1e-2)


@either_way
@pytest.mark.parametrize("fits", [0, 3, 11], ids=["head by head", "some heads", "some rows"])
@pytest.mark.parametrize(
    "options", [{"read": True, "learn_scale": True}, RETRIEVAL[4], RETRIEVAL[2], DELTA[4]], ids=name
)
def test_cutting_along_rows_and_heads_changes_nothing(options, fits, causal, monkeypatch):
    attention = core(options, heads=5, causal=causal)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(torch.linspace(0.5, 1.5, 5))
    whole, cut = ([x.requires_grad_() for x in inputs(heads=5)] for _ in range(2))
    expected = attention(*whole, VALID)
    expected.square().sum().backward()
    head = 64 * 64 * 8 if causal or "delta" in options else LENGTH * WIDTH * 8  # chunks are 64 long at the least
    monkeypatch.setattr(module, "SLICE_BYTES", fits * head)
    taken: list[torch.Size] = []
    attend = attention._attend
    monkeypatch.setattr(attention, "_attend", lambda q, *rest: (taken.append(q.shape), attend(q, *rest))[1])
    out = attention(*cut, VALID)
    out.square().sum().backward()
    assert len(taken) > 1 and sum(math.prod(shape) for shape in taken) == out.numel()
    assert torch.allclose(out, expected, atol=1e-12)
    for x, y in zip(cut, whole, strict=True):
        assert torch.allclose(x.grad, y.grad, atol=1e-12)


@either_way
def test_no_block_of_32_mib_or_more_is_asked_for(causal):
    for options in OPTIONS:
        attention = TprAttention(8, 64, causal=causal, **options)
        for rows, length in ((1, 16384), (1, 65500), (64, 2048), (3, 50001)):
            some, heads = attention._cuts(torch.empty(1).expand(rows, 8, length, 64))
            widest = 128 if options.get("delta") else 64
            assert some * heads * length * widest * 4 < 2**25 and (heads == 8 or some == 1)


@pytest.mark.parametrize(
    ("options", "causal", "graphs"),
    [
        pytest.param(GATED[0], False, 1, id="gated"),
        pytest.param(RETRIEVAL[4], False, 1, id="retrieval"),
        pytest.param(GATED[-1], True, 1, id="gated causal", marks=pytest.mark.slow),
        pytest.param(DELTA[4], True, 2, id="delta: a graph for each number of chunks", marks=pytest.mark.slow),
    ],
)
def test_compiles_whole_and_for_any_length(options, causal, graphs):
    torch.compiler.reset()  # graphs count towards one limit for all instances
    counters.clear()
    attention = core(options, causal=causal)
    compiled = torch.compile(attention, fullgraph=True, dynamic=True, backend="eager")
    for length in (70, 140):
        q, k, v = inputs(2, length=length)
        valid = torch.arange(length) < torch.tensor([[length], [4]])
        assert torch.allclose(compiled(q, k, v, valid), attention(q, k, v, valid), atol=1e-12)
    assert counters["stats"]["unique_graphs"] == graphs


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"mode": "gate"}, "gated, retrieval"),
        ({"score": "exact"}, "cosine, dot"),
        ({"gate": "sigmoid"}, "mean_preserving"),
        ({"feature_map": "relu"}, "identity, elu"),
        ({"denominator": "sum"}, "count, keys, norm, none"),
        ({"scale": 0.0}, "above 0"),
        ({"scale": -1.0}, "above 0"),
        ({"delta": True}, "mode: retrieval"),
        ({"mode": "retrieval", "delta": True, "delta_rate": 0.0}, "above 0"),
        ({"mode": "retrieval", "delta": True, "delta_rate": 2.5}, "at most 2"),
        ({"mode": "retrieval", "denominator": "keys"}, "feature_map: elu"),
        (
            {"mode": "retrieval", "denominator": "keys", "feature_map": "elu", "delta": True},
            "choose norm or none",
        ),
    ],
)
def test_contradictions_and_unknown_words_are_refused_with_the_remedy(options, remedy):
    with pytest.raises(UsageError, match=remedy):
        TprAttention(2, 4, **options)


def test_options_of_the_other_mode_are_taken_and_change_nothing():
    q, k, v = inputs()
    other = {"feature_map": "elu", "denominator": "keys", "delta_rate": 0.5}
    assert torch.equal(core(other)(q, k, v, None), core()(q, k, v, None))
    gates = {"score": "dot", "scale": 3.0, "learn_scale": True, "gate": "mean_preserving", "read": True}
    plain = {"mode": "retrieval"}
    assert torch.equal(core({**plain, **gates})(q, k, v, None), core(plain)(q, k, v, None))


def test_only_causal_attention_goes_token_by_token():
    with pytest.raises(UsageError, match="causal=True"):
        core().start(1, torch.zeros(1))


def test_says_that_checkpointing_saves_nothing_where_only_inputs_are_kept():
    plain = {"mode": "retrieval"}
    assert "saves next to nothing" in (core(plain).checkpointing_note() or "")
    for options in ({}, {**plain, "feature_map": "elu"}, {**plain, "delta": True}, {**plain, "denominator": "norm"}):
        assert core(options).checkpointing_note() is None
    assert core(plain, causal=True).checkpointing_note() is None
