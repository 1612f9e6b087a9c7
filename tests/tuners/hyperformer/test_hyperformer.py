"""Adapters whose weights are made of what is learned of tasks and layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bart_base import NORMS, added, percent
from quincunx.nn.routing import attach_tasks, routed
from quincunx.tuners.adapter import Placement, inject
from quincunx.tuners.hyperformer.config import HyperformerConfig
from quincunx.tuners.hyperformer.layer import Hypernetwork
from quincunx.tuners.hyperformer.model import place
from reference import tuners_hyperformer as reference
from tiny_models import MODELS, inputs_for, output_of, pick

TASKS = ["colour", "shape", "size"]
SMALL: dict[str, Any] = {
    "reduction_factor": 4,
    "tasks": TASKS,
    "projected_task_embedding_dim": 4,
    "task_embedding_dim": 6,
    "hidden_dim": 5,
}
MADE_NORMS = {"norm_before": True, "norm_after": True}


def scattered(placement: Placement) -> Placement:
    """Give everything values other than nought."""
    generator = torch.Generator().manual_seed(7)
    for module in (placement.shared, *placement.adapters.values()):
        for parameter in module.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return placement


def placed(model: str = "bart", **options: Any) -> tuple[nn.Module, Placement]:
    torch.manual_seed(5)
    base = MODELS[model]()
    placement = scattered(place(base, HyperformerConfig(**{**SMALL, **options})))
    attach_tasks(*placement.adapters.values())
    return base, placement


def network_of(placement: Placement, name: str) -> Hypernetwork:
    found = placement.shared[name]
    assert isinstance(found, Hypernetwork)
    return found


@pytest.mark.parametrize("generators", ["unique", "efficient"])
@pytest.mark.parametrize("norms", [{}, MADE_NORMS], ids=["plain", "norms"])
def test_adapters_are_those_of_the_formulas(generators: str, norms: dict[str, bool]) -> None:
    _, placement = placed(generators=generators, **norms)
    state = placement.shared["model_decoder_layers"].state_dict()
    x = torch.randn(4, 3, 16)
    # the order of the modules in a layer of the decoder
    for kind, (word, path) in enumerate(
        [("attention", "self_attn.out_proj"), ("cross_attention", "encoder_attn.out_proj"), ("feedforward", "fc2")]
    ):
        adapter: Any = placement.adapters[f"model.decoder.layers.1.{path}"]
        efficient = generators == "efficient"
        expected = reference.added(
            x,
            [2, 0, 1, 2],
            placement.shared["tasks"].state_dict()["weight"],
            state,
            layer=1,
            kind=kind if efficient else None,
            generator=f"{'every' if efficient else word}_16_4_16",
            bottleneck=4,
        )
        with routed(adapter, [2, 0, 1, 2]):
            torch.testing.assert_close(adapter(lambda x: x, x), x + expected, rtol=1e-5, atol=1e-5)


@given(tasks=st.lists(st.integers(0, 2), min_size=1, max_size=5), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_adapters_are_each_examples_own_in_batches_of_any_size(tasks: list[int], seed: int) -> None:
    _, placement = placed(**MADE_NORMS)
    adapter: Any = placement.adapters["model.encoder.layers.0.fc2"]
    x = torch.randn(len(tasks), 2, 16, generator=torch.Generator().manual_seed(seed))
    expected = reference.added(
        x,
        tasks,
        placement.shared["tasks"].state_dict()["weight"],
        placement.shared["model_encoder_layers"].state_dict(),
        layer=0,
        kind=None,
        generator="feedforward_16_4_16",
        bottleneck=4,
    )
    with routed(adapter, tasks):
        torch.testing.assert_close(adapter(lambda x: x, x), x + expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [2, 12])
def test_weights_are_made_once_for_each_task_and_once_for_both_maps(rows: int) -> None:
    _, placement = placed()
    network = network_of(placement, "model_encoder_layers")
    calls: list[int] = []
    network.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    adapter: Any = placement.adapters["model.encoder.layers.0.fc2"]
    with routed(adapter, torch.arange(rows) % 3):
        adapter(lambda x: x, torch.randn(rows, 2, 16))
    assert calls == [min(rows, 3)]


def test_an_encoder_and_a_decoder_have_networks_of_their_own_and_the_same_tasks() -> None:
    _, placement = placed()
    assert [*placement.shared] == ["tasks", "model_encoder_layers", "model_decoder_layers"]
    assert [*network_of(placement, "model_encoder_layers").generators] == ["attention_16_4_16", "feedforward_16_4_16"]
    assert len(network_of(placement, "model_decoder_layers").generators) == 3
    # the adapters themselves have no parameters: all there are is saved once, as what they share
    assert not [name for adapter in placement.adapters.values() for name, _ in adapter.named_parameters()]


def test_layers_left_out_have_no_embedding() -> None:
    _, placement = placed(leave_out=[0])
    assert network_of(placement, "model_encoder_layers").layers.shape == (1, 6)
    assert all(".layers.1." in path for path in placement.adapters)


def test_adapters_of_another_width_have_generators_of_their_own() -> None:
    _, placement = placed(generators="efficient", reduction_factors={"*.fc2": 2})
    assert {*network_of(placement, "model_encoder_layers").generators} == {"every_16_4_16", "every_16_8_16"}


def test_beams_have_the_tasks_of_their_examples() -> None:
    torch.manual_seed(0)
    model: Any = MODELS["bart"]()
    shared = inject(model, scattered(place(model, HyperformerConfig(**SMALL))))
    attach_tasks(model, shared)
    inputs = inputs_for(model)
    inputs.pop("decoder_input_ids")
    said: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 5, "min_new_tokens": 5}
    tasks = [0, 2, 1, 0]
    with routed(model, tasks):
        mixed = model.generate(**inputs, **said)
    alone: list[Tensor] = []
    for row, task in enumerate(tasks):
        with routed(model, [task]):
            alone.append(model.generate(**pick(inputs, torch.tensor([row])), **said)[0])
    assert torch.equal(mixed, torch.stack(alone))
    with routed(model, [1, 1, 2, 2]):
        assert not torch.equal(model.generate(**inputs, **said), mixed)


def test_half_precision_where_it_is_asked_for_is_near() -> None:
    model = MODELS["t5"]()
    shared = inject(model, scattered(place(model, HyperformerConfig(**SMALL, **MADE_NORMS))))
    attach_tasks(model, shared)
    with torch.no_grad(), routed(model, [0, 1, 2, 0]):
        expected = output_of(model, inputs_for(model))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = output_of(model, inputs_for(model))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.3)


def test_a_bart_of_the_published_size_has_the_published_share_of_trained_parameters() -> None:
    options: dict[str, Any] = {
        "tasks": ["vqa", "gqa", "nlvr", "caption"],
        "reduction_factor": 8,
        "projected_task_embedding_dim": 8,
    }
    unique = added(place, HyperformerConfig(**options))
    pair = 9 * (2 * 768 * 96 + 768 + 96)  # maps of e to both weights and both biases
    stack = (1024 * 128 + 128) + (128 * 8 + 8) + 16 + 6 * 512
    assert unique == 5 * pair + 2 * stack + 4 * 512
    assert round(percent(unique, own=NORMS), 3) == 5.793
    efficient = added(place, HyperformerConfig(**options, generators="efficient"))
    assert efficient == 2 * pair + 2 * (stack + 512 * 128) + 5 * 512 + 4 * 512
    assert added(place, HyperformerConfig(**options, **MADE_NORMS)) == unique + 5 * 4 * 9 * 768


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tasks": []}, "at least one"),
        ({"share_down": True}, "same generators"),
        ({"generators": "both"}, "unique or efficient"),
        ({"projected_task_embedding_dim": 0}, "-1 for 64"),
        ({"hidden_dim": 0}, "hidden_dim must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        HyperformerConfig(**{**SMALL, **options})


def test_the_width_that_is_not_given_is_64() -> None:
    assert HyperformerConfig(tasks=TASKS).projection == 64
    assert HyperformerConfig(tasks=TASKS, projected_task_embedding_dim=8).projection == 8
