"""Task LoRA against peft's LoRA and plain matrices; merging; which parameters are trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bart_base import added, bart_base, percent
from quincunx.errors import UsageError
from quincunx.nn.routing import routed
from quincunx.tuners.adapter import inject
from quincunx.tuners.task_lora.config import TaskLoraConfig
from quincunx.tuners.task_lora.layer import TaskLora
from quincunx.tuners.task_lora.model import biases, place
from tiny_models import MODELS, inputs_for, output_of

TASKS = ["a", "b", "c"]


def scattered(lora: TaskLora) -> TaskLora:
    for parameter in lora.parameters():
        nn.init.normal_(parameter, std=0.3)
    return lora


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes: Any = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16, "vocab_size": 40}
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**sizes)).eval()


@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize(("kind", "maps"), [("bart", ["q_proj", "v_proj"]), ("t5", ["q", "v"])])
def test_it_is_pefts_lora_with_the_same_weights(kind: str, maps: list[str], use_rslora: bool) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = TaskLoraConfig(rank=3, alpha=5.0, use_rslora=use_rslora)
    ours, theirs = MODELS[kind](), MODELS[kind]()
    placement = place(ours, config)
    inject(ours, placement)
    theirs = peft.get_peft_model(
        theirs, peft.LoraConfig(r=3, lora_alpha=5.0, target_modules=maps, use_rslora=use_rslora)
    ).eval()
    layers = {
        path.removeprefix("base_model.model."): module
        for path, module in theirs.named_modules()
        if hasattr(module, "lora_A")
    }
    assert layers.keys() == placement.adapters.keys()
    for path, adapter in placement.adapters.items():
        assert isinstance(adapter, TaskLora)
        scattered(adapter)
        layers[path].lora_A["default"].weight.data.copy_(adapter.down.weight)
        layers[path].lora_B["default"].weight.data.copy_(adapter.up.weight)
        torch.testing.assert_close(adapter.weight_change(), layers[path].get_delta_weight("default"))
    inputs = inputs_for(ours)
    found, expected = output_of(ours, inputs), output_of(theirs, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    found.square().sum().backward()
    expected.square().sum().backward()
    for path, adapter in placement.adapters.items():
        assert isinstance(adapter, TaskLora)
        theirs_down = layers[path].lora_A["default"].weight.grad
        torch.testing.assert_close(adapter.down.weight.grad, theirs_down, rtol=1e-4, atol=1e-3)


def test_each_example_has_its_own_tasks_change() -> None:
    torch.manual_seed(0)
    lora = scattered(TaskLora(6, 4, rank=2, scale=1.5, tasks=TASKS))
    base, x = nn.Linear(6, 4), torch.randn(4, 5, 6)
    order = [2, 0, 0, 1]
    with routed(lora, order):
        found = lora(base, x)
    for row, task in enumerate(order):
        matrix = base.weight + 1.5 * lora.up.weight[task] @ lora.down.weight[task]
        torch.testing.assert_close(found[row], x[row] @ matrix.T + base.bias, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(matrix - base.weight, lora.weight_change(TASKS[task]))
        assert torch.equal(lora.weight_change(task), lora.weight_change(TASKS[task]))


def test_tasks_are_not_merged_into_one() -> None:
    lora = TaskLora(6, 4, rank=2, scale=1.0, tasks=TASKS)
    with pytest.raises(UsageError, match=r"tasks a, b, c .* cannot be merged into one: add the weight_change\(task\)"):
        lora.weight_change()
    with pytest.raises(UsageError, match="there is no task 'd'; there are a, b, c"):
        lora.weight_change("d")
    with pytest.raises(UsageError, match="there is no task 'a': all tasks have one pair"):
        TaskLora(6, 4, rank=2, scale=1.0).weight_change("a")


def test_starting_values() -> None:
    torch.manual_seed(0)
    lora = TaskLora(100, 50, rank=40, scale=1.0, tasks=["a", "b"])
    assert not lora.up.weight.any()
    assert float(lora.down.weight.detach().abs().max()) <= 0.1
    assert float(lora.down.weight.detach().std()) == pytest.approx(0.1 / 3**0.5, rel=0.05)


def test_dropout_is_on_what_goes_in() -> None:
    lora = scattered(TaskLora(6, 4, rank=2, scale=1.0, dropout=0.5))
    base, x = nn.Linear(6, 4), torch.randn(3, 6)
    torch.manual_seed(7)
    found = lora.train()(base, x)
    torch.manual_seed(7)
    dropped = nn.functional.dropout(x, 0.5)
    torch.testing.assert_close(found, base(x) + dropped @ lora.down.weight.T @ lora.up.weight.T)
    assert not torch.equal(dropped, x)


def test_maps_of_gpt2_keep_their_weights_the_other_way_round() -> None:
    model = gpt2()
    inputs = {"input_ids": torch.tensor([[3, 5, 7]])}
    placement = place(model, TaskLoraConfig(rank=2, target_modules=["*.attn.c_attn", "*.mlp.c_fc"]))
    inject(model, placement)
    for adapter in placement.adapters.values():
        assert isinstance(adapter, TaskLora)
        scattered(adapter)
    with torch.no_grad():
        expected = output_of(model, inputs)
        plain = gpt2()
        before = output_of(plain, inputs)
        for path, adapter in placement.adapters.items():
            plain.get_submodule(path).weight.add_(adapter.weight_change())
        torch.testing.assert_close(output_of(plain, inputs), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before, expected, atol=1e-3)


def test_a_weight_that_is_used_elsewhere_is_not_merged() -> None:
    model = gpt2()
    placement = place(model, TaskLoraConfig(sites=["head"]))
    with pytest.raises(UsageError, match=r"cannot be merged: .* is also that of transformer\.wte"):
        placement.adapters["lm_head"].weight_change()


def test_what_is_no_linear_map() -> None:
    with pytest.raises(UsageError, match=r"embed_tokens is a \w*Embedding: LoRA changes linear maps"):
        place(MODELS["bart"](), TaskLoraConfig(target_modules=["model.encoder.embed_tokens"]))


def test_every_bias_is_trained_and_nothing_else_of_the_model() -> None:
    model = MODELS["bart"]()
    names = {name for name, _ in model.named_parameters() if name.endswith("bias")}
    config = TaskLoraConfig(biases="all")
    inject(model, place(model, config))
    trained = {name.replace(".base_layer", "") for name, each in model.named_parameters() if each.requires_grad}
    assert {name for name in trained if "quincunx" not in name} == names and "model.encoder.layers.0.fc1.bias" in names
    assert set(biases(model)) == names  # a second adapter finds the same ones
    assert set(place(model, config).trained) == names


def test_a_model_without_biases() -> None:
    with pytest.raises(UsageError, match="T5ForConditionalGeneration has no biases"):
        place(MODELS["t5"](), TaskLoraConfig(biases="all"))


@pytest.mark.parametrize(("tasks", "expected"), [([], 5.928), (["vqa", "gqa", "nlvr", "caption"], 17.714)])
def test_shares_as_published(tasks: list[str], expected: float) -> None:
    count = added(place, TaskLoraConfig(rank=128, tasks=tasks))
    assert count == 36 * 2 * 768 * 128 * max(len(tasks), 1)
    model = bart_base()
    own = sum(model.get_parameter(name).numel() for name in biases(model))
    assert own == 125_952
    assert percent(count, own=own) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 0}, "rank must be at least 1, found 0"),
        ({"alpha": 0.0}, "alpha must be above 0"),
        ({"dropout": 1.0}, "below 1, found 1.0"),
        ({"biases": "lora"}, "none or all, found 'lora'"),
        ({"tasks": ["a", "a"]}, "names one twice"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TaskLoraConfig(**options)
