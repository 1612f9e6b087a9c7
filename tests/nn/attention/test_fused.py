"""Softmax over pairs without their matrix, and what every kind that stands on it promises."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from quincunx.errors import UsageError
from quincunx.nn.attention import parts
from quincunx.nn.attention.fused import PairAttention, ScoreScale, mixture, unit
from quincunx.nn.attention.hrr_cleanup import HrrCleanupAttention
from quincunx.nn.attention.hrr_individual import HrrIndividualAttention
from quincunx.nn.attention.hrr_quadratic import HrrQuadraticAttention
from quincunx.nn.attention.softmax import SoftmaxAttention

VALID = torch.tensor(
    [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [0] * 7, [0, 0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 1, 1, 0]]
).bool()
ROWS, HEADS, LENGTH = len(VALID), 2, VALID.shape[1]

Make = Callable[..., PairAttention]
KINDS: dict[str, Make] = {
    "softmax": SoftmaxAttention,
    "individual": HrrIndividualAttention,
    "individual dot": lambda *sizes, **more: HrrIndividualAttention(*sizes, score="dot", **more),
    "individual exact": lambda *sizes, **more: HrrIndividualAttention(*sizes, score="exact_cosine", **more),
    "individual self": lambda *sizes, **more: HrrIndividualAttention(*sizes, individual_scope="self", **more),
    "quadratic": HrrQuadraticAttention,
    "quadratic dot": lambda *sizes, **more: HrrQuadraticAttention(*sizes, score="dot", **more),
    "quadratic in groups": lambda *sizes, **more: HrrQuadraticAttention(*sizes, superposition=3, **more),
    "quadratic in one": lambda *sizes, **more: HrrQuadraticAttention(*sizes, superposition=99, **more),
    "cleanup": HrrCleanupAttention,
    "cleanup dot": lambda *sizes, **more: HrrCleanupAttention(*sizes, score="dot", **more),
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
both_orders = pytest.mark.parametrize("causal", [False, True], ids=["bidirectional", "causal"])


def draw(*shape: int, dtype: torch.dtype = torch.float64, count: int = 3, seed: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype) for _ in range(count)]


def tracked(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone().requires_grad_() for tensor in tensors]


def by_matrix(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, causal: bool, scale: float) -> Tensor:
    """The same by the matrix of weights."""
    visible = torch.ones(len(q), 1, q.shape[2], k.shape[2], dtype=torch.bool)
    if valid is not None:
        visible = visible & valid[:, None, None]
    if causal:
        visible = visible.tril()
    scores = torch.where(visible, scale * q @ k.transpose(-1, -2), -torch.inf)
    chances = torch.where(visible, (scores - scores.amax(-1, keepdim=True).clamp(min=-1e300)).exp(), 0.0)
    return chances @ v / chances.sum(-1, keepdim=True).clamp(min=1e-300)


@pytest.mark.parametrize("width", [5, 8])
@pytest.mark.parametrize("valid", [None, VALID], ids=["all valid", "masked"])
@both_orders
def test_mixture_is_the_matrix_route_in_values_and_gradients(causal, valid, width):
    tensors = draw(ROWS, HEADS, LENGTH, width)
    ours, theirs = tracked(tensors), tracked(tensors)
    out, expected = mixture(*ours, valid, causal, 0.7), by_matrix(*theirs, valid, causal, 0.7)
    factors = torch.randn_like(out)
    found = [out, *torch.autograd.grad(out, ours, factors)]
    wanted = [expected, *torch.autograd.grad(expected, theirs, factors)]
    for mine, other in zip(found, wanted, strict=True):
        assert (mine - other).abs().max() < 1e-12


def test_mixture_takes_fewer_keys_than_queries_and_scales_by_the_width_unless_told():
    (q,), (k, v) = draw(2, 1, 6, 4, count=1), draw(2, 1, 3, 4, count=2, seed=6)
    valid = torch.tensor([[True, False, True], [False, False, False]])
    assert torch.allclose(mixture(q, k, v, valid), by_matrix(q, k, v, valid, False, 0.5), atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 2e-5), (torch.bfloat16, 0.03), (torch.float16, 0.004)], ids=str
)
@pytest.mark.parametrize("size", [1.0, 8.0], ids=["scores of size 1", "of size 64"])
def test_a_causal_mask_as_a_feature_costs_no_precision(dtype, bound, size):
    q, k, v = draw(ROWS, 1, LENGTH, 64, dtype=dtype)
    q, k = q * size, k * size
    tensors = tracked([q, k, v])
    out = mixture(*tensors, VALID, causal=True)
    out.sum().backward()
    assert all(tensor.grad.isfinite().all() for tensor in tensors)
    exact = by_matrix(q.double(), k.double(), v.double(), VALID, True, 0.125)
    assert out.dtype == dtype
    assert (out.double() - exact).abs().max() < bound
    huge = [k * 1, v * 1]
    for tensor in huge:
        tensor[~VALID[:, None].expand(-1, 1, -1)] = 100.0  # what is masked may score as high as it likes
    assert torch.equal(mixture(q, *huge, VALID, causal=True), out)


@pytest.mark.parametrize("valid", [None, VALID], ids=["all valid", "masked"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@both_orders
def test_the_fused_kernel_serves_and_nothing_of_the_size_of_all_pairs_is_made(causal, dtype, valid):
    length = 600
    tensors = tracked(draw(ROWS, 1, length, 5, dtype=dtype))
    shown = None if valid is None else valid.repeat_interleave(100, 1)[:, :length]
    with torch.profiler.profile(profile_memory=True) as profile:
        mixture(*tensors, shown, causal).sum().backward()
    names = {event.name for event in profile.events()}
    assert {"aten::_scaled_dot_product_flash_attention_for_cpu"} <= names and "aten::softmax" not in names
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert largest < ROWS * length * length * tensors[0].itemsize


@every_kind
@both_orders
def test_padding_is_not_seen_wherever_it_is(make, causal):
    core = make(HEADS, 6, causal=causal)
    tensors = draw(ROWS, HEADS, LENGTH, 6)
    replaced = draw(*tensors[0].shape, seed=9)
    others = [torch.where(VALID[:, None, :, None], a, b) for a, b in zip(tensors, replaced, strict=True)]
    real = VALID[:, None, :, None].to(torch.float64)
    assert ((core(*tensors, VALID) - core(*others, VALID)) * real).abs().max() < 1e-12
    longer = [torch.cat([tensor, tensor.flip(2)], 2) for tensor in tensors]
    further = torch.cat([VALID, torch.zeros_like(VALID)], 1)
    cut = core(*longer, further)[:, :, :LENGTH]
    assert ((core(*tensors, VALID) - cut) * real).abs().max() < 1e-12
    everything = core(*tensors, torch.ones_like(VALID))
    assert (everything - core(*tensors, None)).abs().max() < 1e-12


@every_kind
@both_orders
def test_queries_that_see_no_valid_token_get_zeros_and_finite_gradients(make, causal):
    core = make(HEADS, 6, causal=causal)
    tensors = tracked(draw(ROWS, HEADS, LENGTH, 6, dtype=torch.float32))
    out = core(*tensors, VALID)
    assert out.isfinite().all() and not out[2].any() and out[0].any()
    if causal:
        assert not out[3, :, :4].any() and not out[4, :, :2].any() and out[3, :, 4].any()
    out.sum().backward(retain_graph=True)
    for tensor in tensors:
        assert tensor.grad is not None and tensor.grad.isfinite().all() and not tensor.grad[2].any()
        tensor.grad = None
    out.masked_fill(~VALID[:, None, :, None], 0.0).sum().backward()
    for tensor in tensors:
        assert not tensor.grad.masked_fill(VALID[:, None, :, None], 0.0).any()  # nobody sees padding


@every_kind
@pytest.mark.parametrize("valid", [None, VALID], ids=["all valid", "masked"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_later_tokens_change_no_bit_of_earlier_outputs(make, valid, dtype):
    core = make(HEADS, 6, causal=True)
    tensors = draw(ROWS, HEADS, LENGTH, 6, dtype=dtype)
    for place in (1, 3, 6):
        replaced = draw(*tensors[0].shape, dtype=dtype, seed=9)
        changed = [torch.cat([a[:, :, :place], b[:, :, place:]], 2) for a, b in zip(tensors, replaced, strict=True)]
        before, after = core(*tensors, valid)[:, :, :place], core(*changed, valid)[:, :, :place]
        assert torch.equal(before, after)


@every_kind
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.bfloat16, 0.05)], ids=str)
def test_steps_give_what_all_tokens_at_once_give(make, dtype, bound):
    core = make(HEADS, 6, causal=True)
    tensors = draw(3, HEADS, LENGTH, 6, dtype=dtype)
    state = core.start(3, tensors[0])
    whole = core(*tensors, None)
    for t in range(LENGTH):
        before = [tensor.clone() for tensor in state]
        out, following = core.step(*(tensor[:, :, t] for tensor in tensors), state)
        assert all(torch.equal(old, kept) for old, kept in zip(before, state, strict=True))
        assert all(len(tensor) == 3 for tensor in following)
        assert out.dtype == dtype and (out - whole[:, :, t]).abs().max() < bound
        state = following


@every_kind
def test_steps_take_the_dtype_of_their_tokens_whatever_the_start(make):
    core = make(HEADS, 6, causal=True)
    tensors = draw(3, HEADS, LENGTH, 6, dtype=torch.bfloat16)
    states = [core.start(3, torch.zeros(1, dtype=dtype)) for dtype in (torch.float32, torch.bfloat16)]
    for t in range(LENGTH):
        token = [tensor[:, :, t] for tensor in tensors]
        (one, first), (other, second) = (core.step(*token, state) for state in states)
        states = [first, second]
        assert one.dtype == torch.bfloat16 and torch.equal(one, other)


@every_kind
def test_only_causal_attention_goes_by_steps(make):
    with pytest.raises(UsageError, match="causal=True"):
        make(HEADS, 6).start(2, torch.zeros(1))


@every_kind
@both_orders
def test_a_single_token_gets_its_own_value(make, causal):
    q, k, v = draw(2, HEADS, 1, 6)
    assert (make(HEADS, 6, causal=causal)(q, k, v, None) - v).abs().max() < 1e-12


@pytest.mark.parametrize("name", [name for name in KINDS if name != "quadratic in groups"])  # groups are by place
def test_another_order_of_tokens_gives_the_same_in_that_order(name):
    core = KINDS[name](HEADS, 6)
    tensors = draw(ROWS, HEADS, LENGTH, 6)
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3])
    out = core(*tensors, VALID)[:, :, order]
    assert (out - core(*(tensor[:, :, order] for tensor in tensors), VALID[:, order])).abs().max() < 1e-12


@every_kind
@both_orders
@pytest.mark.parametrize("width", [4, 5])
def test_gradients_against_differences(make, causal, width):
    core = make(HEADS, width, causal=causal, **({} if make is SoftmaxAttention else {"learn_scale": True})).double()
    rows = VALID[[0, 2, 4], 2:6]
    tensors = tracked(draw(3, HEADS, 4, width))

    def function(*given):
        return core(*given[:3], rows)

    assert torch.autograd.gradcheck(function, (*tensors, *core.parameters()), fast_mode=True)


@every_kind
@both_orders
def test_cutting_into_parts_changes_nothing(make, causal, monkeypatch):
    core = make(HEADS, 6, causal=causal)
    tensors = draw(ROWS, HEADS, LENGTH, 6)
    results = []
    for part in (parts.PART, 200, 1):
        monkeypatch.setattr(parts, "PART", part)
        given = tracked(tensors)
        out = core(*given, VALID)
        out.square().sum().backward()
        results.append([out, *(tensor.grad for tensor in given)])
    for found in results[1:]:
        for mine, expected in zip(found, results[0], strict=True):
            assert torch.allclose(mine, expected, atol=1e-12)


@every_kind
@both_orders
@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.06), (torch.float16, 0.01)], ids=str)
def test_half_precision_inputs_are_transformed_in_float32(make, causal, dtype, bound):
    core = make(1, 32, causal=causal)
    tensors = draw(2, 1, 24, 32, dtype=dtype)
    tensors = [0.5 * tensor for tensor in tensors]
    out, exact = core(*tensors, None), core(*(tensor.double() for tensor in tensors), None)
    assert out.dtype == dtype
    assert (out.double() - exact).abs().max() < bound
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(core(*tensors, None), out)


@every_kind
@both_orders
@pytest.mark.parametrize("valid", [None, VALID], ids=["all valid", "masked"])
def test_autocast_takes_no_precision_from_float32_inputs(make, causal, valid):
    core = make(HEADS, 6, causal=causal)
    tensors = draw(ROWS, HEADS, LENGTH, 6, dtype=torch.float32)
    results = []
    for enabled in (False, True):
        given = tracked(tensors)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            out = core(*given, valid)
            out.square().sum().backward()
        results.append([out, *(tensor.grad for tensor in given)])
    for plain, cast in zip(*results, strict=True):
        assert torch.equal(plain, cast)


@pytest.mark.parametrize(
    "name",
    [
        "individual self",
        "cleanup",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("softmax", "individual exact", "quadratic in groups")
        ),
    ],
)
def test_every_kind_compiles_whole_with_sizes_left_open(name):
    core = KINDS[name](HEADS, 6, causal=True)
    torch._dynamo.reset()
    compiled = torch.compile(core, fullgraph=True, dynamic=True, backend="eager")
    for length in (5, 7):
        tensors = draw(ROWS, HEADS, length, 6, dtype=torch.float32)
        ours, theirs = tracked(tensors), tracked(tensors)
        out, expected = compiled(*ours, VALID[:, :length]), core(*theirs, VALID[:, :length])
        assert torch.allclose(out, expected, atol=1e-6)
        out.square().sum().backward()
        expected.square().sum().backward()
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.allclose(mine.grad, other.grad, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "softmax"])
def test_a_scale_can_be_given_or_learned_one_for_each_head(name):
    q, k, v = draw(ROWS, HEADS, LENGTH, 6)
    plain, given = KINDS[name](HEADS, 6), KINDS[name](HEADS, 6, scale=2.5)
    learned = KINDS[name](HEADS, 6, scale=2.5, learn_scale=True).double()
    assert not list(given.parameters())
    (parameter,) = learned.parameters()
    assert parameter.shape == (HEADS,)
    assert torch.allclose(learned(q, k, v, VALID), given(q, k, v, VALID), atol=1e-6)
    if name == "quadratic in one":
        return  # of a single slot the weight is 1 at any scale
    assert not torch.allclose(plain(q, k, v, VALID), given(q, k, v, VALID), atol=1e-3)
    with torch.no_grad():
        parameter[1] = -50.0  # a scale of next to 0 weighs alike
    flat = learned(q, k, v, None)
    assert torch.allclose(flat[:, 0], given(q, k, v, None)[:, 0], atol=1e-6)
    if name == "individual self":
        assert torch.allclose(flat[:, 1], v[:, 1] / LENGTH, atol=1e-12)
    elif name != "quadratic in groups":
        assert torch.allclose(flat[:, 1], v[:, 1].mean(1, keepdim=True).expand_as(v[:, 1]), atol=1e-12)


def test_default_scales():
    for name, core in ((name, make(HEADS, 16)) for name, make in KINDS.items() if name != "softmax"):
        assert isinstance(core.scale, ScoreScale)
        expected = 1.0 if name == "individual self" else 0.25 if "dot" in name else 4.0
        assert core.scale.value == expected, name


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_that_is_not_positive_is_refused(value):
    with pytest.raises(UsageError, match="scale must be above 0"):
        HrrQuadraticAttention(HEADS, 6, scale=value)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "softmax"])
def test_an_unknown_score_names_those_there_are(name):
    kind = type(KINDS[name](HEADS, 6))
    with pytest.raises(UsageError, match=r"score 'cos' is not available: choose one of cosine, dot"):
        kind(HEADS, 6, score="cos")


@every_kind
def test_the_note_on_checkpointing_names_the_kind(make):
    core = make(HEADS, 6)
    assert f"under {core.kind} attention" in (core.checkpointing_note() or "")


def test_unit_vectors_have_length_1_and_zeros_stay():
    (x,) = draw(3, 5, count=1)
    x[1] = 0
    x = x.requires_grad_()
    found = unit(x)
    assert torch.allclose(found.norm(dim=-1), torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64), atol=1e-9)
    found.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
