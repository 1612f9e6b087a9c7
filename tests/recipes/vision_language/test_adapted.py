"""The switches of `adapt` and `unfreeze` become one section `peft`, with the counts that are published for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bart_base import BASE, NEW_TOKENS, VISUAL, bart_base
from quincunx.config.document import ConfigError
from quincunx.config.load import load
from quincunx.recipes import schemas
from quincunx.recipes.vision_language.adapted import peft_of
from quincunx.tuners import attach
from tiny_models import bart, t5
from vision_language_runs import run_of

TASKS = ("vqa", "gqa", "nlvr", "caption")
PUBLISHED: list[tuple[dict[str, Any], float]] = [
    ({"use_adapter": True, "use_single_adapter": True, "reduction_factor": 8}, 4.177),
    ({"use_adapter": True, "reduction_factor": 8}, 12.224),
    (
        {
            "use_compacter": True,
            "use_single_adapter": True,
            "reduction_factor": 8,
            "hypercomplex_division": 2,
            "factorized_phm": False,
            "shared_phm_rule": False,
        },
        2.699,
    ),
    (
        {
            "use_compacter": True,
            "reduction_factor": 8,
            "hypercomplex_division": 2,
            "factorized_phm": False,
            "shared_phm_rule": False,
        },
        7.051,
    ),
    (
        {
            "use_hyperformer": True,
            "unique_hyper_net": True,
            "reduction_factor": 8,
            "projected_task_embedding_dim": 8,
        },
        5.793,
    ),
    ({"use_lora": True, "lora_dim": 128, "use_single_lora": True}, 5.928),
    ({"use_lora": True, "lora_dim": 128}, 17.714),
    ({"encoder_prompt_len": 40, "mid_dim": 800, "use_single_prompt": True}, 1.997),
    ({"encoder_prompt_len": 40, "mid_dim": 800}, 4.533),
]
"""Keys of guide 002 as VL-Adapter's published runs set them, and the share that is trained in percent."""


def config_of(tmp_path: Path, settings: dict[str, Any]) -> Any:
    base = {"recipe": "vision_language", "data": {"path": "here"}, "tasks": ",".join(TASKS)}
    return load({**base, **settings}, schemas=schemas()).config


def adapted(tmp_path: Path, settings: dict[str, Any], model: nn.Module, tasks: tuple[str, ...] = TASKS) -> nn.Module:
    biases = any(name.endswith("bias") and weight.ndim == 1 for name, weight in model.named_parameters())
    section = peft_of(config_of(tmp_path, settings), tasks, biases=biases)
    # what embeds pictures is no part of a plain backbone
    train = [word for word in section.train or () if word != "connector"]
    return attach(model, section.model_copy(update={"train": train or None}), tasks=tasks).model


