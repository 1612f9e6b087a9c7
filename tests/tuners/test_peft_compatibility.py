"""What is used of peft beside its documented calls; when one fails, `peft_plugin.py` or `peft_tuner.py` changes."""

from __future__ import annotations

import copy
import inspect
import re
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("peft")

from peft import AutoPeftModelForSeq2SeqLM, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.constants import DUMMY_TARGET_MODULES
from safetensors.torch import load_file

from quincunx.errors import UsageError
from quincunx.tuners.methods import METHODS
from quincunx.tuners.peft_plugin import MethodName, accept_tasks, config_class, register, tuner_class
from quincunx.tuners.sites import plain
from tiny_models import MODELS, inputs_for, output_of

TASKS = ["colour", "shape"]


@pytest.fixture(autouse=True)
def _registered() -> None:
    register()


def test_the_installed_version_is_in_the_range_that_is_asked_for() -> None:
    lines = requires("quincunx") or []
    [asked] = [line for line in lines if re.match(r"peft[<>=!~]", line) and re.search(r"extra == .peft.", line)]
    low, high = re.findall(r"(\d+)\.(\d+)", asked.partition(";")[0])
    found = tuple(map(int, version("peft").split(".")[:2]))
    bounds = sorted([tuple(map(int, low)), tuple(map(int, high))])
    assert bounds[0] <= found < bounds[1], asked


def test_the_dictionaries_take_names_of_others() -> None:
    for name in METHODS:
        kind = MethodName(name.upper())
        assert PEFT_TYPE_TO_CONFIG_MAPPING[kind] is config_class(name)  # pyright: ignore[reportArgumentType]
        assert PEFT_TYPE_TO_TUNER_MAPPING[kind] is tuner_class(name)  # pyright: ignore[reportArgumentType]
        assert PEFT_TYPE_TO_PREFIX_MAPPING[kind] == "quincunx_"  # pyright: ignore[reportArgumentType]
    before = dict(PEFT_TYPE_TO_CONFIG_MAPPING)
    register()
    assert before == PEFT_TYPE_TO_CONFIG_MAPPING


def test_a_method_of_peft_s_own_by_one_of_our_names_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEFT_TYPE_TO_CONFIG_MAPPING, MethodName("BOTTLENECK"), object)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="peft has a method bottleneck of its own now"):
        register()


def test_what_is_overridden_is_still_there() -> None:
    for name, arguments in {
        "inject_adapter": ["self", "model", "adapter_name"],
        "_prepare_adapter_config": ["self", "peft_config", "model_config"],
        "_create_and_replace": [
            "self",
            "peft_config",
            "adapter_name",
            "target",
            "target_name",
            "parent",
            "current_key",
        ],
        "_replace_module": ["self", "parent", "child_name", "new_module", "child"],
        "_mark_only_adapters_as_trainable": ["self", "model"],
        "delete_adapter": ["self", "adapter_name"],
        "set_adapter": ["self", "adapter_name", "inference_mode"],
        "merge_adapter": ["self", "adapter_names", "safe_merge"],
        "_check_merge_allowed": ["self"],
        "_cast_adapter_dtype": ["self", "adapter_name", "autocast_adapter_dtype"],
        "_unload_and_optionally_merge": ["self", "merge"],
        "__init__": ["self", "model", "peft_config", "adapter_name", "low_cpu_mem_usage"],
    }.items():
        found = list(inspect.signature(getattr(BaseTuner, name)).parameters)
        assert found[: len(arguments)] == arguments, name
    for name in (
        "_get_adapter_state_dict", "_remove_adapter_name_from_key", "_remap_adapter_state_dict_for_load",
    ):  # fmt: skip
        assert isinstance(inspect.getattr_static(BaseTuner, name), classmethod), name
    assert isinstance(BaseTuner.uses_shared_state, bool) and isinstance(DUMMY_TARGET_MODULES, str)
    used = {"adapter_layer_names", "merged_adapters", "active_adapters", "get_base_layer", "delete_adapter"}
    assert {*used, "_active_adapter"} <= {*dir(BaseTunerLayer)}


