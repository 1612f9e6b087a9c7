"""Several methods and rules as one: in which order they act, what is saved, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("peft")

from peft import PeftModel, get_peft_model
from safetensors.torch import load_file

from quincunx.tuners.adapter import inject
from quincunx.tuners.bottleneck.config import BottleneckConfig
from quincunx.tuners.bottleneck.model import place as place_bottleneck
from quincunx.tuners.composite.config import CompositeConfig
from quincunx.tuners.composite.model import place
from quincunx.tuners.peft_plugin import config_class, register
from quincunx.tuners.task_lora.config import TaskLoraConfig
from quincunx.tuners.task_lora.model import place as place_task_lora
from tiny_models import MODELS, inputs_for, output_of

LORA: dict[str, Any] = {"method": "task_lora", "rank": 2, "sites": ["attention"]}
BOTTLENECK: dict[str, Any] = {"method": "bottleneck", "reduction_factor": 4, "sites": ["attention"]}


@pytest.mark.parametrize("parts", [[LORA, BOTTLENECK], [BOTTLENECK, LORA]], ids=["lora-first", "bottleneck-first"])
def test_it_is_one_method_put_round_the_other(parts: list[dict[str, Any]]) -> None:
    """At the same modules: as if the first were put in, and the second then round it."""
    torch.manual_seed(0)
    one, other = MODELS["bart"](), MODELS["bart"]()
    placement = place(one, CompositeConfig(parts=parts))
    own = {name: adapter.parts for name, adapter in placement.adapters.items()}
    inject(one, placement)
    for number, part in enumerate(parts):
        options = {name: value for name, value in part.items() if name != "method"}
        if part["method"] == "task_lora":
            alone = place_task_lora(other, TaskLoraConfig(**options))
        else:
            alone = place_bottleneck(other, BottleneckConfig(**options))
        for path in alone.adapters:
            alone.adapters[path] = own[path][f"{number}_{part['method']}"]  # the very same weights
        inject(other, alone)
    for name, parameter in one.named_parameters():
        if "quincunx" in name:
            parameter.data += 0.2 * torch.randn_like(parameter)
    inputs = inputs_for(MODELS["bart"]())
    assert torch.equal(output_of(one.eval(), inputs), output_of(other.eval(), inputs))


def test_one_file_holds_the_parts_and_what_is_trained_besides(tmp_path: Path) -> None:
    register()
    config = config_class("composite")(parts=[LORA, BOTTLENECK], train=["norms"])
    model: Any = get_peft_model(MODELS["bart"](), config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1
    model.eval().save_pretrained(str(tmp_path))
    names = load_file(tmp_path / "adapter_model.safetensors").keys()
    trained = {name.replace(".default", "") for name, each in model.named_parameters() if each.requires_grad}
    assert {*names} == trained
    assert any("norm" in name for name in names) and any("0_task_lora" in name for name in names)
    inputs = inputs_for(MODELS["bart"]())
    again: Any = PeftModel.from_pretrained(MODELS["bart"](), str(tmp_path)).eval()
    assert torch.equal(output_of(again, inputs), output_of(model, inputs))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "name at least one method"),
        ({"parts": [{"rank": 2}]}, r"parts\[0\] has no method"),
        ({"parts": ["lora"]}, r"parts\[0\] must be a mapping with method and its options, found 'lora'"),
        (
            {"parts": [LORA, {"method": "botleneck"}]},
            r"parts\[1\]: there is no method botleneck here or in peft; did you mean bottleneck",
        ),
        ({"parts": [{"method": "composite"}]}, "no method composite here"),
        ({"parts": [{**LORA, "rnk": 2}]}, r"parts\[0\]: task_lora has no option rnk; did you mean rank"),
        ({"parts": [{**LORA, "rank": "2"}]}, r"parts\[0\]\.rank: .*found '2'"),
        ({"parts": [{**LORA, "rank": 0}]}, r"parts\[0\]: rank must be at least 1, found 0"),
        ({"parts": [LORA], "sites": ["attention"]}, "belong to each of the parts"),
        ({"parts": [{**LORA, "tasks": ["a", "b"]}, {**BOTTLENECK, "tasks": ["b", "a"]}]}, "different tasks"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CompositeConfig(**options)


def test_parts_may_have_tasks_beside_parts_that_have_none() -> None:
    config = CompositeConfig(parts=[LORA, {**BOTTLENECK, "tasks": ["a", "b"]}])
    assert config.tasks == ["a", "b"]
    assert CompositeConfig(parts=[LORA]).tasks == []
