"""Parts round modules without peft; names of weights with and without them; where sites are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.tuners.adapter import Chain, Placement, Site, SiteAdapter, fit_adapters, inject, name_in, wrapped_name
from quincunx.tuners.bottleneck.config import BottleneckConfig
from quincunx.tuners.bottleneck.model import place
from quincunx.tuners.sites import find_sites
from tiny_models import MODELS, inputs_for, output_of


class Times(SiteAdapter):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, base: Any, *args: Any, **kwargs: Any) -> Tensor:
        return self.factor * base(*args, **kwargs)


class Plus(Times):
    def forward(self, base: Any, *args: Any, **kwargs: Any) -> Tensor:
        return base(*args, **kwargs) + self.factor


def test_the_first_part_of_a_chain_is_the_innermost() -> None:
    layer, x = nn.Linear(1, 1), torch.ones(1, 1)
    found = Chain({"plus": Plus(1.0), "times": Times(2.0)})(layer, x)
    assert torch.equal(found, 2 * (layer(x) + 1))


def test_parts_round_a_module_and_round_modules_in_it() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)))
    x, weight = torch.ones(1, 1), "0.1.weight"
    inner, outer = model[0][0], model[0][1]
    expected = 3 * outer(2 * inner(x))
    inject(model, Placement({"0": Times(3.0), "0.0": Times(2.0)}, trained=(weight,)))
    assert torch.equal(model(x), expected)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {
        "0.base_layer.1.weight", "0.quincunx_tuned.factor", "0.base_layer.0.quincunx_tuned.factor",
    }  # fmt: skip


def test_a_module_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="Linear has no module up"):
        inject(nn.Linear(1, 1), Placement({"up": Times(1.0)}))


@pytest.mark.parametrize(
    ("name", "paths", "expected"),
    [
        ("a.b.weight", {"a.b"}, "a.b.base_layer.weight"),
        ("a.b.c.weight", {"a.b", "a"}, "a.base_layer.b.base_layer.c.weight"),
        ("a.bc.weight", {"a.b"}, "a.bc.weight"),
        ("weight", {"a"}, "weight"),
    ],
)
def test_what_a_parameter_is_called_below_parts(name: str, paths: set[str], expected: str) -> None:
    assert wrapped_name(name, paths) == expected


def test_what_a_parameter_is_called_in_a_model_that_others_put_parts_into() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)))
    inject(model, Placement({"0.0": Times(3.0)}))
    inject(model, Placement({"0": Times(2.0)}, trained=("0.0.base_layer.weight",)))
    for name in ("0.0.weight", "0.0.base_layer.weight", "0.base_layer.0.weight"):
        assert name_in(model, name) == "0.base_layer.0.base_layer.weight"
    assert name_in(model, "0.0") == "0.base_layer.0" and name_in(model, "0") == "0"
    [trained] = [name for name, each in model.named_parameters() if each.requires_grad and "quincunx" not in name]
    assert trained == "0.base_layer.0.base_layer.weight"


def test_weights_from_outside_go_to_the_innermost_module() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    for factor in (2.0, 3.0):
        model[0] = Site(model[0], Times(factor))
    model[0].weight = nn.Parameter(torch.eye(2))
    assert torch.equal(model.get_parameter("0.base_layer.base_layer.weight"), torch.eye(2))
    assert {name for name, _ in model.named_parameters() if name.endswith("weight")} == {
        "0.base_layer.base_layer.weight"
    }


@pytest.mark.parametrize("kind", ["bart", "t5", "llama"])
def test_without_peft_it_is_the_same_as_with_it(kind: str) -> None:
    peft = pytest.importorskip("peft")
    from quincunx.tuners.peft_plugin import config_class, register

    register()
    config: Any = config_class("bottleneck")(reduction_factor=4)
    theirs, ours = peft.get_peft_model(MODELS[kind](), config).eval(), MODELS[kind]()
    inject(ours, place(ours, BottleneckConfig(reduction_factor=4)))
    weights = {name.removeprefix("base_model.model."): value for name, value in theirs.state_dict().items()}
    weights = {name.replace("quincunx_tuned.default.", "quincunx_tuned."): value for name, value in weights.items()}
    weights = {name: value + 0.1 for name, value in weights.items() if "quincunx" in name}
    assert not ours.load_state_dict(weights, strict=False).unexpected_keys
    for name, parameter in theirs.named_parameters():
        if "quincunx" in name:
            parameter.data += 0.1
    inputs = inputs_for(MODELS[kind]())
    assert torch.equal(output_of(ours.eval(), inputs), output_of(theirs, inputs))


def test_weights_of_a_model_without_adapters_fit_one_that_has_them() -> None:
    plain, adapted = MODELS["bart"](), MODELS["bart"]()
    for parameter in plain.parameters():
        parameter.data += 1
    inject(adapted, place(adapted, BottleneckConfig(reduction_factor=4)))
    tensors, said = fit_adapters(adapted, plain.state_dict())
    adapted.load_state_dict(tensors, strict=True)
    assert said == ["40 tensors of adapters begin anew"]
    inputs = inputs_for(MODELS["bart"]())
    assert torch.equal(output_of(adapted.eval(), inputs), output_of(plain, inputs))
    again, said = fit_adapters(adapted, adapted.state_dict())
    assert again.keys() == adapted.state_dict().keys() and said == []
    assert fit_adapters(plain, plain.state_dict())[1] == []


SITES = {
    "bart": ("attention", 4, "model.encoder.layers.0.self_attn.out_proj", "model.encoder.layers.0.self_attn.q_proj"),
    "t5": ("feedforward", 4, "encoder.block.0.layer.1.DenseReluDense.wo", "encoder.block.0.layer.1.DenseReluDense.wi"),
    "bert": ("feedforward", 2, "bert.encoder.layer.0.output.dense", "bert.encoder.layer.0.intermediate.dense"),
    "llama": ("feedforward", 2, "model.layers.0.mlp.down_proj", "model.layers.0.mlp.gate_proj"),
    "clip": ("attention", 2, "encoder.layers.0.self_attn.out_proj", "encoder.layers.0.self_attn.q_proj"),
}


@pytest.mark.parametrize("kind", SITES)
def test_modules_are_found_by_what_they_are_for(kind: str) -> None:
    word, count, path, entry = SITES[kind]
    found = find_sites(MODELS[kind](), [word])
    assert len(found) == count and {site.word for site in found} == {word}
    assert (found[0].path, found[0].entry, found[0].layer) == (path, entry, 0)


def test_decoders_and_layers_are_told_apart() -> None:
    found = find_sites(MODELS["t5"](), ["attention", "cross_attention", "feedforward"])
    assert [site.decodes for site in found] == [False] * 4 + [True] * 6
    left = find_sites(MODELS["t5"](), ["attention"], leave_out=[-1, "decoder.*"])
    assert [site.path for site in left] == ["encoder.block.0.layer.0.SelfAttention.o"]
    every = find_sites(MODELS["bart"](), ["query", "value"])
    assert len(every) == 12
    head = find_sites(MODELS["bart"](), ["head"])
    assert [site.path for site in head] == ["lm_head"]


@pytest.mark.parametrize(
    ("words", "more", "said"),
    [
        (["atention"], {}, "no kind of module 'atention' to adapt; there are attention"),
        (["cross_attention"], {}, "BertForMaskedLM has no module that is known as cross_attention: its maps are named"),
        (["attention"], {"patterns": ["bert.encoder.layer.0.output.dens"]}, "did you mean bert.encoder.layer.0.output"),
        (["attention"], {"leave_out": [5]}, "leave_out names 5"),
        (["attention"], {"leave_out": [0, 1]}, "leaves no module"),
    ],
)
def test_what_names_nothing_is_refused(words: list[str], more: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find_sites(MODELS["bert"](), words, **more)
