"""Bundled holographic attention against a plain loop, its identities in both forms, and the contract of a kind."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from quincunx.errors import UsageError
from quincunx.nn.attention import hrr_bundled as module
from quincunx.nn.attention import spectral
from quincunx.nn.attention.hrr import bind, pack, packed_basis, unbind, unpack
from quincunx.nn.attention.hrr_bundled import HrrBundledAttention
from reference import hrr as reference

HEADS, LENGTH = 2, 7
FORMS = ("rfft", "spectral")
ROWS = torch.tensor(
    [
        [True] * LENGTH,
        [True] * 3 + [False] * 4,
        [False] * LENGTH,
        [False, True, False, True, True, False, True],
        [False] * 4 + [True] + [False] * 2,
    ]
)
OPTIONS = [
    {"score": score, "gate": gate, "read": read, "traces": traces}
    for score, gate, read, traces in itertools.product(
        ("cosine", "dot"), ("softmax", "mean_preserving"), (False, True), (1, 3)
    )
]
SOME = [OPTIONS[0], OPTIONS[5], OPTIONS[10], OPTIONS[14]]
"""Every word once."""

each_form = pytest.mark.parametrize("form", FORMS)
causal_or_not = pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])


def inputs(width: int = 6, length: int = LENGTH, dtype: torch.dtype = torch.float64, seed: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(len(ROWS), HEADS, length, width, dtype=dtype, generator=generator) for _ in range(3)]


def core(form: str, width: int = 6, **options) -> HrrBundledAttention:
    """A core in float64 whose learned numbers are not at their start, the same in both forms."""
    torch.manual_seed(1)
    made = HrrBundledAttention(HEADS, width, form=form, **options).double()
    basis = packed_basis(width, torch.float64)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator))
            if name.endswith("_maps") and form == "spectral":
                parameter.copy_(basis @ parameter @ basis.T)
    return made


def run(made: HrrBundledAttention, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None) -> Tensor:
    """Attend to vectors in either form."""
    if made.form == "rfft":
        return made(q, k, v, valid)
    basis = packed_basis(made.head_dim, q.dtype)
    return made(q @ basis.T, k @ basis.T, v @ basis.T, valid) @ basis


def expected(made: HrrBundledAttention, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None) -> Tensor:
    """The plain loop with the options of a core."""
    options = {name: made.options[name] for name in ("mask_trace", "score", "gate")}
    scale = torch.full((HEADS,), made.scale) if made.log_scale is None else made.log_scale.exp()
    maps = {}
    if made.query_maps is not None:
        basis = packed_basis(made.head_dim, torch.float64) if made.form == "spectral" else torch.eye(made.head_dim)
        for name in ("query_maps", "key_maps"):
            maps[name] = basis.T.double() @ getattr(made, name) @ basis.double()
    return reference.bundled(q, k, v, valid, causal=made.causal, scale=scale, gain=made.read_gain, **options, **maps)


@causal_or_not
@each_form
@pytest.mark.parametrize("width", [6, 5])
@pytest.mark.parametrize("mask_trace", [True, False])
def test_every_option_against_the_plain_loop(form, causal, width, mask_trace):
    q, k, v = inputs(width)
    for options, learn_scale, valid in zip(
        OPTIONS, itertools.cycle([False, True]), itertools.cycle([ROWS, ROWS, None])
    ):
        made = core(form, width, causal=causal, mask_trace=mask_trace, scale=1.7, learn_scale=learn_scale, **options)
        with torch.no_grad():
            assert torch.allclose(run(made, q, k, v, valid), expected(made, q, k, v, valid), atol=1e-10), options


@causal_or_not
@each_form
@pytest.mark.parametrize("options", SOME, ids=str)
def test_gradients_against_the_plain_loop(form, causal, options):
    made = core(form, causal=causal, learn_scale=True, **options)
    factors = torch.randn(len(ROWS), HEADS, LENGTH, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    found = []
    for function in (run, expected):
        tensors = [x.requires_grad_() for x in inputs()]
        out = function(made, *tensors, ROWS)
        found.append(torch.autograd.grad((out * factors).sum(), [*tensors, *made.parameters()]))
    for mine, theirs in zip(*found, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-9, rtol=1e-9)
        assert theirs.abs().max() > 1e-6


@causal_or_not
@each_form
@pytest.mark.parametrize("options", SOME, ids=str)
def test_slices_change_nothing(form, causal, options, monkeypatch):
    made = core(form, causal=causal, **options)
    found = []
    for size in (1 << 30, 2000, 1):
        monkeypatch.setattr(module, "SLICE", size)
        monkeypatch.setattr(spectral, "SLICE", size)
        tensors = [x.requires_grad_() for x in inputs()]
        out = run(made, *tensors, ROWS)
        found.append([out, *torch.autograd.grad(out.square().sum(), tensors)])
    for whole, *sliced in zip(*found, strict=True):
        assert all(torch.allclose(whole, one, atol=1e-12, rtol=1e-12) for one in sliced)


class Sizes(TorchDispatchMode):
    """Finds the most bytes that an operation claims, but for arrays of all tokens that are results in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {x.untyped_storage().data_ptr() for x in args if isinstance(x, Tensor)}
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and func.overloadpacket.__name__ not in ("cat", "empty_like"):
            storage = result.untyped_storage()
            if storage.data_ptr() not in known:
                self.largest = max(self.largest, storage.nbytes())
        return result


