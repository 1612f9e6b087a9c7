"""Gates of VL-PET against its formulas, where they may stand, and the published sizes of the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bart_base import added, bart_base, percent
from quincunx.errors import UsageError
from quincunx.tuners.adapter import Chain, Placement, inject
from quincunx.tuners.bottleneck.config import BottleneckConfig
from quincunx.tuners.bottleneck.model import place
from quincunx.tuners.gates import Granularity, make_gate
from quincunx.tuners.residual import ResidualAdapter, Tap
from reference.tuners_gates import gate as reference
from tiny_models import MODELS, inputs_for, output_of

WORDS: tuple[Granularity, ...] = ("small", "middle_x", "middle_y", "large")


def scattered(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(WORDS), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(0, 99))
def test_a_gate_is_its_formula(word: Granularity, rows: int, positions: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    entry = width if word == "middle_x" else width + 1
    gate = make_gate(word, entry, width, 3)
    assert gate is not None
    x, h = torch.randn(rows, positions, entry), torch.randn(rows, positions, width)
    assert torch.equal(gate(x, h).expand_as(h), torch.ones_like(h))  # at the start
    scattered(gate)
    expected = reference(word, x, h, dict(gate.named_parameters()))
    torch.testing.assert_close(gate(x, h).expand_as(h), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_it_begins_at_one_in_every_type(word: Granularity, dtype: torch.dtype) -> None:
    gate = make_gate(word, 4, 4, 2)
    assert gate is not None
    x = torch.randn(2, 3, 4, dtype=dtype)
    assert torch.equal(x * gate.to(dtype)(x, -x), x)


@pytest.mark.parametrize("gate_of", ["sum", "change"])
@pytest.mark.parametrize("parallel", [False, True])
def test_what_a_gate_multiplies(gate_of: Any, parallel: bool) -> None:
    torch.manual_seed(0)
    model = MODELS["bart"]()
    options: Any = {"target_modules": ["model.encoder.layers.0.fc2"], "reduction_factor": 4, "parallel": parallel}
    placement = place(model, BottleneckConfig(gate="large", gate_of=gate_of, scale=0.5, **options))
    assert placement.adapters.keys() == {"model.encoder.layers.0.fc2", "model.encoder.layers.0.fc1"}
    adapter = placement.adapters["model.encoder.layers.0.fc2"]
    assert isinstance(adapter, ResidualAdapter) and adapter.gate is not None
    scattered(adapter)
    w = dict(adapter.named_parameters())
    first, second = (model.get_submodule(f"model.encoder.layers.0.{name}") for name in ("fc1", "fc2"))
    x = torch.randn(2, 3, 16)
    h = second(nn.functional.gelu(first(x)))
    gate = reference("large", x, h, {name[5:]: value for name, value in w.items() if name.startswith("gate.")})
    entry = x if parallel else h
    hidden = nn.functional.gelu(entry @ w["down.weight"].T + w["down.bias"], approximate="tanh")
    change = 0.5 * (hidden @ w["up.weight"].T + w["up.bias"])
    expected = gate * (h + change) if gate_of == "sum" else h + gate * change
    inject(model, placement)
    block = model.get_submodule("model.encoder.layers.0")
    found = block.fc2(nn.functional.gelu(block.fc1(x)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def encoder_only(**options: Any) -> BottleneckConfig:
    """Return VL-PET's adapters of the encoder."""
    paths = ["model.encoder.layers.*.self_attn.out_proj", "model.encoder.layers.*.fc2"]
    return BottleneckConfig(target_modules=paths, reduction_factor=8, **options)


def decoder_values(**options: Any) -> BottleneckConfig:
    """Return VL-PET's light adapters of the decoder: parallel to the value maps of its cross-attention, no gate."""
    paths = ["model.decoder.layers.*.encoder_attn.v_proj"]
    return BottleneckConfig(target_modules=paths, parallel=True, **{"reduction_factor": 8, **options})


@pytest.mark.parametrize(
    ("word", "each", "expected"),
    [
        ("large", 2 * 768 * 96 + 96 + 768, 4.16),
        ("middle_x", 769, None),
        ("middle_y", 768, None),
        ("small", 2 * 768 + 1, 2.98),
    ],
)
def test_sizes_as_published(word: Granularity, each: int, expected: float | None) -> None:
    adapter = 2 * 768 * 96 + 96 + 768
    encoder, decoder = added(place, encoder_only(gate=word)), added(place, decoder_values())
    assert (encoder, decoder) == (12 * (adapter + each), 6 * adapter)
    norms = sum(
        parameter.numel()
        for name, parameter in bart_base().named_parameters()
        if "encoder.layers" in name and "layer_norm" in name
    )
    if expected is not None:
        assert percent(encoder + decoder, own=norms) == pytest.approx(expected, abs=5e-3)


