"""Weights of bundled attention from one form to the other: the same function, the same path under gradient descent."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor

from quincunx.errors import UsageError
from quincunx.nn.attention.convert import convert_state, to_spectral, to_time
from quincunx.nn.attention.hrr_bundled import HrrBundledAttention
from quincunx.nn.attention.layer import AttentionLayer
from quincunx.nn.attention.softmax import SoftmaxAttention

OPTIONS = [
    {},
    {"causal": True, "score": "dot", "gate": "mean_preserving"},
    {"read": True, "traces": 3, "learn_scale": True, "scale": 2.0, "mask_trace": False},
]
VALID = torch.arange(9) < torch.tensor([9, 4, 0])[:, None]


def layer(width: int = 6, form: str = "rfft", **options) -> AttentionLayer:
    torch.manual_seed(0)
    made = AttentionLayer(10, HrrBundledAttention(2, width, form=form, **options), dropout=0.1).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def states(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(3, 9, 10, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("width", [6, 5])
def test_both_forms_give_the_same_outputs(width, options):
    time = layer(width, **options)
    before = copy.deepcopy(time.state_dict())
    packed = to_spectral(time)
    assert packed.core.form == "spectral" and time.core.form == "rfft"
    assert packed.core.options == time.core.options and packed.core.causal == time.core.causal
    x = states()
    assert (packed(x, VALID) - time(x, VALID)).abs().max() <= 1e-12
    assert all(torch.equal(tensor, before[name]) for name, tensor in time.state_dict().items())
    single, low = copy.deepcopy(time).float(), copy.deepcopy(packed).float()
    wanted = single(x.float(), VALID)
    for one in (low, to_spectral(single)):
        assert (one(x.float(), VALID) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_there_and_back_are_the_weights_of_before(dtype, options):
    time = layer(**options).to(dtype)
    back = to_time(to_spectral(time))
    assert back.core.form == "rfft" and back.query.weight.dtype == dtype
    for name, tensor in back.state_dict().items():
        assert torch.allclose(tensor, time.state_dict()[name], atol=1e-6, rtol=0), name
    turned = to_spectral(time).state_dict()
    changed = {name for name, tensor in turned.items() if not torch.equal(tensor, time.state_dict()[name])}
    kept = {"output.bias", "core.log_scale", "core.read_gain"}
    assert changed == turned.keys() - kept


class Model(torch.nn.Module):
    """Two layers among other weights."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.first = torch.nn.Linear(10, 10)
        self.layers = torch.nn.ModuleList([layer(form=form, traces=2), layer(form=form, traces=2)])
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for one in self.layers:
            x = x + one(x, VALID)
        return x


def test_a_whole_models_weights_are_converted_by_name():
    torch.manual_seed(5)
    time, packed = Model("rfft"), Model("spectral")
    state = time.state_dict()
    names = list(state)
    for prefix in ("layers.0.", "layers.1."):
        state = convert_state(state, prefix, 2, 6, to="spectral")
    assert list(state) == names
    packed.load_state_dict(state)
    x = states()
    assert (packed(x) - time(x)).abs().max() <= 1e-12
    assert torch.equal(state["first.weight"], time.first.weight)
    for prefix in ("layers.0.", "layers.1."):
        state = convert_state(state, prefix, 2, 6, to="rfft")
    assert all(torch.allclose(tensor, state[name], atol=1e-12) for name, tensor in time.state_dict().items())


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradient_descent_takes_the_same_path(options):
    time = layer(**options)
    packed, start = to_spectral(time), copy.deepcopy(time.state_dict())
    x, target = states(), states().flip(1)
    losses = []
    for made in (time, packed):
        optimizer = torch.optim.SGD(made.parameters(), lr=0.2, momentum=0.9, weight_decay=0.01)
        for _ in range(5):
            loss = (made(x, VALID) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)
    assert (time(x, VALID) - packed(x, VALID)).abs().max() <= 1e-9
    for name, tensor in to_time(packed).state_dict().items():
        assert torch.allclose(tensor, time.state_dict()[name], atol=1e-9), name
        assert (tensor - start[name]).abs().max() > 1e-5, name


def test_the_layer_keeps_what_is_not_the_cores():
    time = layer().train()
    time.grad_checkpointing = True
    packed = to_spectral(time, compile=True)
    assert packed.training and packed.grad_checkpointing and packed.core.compile_passes
    assert packed.dropout.p == time.dropout.p
    assert not to_time(packed).core.compile_passes


def test_what_cannot_be_converted_is_refused():
    with pytest.raises(UsageError, match="SoftmaxAttention"):
        to_spectral(AttentionLayer(6, SoftmaxAttention(2, 3)))
    with pytest.raises(UsageError, match="rfft already"):
        to_time(layer())
    state = layer().state_dict()
    with pytest.raises(UsageError, match=r"encoder\.query\.weight"):
        convert_state(state, "encoder.", 2, 6, "spectral")
    for heads, width in itertools.product((2, 3), (5, 7)):
        with pytest.raises(UsageError, match=f"= {heads * width} rows"):
            convert_state(state, "", heads, width, "spectral")
    with pytest.raises(UsageError, match="spectral or rfft"):
        convert_state(state, "", 2, 6, "time")