def trained(model: nn.Module) -> dict[str, int]:
    return {name: weight.numel() for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize(("settings", "share"), PUBLISHED)
def test_the_guides_switches_train_the_published_shares_of_bart_base(
    settings: dict[str, Any], share: float, tmp_path: Path
) -> None:
    norms = {} if "encoder_prompt_len" in settings or "use_lora" in settings else {"unfreeze_layer_norms": True}
    with torch.device("meta"):
        model = adapted(tmp_path, {**settings, **norms}, bart_base())
    total = sum(weight.numel() for weight in model.parameters())
    count = sum(trained(model).values())
    assert total > BASE
    assert round(100 * (count + VISUAL) / (total + NEW_TOKENS + VISUAL), 3) == share


SWITCHES: list[tuple[dict[str, Any], set[str]]] = [
    ({"use_adapter": True}, {"bottleneck"}),
    ({"use_lradapter": True, "low_rank_rank": 2}, {"low_rank"}),
    ({"use_compacter": True, "hypercomplex_division": 1}, {"compacter"}),
    ({"use_hyperformer": True, "efficient_unique_hyper_net": True}, {"hyperformer"}),
    ({"use_adapter": True, "use_lora": True, "encoder_prompt_len": 2}, {"bottleneck", "task_lora", "prompts"}),
    ({"decoder_prompt_len": 2, "use_adapter": True}, {"prompts", "bottleneck"}),
    ({"use_attn_prefix": True}, {"prefix"}),
    ({"use_lm_head_adapter": True}, {"head"}),
]


@pytest.mark.parametrize("make", [bart, t5], ids=["bart", "t5"])
@pytest.mark.parametrize(("settings", "methods"), SWITCHES)
def test_every_switch_puts_its_method_into_the_model(
    settings: dict[str, Any], methods: set[str], make: Any, tmp_path: Path
) -> None:
    settings = {"reduction_factor": 4, "mid_dim": 4, **settings}
    settings = {key: value for key, value in settings.items() if key != "mid_dim" or "prompts" in methods | {"prefix"}}
    section = peft_of(config_of(tmp_path, settings), TASKS)
    assert {part["method"] for part in section.options["parts"]} == methods
    before = {name for name, _ in make().named_parameters()}
    model = adapted(tmp_path, settings, make())
    fresh = [name for name in trained(model) if name.replace(".base_layer", "") not in before]
    assert fresh
    assert all(any(f"_{method}." in name or method == name for name in fresh) for method in methods)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"unfreeze_language_model": False}, []),
        ({"unfreeze_lm_head": True}, ["head"]),
        ({"unfreeze_layer_norms": True, "use_adapter": True}, ["norms"]),
        ({"unfreeze_language_model": True}, ["language_model"]),
        ({"feature_type": "raw_RN50", "unfreeze_vis_last_layer": True}, ["vision_last_layer"]),
        ({"feature_type": "raw_RN50", "unfreeze_vis_encoder": True}, ["vision"]),
        ({"feature_type": "raw_RN50", "unfreeze_batch_norms": True}, ["batch_norms"]),
    ],
)
def test_what_is_unfrozen_is_trained_besides_what_embeds_pictures(
    settings: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    assert peft_of(config_of(tmp_path, settings), TASKS).train == [*words, "connector"]


def test_without_any_switch_all_is_trained_and_peft_keeps_its_own_words(tmp_path: Path) -> None:
    section = peft_of(config_of(tmp_path, {}), TASKS)
    assert section.method is None
    assert section.train is None
    section = peft_of(
        config_of(tmp_path, {"peft": {"method": "lora", "options": {"r": 2}, "train": ["biases"]}}), TASKS
    )
    assert section.method == "lora"
    assert section.train == ["biases", "connector"]


def test_one_task_has_no_weights_of_its_own(tmp_path: Path) -> None:
    [part] = peft_of(config_of(tmp_path, {"use_adapter": True}), ("vqa",)).options["parts"]
    assert "tasks" not in part


def test_images_adapters_go_by_their_own_options(tmp_path: Path) -> None:
    settings = {"feature_type": "raw_RN50", "use_vis_adapter": True, "vis_adapter_type": "front/back-basic"}
    [part] = peft_of(config_of(tmp_path, {**settings, "remove_bn_vis_adapter": True}), TASKS).options["parts"]
    assert part == {"method": "convolution", "adapter_type": "front/back-basic", "remove_batch_norm": True}


@pytest.mark.parametrize("switches", [{"bottleneck": True, "share_down": True}, {"hyperformer": True, "unique": True}])
def test_a_section_that_names_the_tasks_is_what_the_switches_make(
    switches: dict[str, Any], world: Path, tmp_path: Path
) -> None:
    shared = {"data.tasks": ["cls", "vqa"], "mixing.mixed": True, "budget.updates": 2}
    adapt = {f"adapt.{name}": value for name, value in switches.items()}
    by_switches = run_of(world, tmp_path / "switches", {**shared, **adapt, "adapt.reduction_factor": 4})
    section = peft_of(by_switches.config, ("cls", "vqa"), biases=False)
    assert any(part.get("tasks") for part in section.options["parts"])
    spelled = {"method": section.method, "options": section.options}
    by_section = run_of(world, tmp_path / "section", {**shared, "peft": spelled})
    one, other = (run.model("last").state_dict() for run in (by_switches, by_section))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("tasks", [["vqa", "cls"], ["cls"], ["cls", "vqa", "gqa"], ["a", "b"]])
@pytest.mark.parametrize("composite", [False, True])
def test_tasks_by_other_names_or_in_another_order_are_refused(
    tasks: list[str], composite: bool, world: Path, tmp_path: Path
) -> None:
    part = {"reduction_factor": 4, "tasks": tasks}
    parts = {"parts": [{"method": "bottleneck", **part}]}
    section = {"method": "composite", "options": parts} if composite else {"method": "bottleneck", "options": part}
    said = rf"tasks are {', '.join(tasks)} here, and examples belong to cls, vqa"
    with pytest.raises(ConfigError, match=said):
        run_of(world, tmp_path / "run", {"data.tasks": ["cls", "vqa"], "peft": section})
    assert not (tmp_path / "run").exists()
