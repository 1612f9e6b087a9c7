"""The layer round a core, and the dictionary of kinds."""

from __future__ import annotations

import inspect
from typing import get_args

import pytest
import torch

from quincunx.config.sections.attention import AttentionOptions, Kind, KindSamples
from quincunx.errors import UsageError
from quincunx.nn.attention import KINDS, attention_core
from quincunx.nn.attention.layer import AttentionCore, AttentionLayer
from quincunx.nn.attention.softmax import SoftmaxAttention
from quincunx.nn.rows import attach_rows


class Echo(AttentionCore):
    """A core that returns its values, and remembers how it was called."""

    def __init__(self, num_heads: int, head_dim: int) -> None:
        super().__init__(num_heads, head_dim)
        self.calls: list[tuple[torch.Size, int]] = []

    def forward(self, q, k, v, valid, salt=0):
        self.calls.append((q.shape, salt))
        return v


class Square(Echo):
    """An echo that keeps something for the backward pass."""

    def forward(self, q, k, v, valid, salt=0):
        return super().forward(q, k, v, valid, salt) ** 2


def test_kinds_and_schema_agree():
    assert set(KINDS) == set(get_args(Kind))
    options, samples = (
        {field.alias or name: field for name, field in section.model_fields.items()}
        for section in (AttentionOptions, KindSamples)
    )
    assert options.keys() == KINDS.keys() - {"none"} and samples.keys() == KINDS.keys()
    for kind, field in options.items():
        section = field.annotation
        assert section is not None
        parameters = inspect.signature(KINDS[kind]).parameters
        assert set(section.model_fields) - {"grad_checkpointing"} == set(parameters) - {
            "num_heads",
            "head_dim",
            "causal",
        }
        for name, option in section.model_fields.items():
            if name != "grad_checkpointing":
                assert option.default == parameters[name].default, f"{kind}: {name}"


def test_an_unknown_kind_names_those_there_are():
    with pytest.raises(UsageError, match="'hrr' is not available: choose one of softmax, "):
        attention_core("hrr", 2, 4, {})
    with pytest.raises(UsageError, match=r"'softmax'.*'temperature'"):
        attention_core("softmax", 2, 4, {"temperature": 1})
    core = attention_core("softmax", 2, 4, {"weight_dropout": 0.5})
    assert isinstance(core, SoftmaxAttention) and core.dropout is not None


def test_each_head_gets_its_own_columns_and_they_come_back_in_order():
    core = Echo(3, 4)
    layer = AttentionLayer(5, core)
    x = torch.randn(2, 7, 5)
    expected = layer.output(layer.value(x))
    assert torch.allclose(layer(x, None, salt=2), expected, atol=1e-6)
    assert core.calls == [(torch.Size([2, 3, 7, 4]), 2)]
    with torch.no_grad():
        layer.value.weight[:8] = 0
        layer.value.bias[:8] = 0
    heads = layer._heads(layer.value(x))
    assert not heads[:, :2].any() and heads[:, 2].any()


def gradients(layer: AttentionLayer, x: torch.Tensor) -> list[torch.Tensor]:
    return [x.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("weight_dropout", [0.0, 0.4])
def test_checkpointing_changes_neither_values_nor_gradients(weight_dropout):
    torch.manual_seed(0)
    layer = AttentionLayer(6, SoftmaxAttention(2, 4, weight_dropout=weight_dropout), dropout=0.2)
    context = attach_rows(layer)
    assert context is not None
    valid = torch.arange(8) < torch.tensor([8, 5, 0])[:, None]
    results = []
    for grad_checkpointing in (False, True):
        layer.grad_checkpointing = grad_checkpointing
        layer.zero_grad()
        x = torch.randn(3, 8, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
        context.set(9, torch.arange(3))
        y = layer(x, valid)
        context.set(10, torch.arange(5))  # another chunk is walked forward before this one is walked back
        y.square().sum().backward()
        results.append([y, *gradients(layer, x)])
        assert len(context.current(5)) == 5
    for plain, recomputed in zip(*results, strict=True):
        assert torch.equal(plain, recomputed)


def test_checkpointing_recomputes_the_core_in_the_backward_pass_only_when_asked():
    core = Square(2, 4)
    layer = AttentionLayer(6, core)
    for asked, calls in ((False, 1), (True, 2)):
        core.calls.clear()
        layer.grad_checkpointing = asked
        layer(torch.randn(1, 3, 6), None).sum().backward()
        assert len(core.calls) == calls
    core.calls.clear()
    with torch.no_grad():
        layer(torch.randn(1, 3, 6), None)
    assert len(core.calls) == 1


def test_the_note_comes_only_when_checkpointing_is_asked_for():
    assert AttentionLayer(6, SoftmaxAttention(2, 4)).checkpointing_note() is None
    assert AttentionLayer(6, SoftmaxAttention(2, 4), grad_checkpointing=True).checkpointing_note() is not None
    assert AttentionLayer(6, Echo(2, 4), grad_checkpointing=True).checkpointing_note() is None