@causal_or_not
@each_form
def test_no_temporary_is_larger_than_a_slice(form, causal, monkeypatch):
    monkeypatch.setattr(module, "SLICE", 1 << 14)
    monkeypatch.setattr(spectral, "SLICE", 1 << 14)
    made = HrrBundledAttention(HEADS, 32, form=form, causal=causal)
    tensors = [torch.randn(2, HEADS, 512, 32).requires_grad_() for _ in range(3)]
    factors = torch.randn(2, HEADS, 512, 32)
    with Sizes() as sizes:
        out = made(*tensors, None)
        torch.autograd.grad(out, tensors, factors)
    assert 1 << 12 < sizes.largest <= 2 * (1 << 14) < tensors[0].numel()


@each_form
def test_the_gate_is_the_softmax_of_what_all_pairs_together_retrieve(form):
    q, k, v = inputs()
    # G(t, s): how much of v_t the query finds in the pair of token s; quadratic's score, summed here over s
    pairs = torch.einsum("bhte,bhse->bhts", bind(q, v), bind(k, v))
    made = core(form, score="dot")
    weights = torch.softmax(pairs.sum(-1), dim=-1)
    assert torch.allclose(run(made, q, k, v), weights[..., None] * v, atol=1e-10)


@causal_or_not
@each_form
@pytest.mark.parametrize("gate", ["softmax", "mean_preserving"])
def test_a_single_token_keeps_its_value(form, causal, gate):
    q, k, v = (x[:, :, :1] for x in inputs())
    assert torch.allclose(run(core(form, causal=causal, gate=gate), q, k, v), v, atol=1e-12)


@each_form
@pytest.mark.parametrize("options", SOME, ids=str)
def test_permuting_tokens_permutes_outputs(form, options):
    q, k, v = inputs()
    made, order = core(form, **options), torch.randperm(LENGTH, generator=torch.Generator().manual_seed(0))
    shuffled = run(made, *(x[:, :, order] for x in (q, k, v)), ROWS[:, order])
    assert torch.allclose(shuffled, run(made, q, k, v, ROWS)[:, :, order], atol=1e-12)


@each_form
def test_unit_spectra_read_back_what_a_single_pair_holds(form):
    _, key, value = (x[:, :, :1] for x in inputs())
    made = core(form, read=True)
    normed = unbind(bind(key, value), key)
    normed = torch.nn.functional.layer_norm(normed, (6,), eps=1e-5)
    out = run(made, key, key, value)
    assert torch.allclose(out - value, made.read_gain[:, None, None] * normed, atol=1e-10)


