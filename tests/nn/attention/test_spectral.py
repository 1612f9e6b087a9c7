"""The passes over packed spectra: their algebra, their own gradients, what they keep, and that they compile."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from quincunx.errors import RunError
from quincunx.nn.attention import hrr
from quincunx.nn.attention.hrr_bundled import HrrBundledAttention, Mix
from quincunx.nn.attention.spectral import SpectralForm, SpectralGate, compile_method, gated

WIDTHS = [*range(1, 10), 64]
VALID = torch.tensor([[True] * 5, [False, True, True, False, True], [False] * 5])

each_score = pytest.mark.parametrize("score", ["cosine", "dot"])
masked_or_not = pytest.mark.parametrize(
    ("valid", "mask_trace"), [(None, True), (VALID, True), (VALID, False)], ids=["all valid", "masked", "published"]
)


def inputs(width: int, length: int = 5, dtype: torch.dtype = torch.float64, batch: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(batch, 2, length, width, dtype=dtype, generator=generator) for _ in range(3)]


def scales(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor([0.8, 2.1], dtype=dtype)


def attend(
    gate: SpectralGate, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, scale: Tensor, **options
) -> Tensor:
    return gate.merge(gated(gate, gate.split(q), gate.split(k), gate.split(v), valid, scale, **options))


@pytest.mark.parametrize("width", WIDTHS)
def test_binding_and_retrieval_are_those_of_the_vectors(width):
    q, k, v = (x[0, 0] for x in inputs(width))
    form = SpectralForm(width)
    packed = [form.split(hrr.pack(x)) for x in (q, k, v)]
    trace = form.bind(packed[1], packed[2]).sum(0)
    found = hrr.unpack(form.merge(form.retrieve(trace, packed[0])))
    expected = hrr.unbind(hrr.bind(k, v).sum(0), q)
    assert torch.allclose(found, expected, atol=1e-11)


@pytest.mark.parametrize("width", WIDTHS)
def test_planes_hold_the_packed_spectrum(width):
    packed, form = inputs(width)[0], SpectralForm(width)
    planes = form.split(packed)
    assert planes.shape == (*packed.shape[:-1], 2, (width + 1) // 2)
    assert torch.equal(form.merge(planes), packed)
    if width % 2:
        assert not planes[..., 1, 0].any()
    else:
        assert planes.data_ptr() == packed.data_ptr()


@pytest.mark.parametrize("width", WIDTHS)
def test_centring_takes_the_mean_away(width):
    (a, _, _) = inputs(width)
    centred = hrr.unpack(SpectralForm(width).centred(hrr.pack(a)))
    assert torch.allclose(centred, a - a.mean(-1, keepdim=True), atol=1e-12)


@each_score
@masked_or_not
@pytest.mark.parametrize(("width", "mean_preserving"), [(1, False), (2, True), (5, True), (6, False)])
def test_the_gradients_of_the_passes_by_differences(width, score, mean_preserving, valid, mask_trace):
    gate = SpectralGate(width, score, mean_preserving, mask_trace)
    tensors = [x.requires_grad_() for x in (*inputs(width), scales())]
    assert torch.autograd.gradcheck(lambda q, k, v, scale: attend(gate, q, k, v, valid, scale), tensors)


@each_score
@masked_or_not
@pytest.mark.parametrize("width", [64, 7])
def test_the_passes_are_what_autograd_makes_of_the_plain_formula(width, score, valid, mask_trace):
    gate = SpectralGate(width, score, True, mask_trace)
    plain = Mix("spectral", width, False, score, True, mask_trace)
    found = []
    for function in (
        lambda q, k, v, scale: attend(gate, q, k, v, valid, scale),
        lambda q, k, v, scale: plain(q, k, v, valid, scale, None, None, None),
    ):
        tensors = [x.requires_grad_() for x in (*inputs(width), 0.1 * scales())]
        out = function(*tensors)
        found.append([out, *torch.autograd.grad(out.square().sum(), tensors)])
    for mine, theirs in zip(*found, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-10, rtol=1e-10) and theirs.any()


def test_only_queries_keys_values_and_the_trace_are_kept():
    tensors = [x.requires_grad_() for x in inputs(8, length=50)]
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        gated(SpectralGate(8, "cosine", False, True), *(x.unflatten(-1, (2, 4)) for x in tensors), None, scales())
    large = sorted(x.data_ptr() for x in kept if x.numel() == tensors[0].numel())
    assert large == sorted(x.data_ptr() for x in tensors)
    # two halves of a trace, a normaliser for each head, the scale
    assert sum(x.numel() for x in kept if x.numel() < tensors[0].numel()) == 3 * 2 * (4 + 4 + 1) + 2


def test_differentiating_twice_is_refused_instead_of_wrong():
    tensors = [x.requires_grad_() for x in inputs(6)]
    out = attend(SpectralGate(6, "cosine", False, True), *tensors, None, scales())
    (first,) = torch.autograd.grad(out.square().sum(), tensors[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_results_lie_in_memory_as_the_inputs_do():
    """A layer's heads are a transposed view; its output projection then needs no copy."""
    tensors = [x.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in inputs(8)]
    out = attend(SpectralGate(8, "cosine", False, True), *tensors, None, scales())
    assert out.transpose(1, 2).is_contiguous()
    gradients = torch.autograd.grad(out.sum(), tensors)
    assert all(gradient.transpose(1, 2).is_contiguous() for gradient in gradients)
    straight = [x.detach().contiguous().requires_grad_() for x in tensors]
    other = attend(SpectralGate(8, "cosine", False, True), *straight, None, scales())
    assert torch.allclose(out, other, atol=1e-13)
    for mine, theirs in zip(gradients, torch.autograd.grad(other.sum(), straight), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-13)


