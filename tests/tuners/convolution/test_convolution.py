"""Convolution adapters in residual blocks of every naming."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.tuners.adapter import Placement, Site, inject
from quincunx.tuners.convolution.config import ConvolutionConfig
from quincunx.tuners.convolution.layer import AfterBlock, BesideConvolution, Pointwise
from quincunx.tuners.convolution.model import place, residual_blocks
from quincunx.tuners.trainable import freeze_batch_norm_statistics
from reference import tuners_convolution as reference
from tiny_models import MODELS, inputs_for, output_of

EVERYWHERE = "front/middle/back/transition"
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def network(kind: str) -> nn.Module:
    """Return a small network, its norms with statistics and weights that are not those of a new one."""
    torch.manual_seed(0)
    model = reference.ResNet(kind)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def scattered(placement: Placement) -> Placement:
    for adapter in placement.adapters.values():
        for module in adapter.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        for parameter in adapter.parameters():
            nn.init.normal_(parameter, std=0.5)
    return placement


def state_of(adapter: object) -> dict[str, Tensor]:
    assert isinstance(adapter, BesideConvolution | AfterBlock)
    return adapter.path.state_dict()


@pytest.mark.parametrize("kind", ["torchvision", "clip", "basic"])
@pytest.mark.parametrize("shape", ["bottleneck", "basic"])
@pytest.mark.parametrize("before_norm", [False, True])
def test_blocks_with_adapters_are_those_of_the_formulas(kind: str, shape: str, before_norm: bool) -> None:
    positions = EVERYWHERE.replace("middle/", "") if kind == "basic" else EVERYWHERE
    model = network(kind)
    plain = copy.deepcopy(model)
    config = ConvolutionConfig(adapter_type=f"{positions}-{shape}", remove_batch_norm=before_norm)
    placement = scattered(place(model, config))
    inject(model, placement)
    model.eval()
    for path, channels in (("layer1.0", 8), ("layer2.0", 8 if kind == "basic" else 16)):
        block = plain.get_submodule(path)
        last = 3 if hasattr(block, "conv3") else 2
        where = {"front": 1, "back": last, **({"middle": 2} if last == 3 else {})}
        states = {
            name: state_of(placement.adapters[f"{path}.{'conv' if before_norm else 'bn'}{number}"])
            for name, number in where.items()
        }
        states["transition"] = state_of(placement.adapters[path])
        x = torch.randn(2, channels, 8, 8)
        expected = reference.adapted(block, x, states, before_norm=before_norm)
        assert (expected - block(x)).abs().max() > 0.1
        torch.testing.assert_close(model.get_submodule(path)(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["torchvision", "clip", "basic"])
@pytest.mark.parametrize("shape", ["bottleneck", "basic"])
@pytest.mark.parametrize("before_norm", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_network_begins_as_it_was_and_can_leave_that(
    kind: str, shape: str, before_norm: bool, training: bool
) -> None:
    positions = EVERYWHERE.replace("middle/", "") if kind == "basic" else EVERYWHERE
    model = network(kind).train(training)
    expected = copy.deepcopy(model)(IMAGES)
    wide = {"reduction_factor": 0.25} if shape == "bottleneck" else {}  # so that some channel is above nought
    config = ConvolutionConfig(adapter_type=f"{positions}-{shape}", remove_batch_norm=before_norm, **wide)
    placement = place(model, config)
    inject(model, placement)
    model.train(training)
    found = model(IMAGES)
    assert torch.equal(found, expected)
    (found * torch.linspace(-1, 1, found.numel()).view_as(found)).sum().backward()
    for adapter in placement.adapters.values():
        parameters = [*adapter.parameters()]
        assert not parameters or any(p.grad is not None and bool(p.grad.any()) for p in parameters)


def test_blocks_are_known_by_their_parts() -> None:
    assert [block.path for block in residual_blocks(network("clip"))] == ["layer1.0", "layer1.1", "layer2.0"]
    assert [len(block.pairs) for block in residual_blocks(network("basic"))] == [2, 2, 2]
    found = residual_blocks(MODELS["resnet"]())
    assert [block.path for block in found] == [
        f"resnet.encoder.stages.{stage}.layers.{layer}" for stage in (0, 1) for layer in (0, 1)
    ]
    assert found[0].pairs[2].norm == "resnet.encoder.stages.0.layers.0.layer.2.normalization"
    assert found[0].rectified


def test_blocks_that_have_adapters_are_the_same_blocks() -> None:
    model = network("clip")
    before = residual_blocks(model)
    inject(model, place(model, ConvolutionConfig(adapter_type=f"{EVERYWHERE}-bottleneck")))
    assert residual_blocks(model) == before


def test_without_batch_norms_no_block_has_any_in_its_adapters() -> None:
    placement = place(
        network("clip"), ConvolutionConfig(adapter_type=f"{EVERYWHERE}-bottleneck", remove_batch_norm=True)
    )
    norms = [m for adapter in placement.adapters.values() for m in adapter.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not norms
    # and each is added before the block's own norm, in every block of a stage
    assert {*placement.adapters} == {
        f"{block}{name}"
        for block in ("layer1.0", "layer1.1", "layer2.0")
        for name in ("", ".conv1", ".conv2", ".conv3")
    }


def test_a_bottleneck_is_a_part_of_the_channels_that_come_in() -> None:
    placement = place(MODELS["resnet"](), ConvolutionConfig(adapter_type="front-bottleneck", reduction_factor=4))
    path: Any = placement.adapters["resnet.encoder.stages.1.layers.0.layer.0.normalization"]
    assert isinstance(path.path, Pointwise) and path.path.up is not None
    assert path.path.down.weight.shape == (4, 16, 1, 1)
    assert path.path.up.weight.shape == (8, 4, 1, 1)


def test_statistics_of_adapters_change_where_those_of_the_network_are_kept() -> None:
    model = network("torchvision")
    inject(model, scattered(place(model, ConvolutionConfig())))
    held = freeze_batch_norm_statistics(model)
    assert "layer1.0.bn2.base_layer" in held.frozen
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    model(IMAGES)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(".quincunx_tuned." in name for name in moved)
    assert {name.rpartition(".")[2] for name in moved} == {"running_mean", "running_var", "num_batches_tracked"}


def test_statistics_of_adapters_are_saved_with_them(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from quincunx.tuners.peft_plugin import config_class, register

    register()
    model: Any = peft.get_peft_model(MODELS["resnet"](), config_class("convolution")(adapter_type="front/middle-basic"))
    inputs = inputs_for(MODELS["resnet"]())
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.5)
    model.train()
    for _ in range(3):
        output_of(model, inputs)
    model.save_pretrained(str(tmp_path))
    again: Any = peft.PeftModel.from_pretrained(MODELS["resnet"](), str(tmp_path))
    expected = {name: value for name, value in model.state_dict().items() if "running" in name}
    found = again.state_dict()
    assert sum(".quincunx_tuned." in name for name in expected) == 16
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert torch.equal(output_of(again.eval(), inputs), output_of(model.eval(), inputs))


def test_a_basic_adapter_without_norms_is_merged_into_the_kernel() -> None:
    model = network("torchvision")
    config = ConvolutionConfig(adapter_type="front/middle/back-basic", remove_batch_norm=True)
    placement = scattered(place(model, config))
    merged = copy.deepcopy(model)
    for path, adapter in placement.adapters.items():
        merged.get_submodule(path).weight.data += adapter.weight_change().detach()
    inject(model, placement)
    torch.testing.assert_close(model(IMAGES), merged(IMAGES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{"adapter_type": "front-basic"}, {"adapter_type": "front-bottleneck", "remove_batch_norm": True}]
)
def test_others_refuse_to_be_merged(options: dict[str, Any]) -> None:
    placement = place(network("torchvision"), ConvolutionConfig(**options))
    with pytest.raises(UsageError, match="cannot be merged"):
        [*placement.adapters.values()][-1].weight_change()


def test_blocks_are_chosen_by_number_and_by_path() -> None:
    def chosen(**options: Any) -> list[str]:
        model = network("clip")
        config = ConvolutionConfig(adapter_type="transition-basic", **options)
        return [*place(model, config).adapters]

    assert chosen(leave_out=[0]) == ["layer1.1", "layer2.0"]
    assert chosen(leave_out=[-1, "layer1.0"]) == ["layer1.1"]
    assert chosen(target_modules=["layer1.*"]) == ["layer1.0", "layer1.1"]
    assert chosen(target_modules=["layer1.*"], leave_out=[1]) == ["layer1.0"]


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("basic", {}, "layer1.0 has two convolutions"),
        ("clip", {"leave_out": [3]}, "names 3"),
        ("clip", {"leave_out": ["layer*"]}, "leaves no block"),
        ("clip", {"target_modules": ["layer3.0"]}, "such as layer1.0"),
        ("clip", {"reduction_factor": 9}, "layer1.0.conv2 gets 4 channels"),
    ],
)
def test_what_does_not_suit_a_network_is_refused(model: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        place(network(model), ConvolutionConfig(**options))


def test_models_without_residual_blocks_are_refused() -> None:
    with pytest.raises(UsageError, match="BertForMaskedLM has no residual blocks"):
        place(MODELS["bert"](), ConvolutionConfig())


def test_a_convolution_that_is_not_centred_is_refused() -> None:
    model = network("basic")
    block: Any = model.get_submodule("layer1.1")
    block.conv1 = nn.Conv2d(8, 8, 3, bias=False)
    with pytest.raises(UsageError, match=r"layer1\.1\.conv1 has a kernel of \(3, 3\) with a padding of \(0, 0\)"):
        place(model, ConvolutionConfig(adapter_type="front-basic"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"adapter_type": "middle"}, "a dash"),
        ({"adapter_type": "side-basic"}, "positions"),
        ({"adapter_type": "front-large"}, "bottleneck or basic"),
        ({"adapter_type": "front/front-basic"}, "twice"),
        ({"sites": ["attention"]}, "leave sites out"),
        ({"reduction_factor": 0.0}, "above 0"),
        ({"adapter_type": "front-basic", "reduction_factor": 4.0}, "no bottleneck"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ConvolutionConfig(**options)


def test_a_site_stands_where_the_block_was() -> None:
    model = network("torchvision")
    inject(model, place(model, ConvolutionConfig(adapter_type="front/transition-bottleneck")))
    block: Any = model.get_submodule("layer1.0")
    assert isinstance(block, Site) and isinstance(block.base_layer, reference.Bottleneck)
    assert isinstance(block.base_layer.conv1, Site) and isinstance(block.base_layer.bn1, Site)