def bart(**options: Any) -> Any:
    config = config_class("bottleneck")(task_type="SEQ_2_SEQ_LM", reduction_factor=4, **options)
    model: Any = get_peft_model(MODELS["bart"](), config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2
    return model.eval()


def test_beams_are_told_their_examples_tasks(tmp_path: Path) -> None:
    """A batch of two tasks gives what each example gives by itself."""
    model = accept_tasks(bart(tasks=TASKS))
    inputs = {name: value[:2] for name, value in inputs_for(MODELS["bart"]()).items() if name != "decoder_input_ids"}
    how: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    both = model.generate(**inputs, **how, tasks=["shape", "colour"])
    for row, task in enumerate(["shape", "colour"]):
        alone = model.generate(**{name: value[row : row + 1] for name, value in inputs.items()}, **how, tasks=[task])
        assert torch.equal(both[row], alone[0])


def test_peft_s_own_loader_of_models_finds_the_base(tmp_path: Path) -> None:
    base = MODELS["bart"]()
    base.save_pretrained(tmp_path / "base")  # pyright: ignore[reportCallIssue]
    model: Any = get_peft_model(
        type(base).from_pretrained(tmp_path / "base"),  # pyright: ignore[reportAttributeAccessIssue]
        config_class("bottleneck")(task_type="SEQ_2_SEQ_LM", reduction_factor=4),
    ).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2
    model.save_pretrained(str(tmp_path / "adapter"))
    again: Any = AutoPeftModelForSeq2SeqLM.from_pretrained(str(tmp_path / "adapter")).eval()
    inputs = inputs_for(base)
    torch.testing.assert_close(output_of(again, inputs), output_of(model, inputs), rtol=1e-5, atol=1e-5)


def test_two_adapters_at_once_and_one_after_the_other(tmp_path: Path) -> None:
    model = bart()
    model.add_adapter("second", config_class("bottleneck")(reduction_factor=2))
    inputs = inputs_for(MODELS["bart"]())
    alone = output_of(model, inputs)
    model.set_adapter("second")
    base = MODELS["bart"]()
    assert torch.equal(output_of(model, inputs), output_of(base, inputs)), "it begins as nothing"
    model.base_model.set_adapter(["default", "second"])
    assert torch.equal(output_of(model, inputs), alone)
    model.set_adapter("default")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and all(".default." in name for name in trained)


def test_adapters_with_other_tasks_are_refused_before_anything_is_put_in() -> None:
    model = bart(tasks=TASKS)
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    with pytest.raises(UsageError, match="give all of them the same tasks"):
        model.add_adapter("second", config_class("bottleneck")(reduction_factor=4, sites=["value"], tasks=["a", "b"]))
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before
    assert list(model.peft_config) == ["default"]


def test_a_second_adapter_at_other_modules_keeps_the_names_of_what_is_trained(tmp_path: Path) -> None:
    """Biases stand below other parts in a model with two adapters; a file has the names of one that stands alone."""
    torch.manual_seed(0)
    second = config_class("task_lora")(rank=2, sites=["feedforward"], biases="all")
    alone: Any = get_peft_model(MODELS["bart"](), copy.deepcopy(second))
    for parameter in alone.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1
    expected = output_of(alone.eval(), inputs_for(MODELS["bart"]()))
    alone.save_pretrained(str(tmp_path / "alone"))
    model: Any = get_peft_model(MODELS["bart"](), config_class("task_lora")(rank=2, sites=["query", "feedforward"]))
    model.load_adapter(str(tmp_path / "alone"), adapter_name="second", is_trainable=True)
    model.set_adapter("second")
    assert torch.equal(output_of(model.eval(), inputs_for(MODELS["bart"]())), expected)
    trained = {plain(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    own = {plain(name) for name, parameter in alone.named_parameters() if parameter.requires_grad}
    assert trained == {name.replace(".default.", ".second.") for name in own}
    assert any(name.endswith("q_proj.bias") for name in own)
    model.save_pretrained(str(tmp_path / "both"), selected_adapters=["second"])
    found, written = (load_file(tmp_path / path / "adapter_model.safetensors") for path in ("both/second", "alone"))
    assert found.keys() == written.keys()
    assert all(torch.equal(found[name], each) for name, each in written.items())
    model.set_adapter("default")
    assert not any(parameter.requires_grad for name, parameter in model.named_parameters() if name.endswith("bias"))


def test_an_adapter_that_holds_what_cannot_be_merged_is_merged_in_no_part() -> None:
    parts = [{"method": "task_lora", "rank": 2}, {"method": "bottleneck", "reduction_factor": 4}]
    model: Any = get_peft_model(MODELS["bart"](), config_class("composite")(parts=parts))
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(UsageError, match="cannot be merged"):
            merge()
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_the_adapter_that_is_left_is_active_once_the_active_one_is_deleted() -> None:
    model = bart()
    model.add_adapter("second", config_class("bottleneck")(reduction_factor=2, sites=["value"]))
    model.delete_adapter("default")
    assert model.active_adapters == ["second"]
    assert all(".second." in name for name, parameter in model.named_parameters() if parameter.requires_grad)


def test_weights_are_tied_and_grown_through_adapters() -> None:
    model = bart()
    inner = model.get_base_model()
    before = output_of(model, inputs_for(MODELS["bart"]()))
    inner.tie_weights()
    inner.resize_token_embeddings(44)
    after = output_of(model, inputs_for(MODELS["bart"]()))
    assert after.shape[-1] == 44
    torch.testing.assert_close(after[..., :40], before, rtol=1e-5, atol=1e-5)


def test_the_statistics_of_batch_norms_are_in_the_file(tmp_path: Path) -> None:
    """Where the model goes on counting them in training, a file without them would be another model."""
    torch.manual_seed(0)
    options = {"adapter_type": "middle-bottleneck"}
    model: Any = get_peft_model(MODELS["resnet"](), config_class("convolution")(**copy.deepcopy(options)))
    inputs = inputs_for(MODELS["resnet"]())
    model.train()
    for _ in range(3):
        output_of(model, inputs)
    expected = output_of(model.eval(), inputs)
    model.save_pretrained(str(tmp_path))
    again: Any = PeftModel.from_pretrained(MODELS["resnet"](), str(tmp_path)).eval()
    assert torch.equal(output_of(again, inputs), expected)