@each_form
def test_the_last_token_of_causal_attention_reads_what_it_reads_both_ways(form):
    q, k, v = inputs()
    last = []
    for causal in (False, True):
        read, plain = (core(form, causal=causal, read=read) for read in (True, False))
        last.append((run(read, q, k, v, ROWS) - run(plain, q, k, v, ROWS))[:, :, -1])
    assert torch.allclose(*last, atol=1e-12) and last[0].abs().max() > 0.1


@each_form
@pytest.mark.parametrize("options", SOME, ids=str)
def test_later_tokens_do_not_change_earlier_outputs(form, options):
    q, k, v = inputs()
    made = core(form, causal=True, **options)
    for valid in (None, ROWS):
        before = run(made, q, k, v, valid)
        for place in (1, 4, 6):
            other = [torch.cat([x[:, :, :place], x[:, :, place:] * -3 + 1], dim=2) for x in (q, k, v)]
            after = run(made, *other, valid)
            assert torch.equal(after[:, :, :place], before[:, :, :place])
            assert not torch.equal(after[0, :, place:], before[0, :, place:])


@each_form
@pytest.mark.parametrize("width", [6, 5])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_steps_give_the_rows_of_the_whole(form, width, options):
    made = core(form, width, causal=True, learn_scale=True, **options)
    tensors = [pack(x) if form == "spectral" else x for x in inputs(width)]
    with torch.no_grad():
        whole = made(*tensors, None)
        state = made.start(len(ROWS), tensors[0])
        sizes = [part.shape for part in state]
        for t in range(LENGTH):
            before = [part.clone() for part in state]
            out, after = made.step(*(x[:, :, t] for x in tensors), state)
            assert torch.allclose(out, whole[:, :, t], atol=1e-10)
            assert all(torch.equal(one, other) for one, other in zip(before, state, strict=True))
            state = after
            assert [part.shape for part in state] == sizes


@causal_or_not
@each_form
@pytest.mark.parametrize("options", SOME, ids=str)
def test_rows_without_a_valid_token_give_zeros_and_finite_gradients(form, causal, options):
    for mask_trace in (True, False):
        made = core(form, causal=causal, mask_trace=mask_trace, learn_scale=True, **options)
        tensors = [x.requires_grad_() for x in inputs()]
        out = run(made, *tensors, ROWS)
        assert out.isfinite().all() and not out[2].any() and out[0].any()
        if causal:  # nothing is seen before the first valid token
            assert not out[3, :, 0].any() and not out[4, :, :4].any() and out[4, :, 4].any()
        gradients = torch.autograd.grad(out.sum(), [*tensors, *made.parameters()])
        assert all(gradient.isfinite().all() for gradient in gradients)
        if mask_trace:
            assert not any(gradient[2].any() for gradient in gradients[:3])
            # keys and values of padding reach nothing
            assert not any(gradient[1, :, 3:].any() for gradient in gradients[1:3])


@causal_or_not
@each_form
@pytest.mark.parametrize("options", SOME, ids=str)
def test_padding_anywhere_changes_nothing(form, causal, options):
    q, k, v = inputs()
    made = core(form, causal=causal, **options)
    whole = run(made, q, k, v)
    generator = torch.Generator().manual_seed(9)
    places = torch.randperm(12, generator=generator)[:LENGTH].sort().values
    valid = torch.zeros(len(ROWS), 12, dtype=torch.bool)
    valid[:, places] = True
    padded = []
    for x in (q, k, v):
        wide = 5 * torch.randn(len(ROWS), HEADS, 12, 6, dtype=torch.float64, generator=generator)
        wide[:, :, places] = x
        padded.append(wide)
    assert torch.allclose(run(made, *padded, valid)[:, :, places], whole, atol=1e-12)
    published = core(form, causal=causal, mask_trace=False, **options)
    assert not torch.allclose(run(published, *padded, valid)[:, :, places], whole, atol=1e-3)


@causal_or_not
def test_the_spectral_form_is_the_same_function_in_the_packed_basis(causal):
    q, k, v = inputs(8)
    for options in SOME:
        time, packed = (core(form, 8, causal=causal, **options) for form in FORMS)
        assert torch.allclose(unpack(packed(pack(q), pack(k), pack(v), ROWS)), time(q, k, v, ROWS), atol=1e-11)