@each_score
def test_half_precision_gradients_are_computed_in_float32(score):
    gate = SpectralGate(16, score, True, True)
    low = [x.bfloat16().requires_grad_() for x in inputs(16, length=40)]
    high = [x.detach().double().requires_grad_() for x in low]
    factors = torch.randn(3, 2, 40, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    mine = torch.autograd.grad(attend(gate, *low, None, 0.01 * scales(torch.float32)), low, factors)
    exact = torch.autograd.grad(attend(gate, *high, None, 0.01 * scales()), high, factors.double())
    for found, wanted in zip(mine, exact, strict=True):
        assert found.dtype == torch.bfloat16
        assert (found.double() - wanted).abs().max() <= 0.01 * wanted.abs().max()


@pytest.mark.parametrize(
    ("score", "valid", "mask_trace"), [("cosine", None, True), ("dot", VALID, True), ("cosine", VALID, False)]
)
def test_the_passes_trace_into_one_graph_for_all_lengths(score, valid, mask_trace):
    gate, graphs = SpectralGate(6, score, True, mask_trace), []

    def count(graph, example):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    forward = torch.compile(gate.run_forward, backend=count, fullgraph=True, dynamic=True)
    backward = torch.compile(gate.run_backward, backend=count, fullgraph=True, dynamic=True)
    for length in (5, 4, 3):
        q, k, v = (gate.split(x) for x in inputs(6, length))
        mask = None if valid is None else valid[:, :length].clone()
        ones, scale = torch.ones(3, 2, 1, 1, dtype=torch.float64), scales()[:, None]
        found = []
        for run, back in ((forward, backward), (gate.run_forward, gate.run_backward)):
            out, *gradients = (torch.empty_like(q) for _ in range(4))
            kept = run(q, k, v, mask, scale, ones, out)
            by_scale = back(k * q, q, k, v, mask, scale, ones, *kept, *gradients)
            found.append([out, by_scale, *gradients, *kept])
        assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(*found, strict=True))
    assert len(graphs) == 2


class Endless:
    """What cannot be one graph."""

    def run(self, x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return x + 1


def test_what_cannot_be_compiled_is_said_with_its_remedy():
    with pytest.raises(RunError, match=r"compile to false"):
        compile_method(Endless().run)(torch.ones(3))


@pytest.mark.slow
@masked_or_not
def test_generated_code_gives_the_same_and_is_generated_once(valid, mask_trace):
    """The real compiler: needs one for C++."""
    options = {"form": "spectral", "mask_trace": mask_trace, "learn_scale": True}
    plain, fast = (HrrBundledAttention(2, 32, compile=compile, **options) for compile in (False, True))
    counters.clear()
    for length in (5, 4, 3):
        mask = None if valid is None else valid[:, :length].clone()
        found = []
        for core in (plain, fast):
            tensors = [x.requires_grad_() for x in inputs(32, length, torch.float32)]
            out = core(*tensors, mask)
            found.append([out, *torch.autograd.grad(out.square().sum(), [*tensors, *core.parameters()])])
        for mine, theirs in zip(*found, strict=True):
            assert (mine - theirs).norm() <= 2e-6 * mine.norm()
    assert counters["stats"]["unique_graphs"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"causal": True}, {"read": True, "gate": "mean_preserving"}], ids=str)
def test_generated_code_serves_the_other_options_too(options):
    plain, fast = (HrrBundledAttention(2, 32, form="spectral", compile=compile, **options) for compile in (False, True))
    for length in (5, 4):
        found = []
        for core in (plain, fast):
            tensors = [x.requires_grad_() for x in inputs(32, length, torch.float32)]
            out = core(*tensors, VALID[:, :length].clone())
            found.append([out, *torch.autograd.grad(out.square().sum(), [*tensors, *core.parameters()])])
        for mine, theirs in zip(*found, strict=True):
            assert (mine - theirs).norm() <= 1e-5 * mine.norm()