def test_the_decoders_values_get_what_the_encoder_gave() -> None:
    model = MODELS["bart"]()
    placement = place(model, decoder_values(reduction_factor=4))
    assert set(placement.adapters) == {f"model.decoder.layers.{layer}.encoder_attn.v_proj" for layer in (0, 1)}
    without = BottleneckConfig(sites=["value"], leave_out=["*self_attn*"], parallel=True, reduction_factor=4)
    assert set(place(model, without).adapters) == set(placement.adapters)
    base = model.get_submodule("model.decoder.layers.0.encoder_attn.v_proj")
    adapter = placement.adapters["model.decoder.layers.0.encoder_attn.v_proj"]
    scattered(adapter)
    w = dict(adapter.named_parameters())
    x = torch.randn(2, 3, 16)
    hidden = nn.functional.gelu(x @ w["down.weight"].T + w["down.bias"], approximate="tanh")
    torch.testing.assert_close(adapter(base, x), base(x) + hidden @ w["up.weight"].T + w["up.bias"])


def test_left_out_of_the_decoder_it_changes_what_the_encoder_gives_alone() -> None:
    model = MODELS["t5"]()
    placement = place(model, BottleneckConfig(gate="small", leave_out=["decoder*"], reduction_factor=4))
    assert all(path.startswith("encoder.") for path in placement.adapters)
    sites = [part for part in placement.adapters.values() if isinstance(part, ResidualAdapter)]
    assert len(sites) == 4 and len(placement.adapters) == 8  # and what notes the input of each sub-layer


def test_a_map_that_is_adapted_and_begins_an_adapted_sub_layer() -> None:
    torch.manual_seed(0)
    model = MODELS["bert"]()
    options: Any = {"sites": ["query", "attention"], "parallel": True, "reduction_factor": 4}
    placement = place(model, BottleneckConfig(**options))
    chain = placement.adapters["bert.encoder.layer.0.attention.self.query"]
    assert isinstance(chain, Chain)
    assert {type(part) for part in chain.parts.values()} == {ResidualAdapter, Tap}
    inputs = inputs_for(model)
    with torch.no_grad():
        expected = output_of(model, inputs)
        inject(model, placement)
        assert torch.equal(output_of(model, inputs), expected)
        scattered(chain)
        assert not torch.allclose(output_of(model, inputs), expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["bart", "t5", "llama"])
def test_a_mean_over_all_positions_would_see_those_to_come(kind: str) -> None:
    with pytest.raises(UsageError, match="gate small is a mean over all positions, and this layer may not see those"):
        place(MODELS[kind](), BottleneckConfig(gate="small", reduction_factor=4))


@pytest.mark.parametrize("word", ["middle_x", "middle_y", "large"])
def test_a_gated_decoder_generates_the_same_with_a_cache_and_without(word: Granularity) -> None:
    model: Any = MODELS["bart"]()
    placement = place(model, BottleneckConfig(gate=word, reduction_factor=4))
    inject(model, placement)
    torch.manual_seed(0)
    scattered(nn.ModuleList(placement.adapters.values()))
    inputs = inputs_for(model)
    words: dict[str, Any] = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    words |= {"num_beams": 2, "max_new_tokens": 5, "min_new_tokens": 5}
    found = model.generate(**words, use_cache=True)
    assert torch.equal(found, model.generate(**words, use_cache=False))


def test_widths_that_do_not_suit_a_gate() -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes: Any = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2, "vocab_size": 40}
    model = T5ForConditionalGeneration(T5Config(**sizes))
    with pytest.raises(
        UsageError, match=r"SelfAttention\.v: the gate middle_x adds an input 16 wide to an output 8 wide"
    ):
        place(model, BottleneckConfig(sites=["value"], gate="middle_x", reduction_factor=4))
    placement = place(model, BottleneckConfig(sites=["value"], gate="large", reduction_factor=4))
    assert dict(next(iter(placement.adapters.values())).named_parameters())["gate.down.weight"].shape == (2, 16)


def test_a_module_whose_sub_layer_nobody_knows() -> None:
    with pytest.raises(UsageError, match=r"fc1 is in no sub-layer whose input is known: leave parallel and gate out"):
        place(MODELS["bart"](), BottleneckConfig(target_modules=["*.fc1"], gate="large", reduction_factor=4))
    placement: Placement = place(
        MODELS["bart"](), BottleneckConfig(target_modules=["*.fc1"], gate="middle_y", reduction_factor=4)
    )
    assert len(placement.adapters) == 4  # this one looks at no input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gate": "middle"}, "one of none, small, middle_x, middle_y, large, found 'middle'"),
        ({"gate": "small", "gate_of": "output"}, "sum or change, found 'output'"),
        ({"gate_of": "change"}, "there is none"),
        ({"gate": "small", "gate_width": 4}, "found 4, gate small"),
        ({"gate": "large", "gate_width": 0}, "at least 1; found 0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BottleneckConfig(**options)