@causal_or_not
@each_form
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(form, causal, dtype):
    q, k, v = (x.to(dtype) for x in inputs(16, length=40))
    for options in (SOME[0], SOME[3]):
        made = core(form, 16, causal=causal, **options).float()
        out = made(q, k, v, None)
        exact = made.double()(q.double(), k.double(), v.double(), None)
        assert out.dtype == dtype
        assert ((out.double() - exact).abs() <= exact.abs() * torch.finfo(dtype).eps + 1e-4).all()


@causal_or_not
@each_form
def test_autocast_does_not_reach_the_core(form, causal):
    made = core(form, 16, causal=causal, read=True, traces=2).float()
    q, k, v = inputs(16, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(made(q, k, v, None), made(q, k, v, None))
        inside = made(q, k, v, None)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, made(q, k, v, None))


@causal_or_not
@each_form
@pytest.mark.parametrize("options", [SOME[0], SOME[3]], ids=str)
def test_it_traces_into_one_graph_for_all_lengths(form, causal, options):
    made, graphs = core(form, causal=causal, **options), []

    def count(graph, example):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(made, backend=count, fullgraph=True, dynamic=True)
    for length in (7, 5, 6):
        tensors = [x.requires_grad_() for x in inputs(length=length)]
        found = []
        for function in (compiled, made):
            out = function(*tensors, None)
            found.append([out, *torch.autograd.grad(out.square().sum(), tensors)])
        assert all(torch.allclose(one, other, atol=1e-10) for one, other in zip(*found, strict=True))
    assert len(graphs) == 1


def test_only_what_acts_is_a_parameter():
    def names(**options):
        return [name for name, _ in HrrBundledAttention(2, 4, **options).named_parameters()]

    assert names() == names(form="spectral") == []
    assert names(learn_scale=True) == ["log_scale"]
    assert names(read=True) == ["read_gain"]
    assert names(traces=2) == ["query_maps", "key_maps"]
    assert not HrrBundledAttention(2, 4).state_dict()


def test_learned_numbers_start_where_the_options_say():
    made = HrrBundledAttention(2, 8, scale=2.5, learn_scale=True, read=True, traces=3)
    assert torch.allclose(made.log_scale.exp(), torch.full((2,), 2.5))
    assert torch.equal(made.read_gain, torch.ones(2))
    assert made.query_maps.shape == (2, 2, 8, 8)
    for maps in (made.query_maps, made.key_maps):
        assert torch.allclose(maps @ maps.mT, torch.eye(8).expand(2, 2, 8, 8), atol=1e-5)
    assert not torch.allclose(made.query_maps, made.key_maps, atol=0.1)
    q, k, v = inputs(8, dtype=torch.float32)
    plain = HrrBundledAttention(2, 8, scale=2.5)
    assert torch.allclose(HrrBundledAttention(2, 8, scale=2.5, learn_scale=True)(q, k, v, None), plain(q, k, v, None))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"compile": True}, "form: spectral.*complex"),
        ({"form": "fft"}, "form is 'fft'.*rfft, spectral"),
        ({"score": "cos"}, "score is 'cos'"),
        ({"gate": "sigmoid"}, "gate is 'sigmoid'"),
        ({"scale": 0.0}, "above 0"),
        ({"traces": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_is_refused(options, says):
    with pytest.raises(UsageError, match=says):
        HrrBundledAttention(2, 4, **options)


def test_steps_need_causality():
    with pytest.raises(UsageError, match="causal"):
        HrrBundledAttention(2, 4).start(1, torch.zeros(1))


def test_only_the_form_that_keeps_nothing_says_that_checkpointing_saves_nothing():
    assert "trace" in (HrrBundledAttention(2, 4, form="spectral").checkpointing_note() or "")
    for options in ({}, {"form": "spectral", "causal": True}, {"form": "spectral", "read": True}):
        assert HrrBundledAttention(2, 4, **options).checkpointing_note() is None
