"""Parts of this package and of peft in one model: what they compute together, other adapters beside them, failures."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("peft")

from peft import AutoPeftModelForSeq2SeqLM, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from quincunx.config.sections.peft import Peft
from quincunx.errors import DataError, UsageError
from quincunx.nn.routing import routed
from quincunx.tuners import attach
from quincunx.tuners.adapter import fit_adapters
from quincunx.tuners.composite.config import CompositeConfig
from quincunx.tuners.composite.model import place
from quincunx.tuners.peft_plugin import config_class, register
from quincunx.tuners.sites import plain
from tiny_models import MODELS, inputs_for, output_of

LORA: dict[str, Any] = {"method": "lora", "r": 2, "target_modules": ["q_proj", "v_proj"]}
IA3: dict[str, Any] = {"method": "ia3", "target_modules": ["v_proj", "fc1"], "feedforward_modules": ["fc1"]}
BOTTLENECK: dict[str, Any] = {"method": "bottleneck", "reduction_factor": 4, "sites": ["value", "attention"]}
PROMPTS: dict[str, Any] = {"method": "prompts", "encoder_prompt_len": 2}
VALUE = "base_model.model.model.encoder.layers.0.self_attn.v_proj"


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    register()


def config(*parts: dict[str, Any], **more: Any) -> Any:
    return config_class("composite")(parts=list(parts), **more)


def tuned(*parts: dict[str, Any], **more: Any) -> Any:
    torch.manual_seed(2)
    model: Any = get_peft_model(MODELS["bart"](), config(*parts, **more))
    return scatter(model).eval()


def scatter(model: Any) -> Any:
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def look(model: nn.Module, **more: Any) -> Tensor:
    with torch.no_grad():
        return output_of(model, inputs_for(MODELS["bart"]()), **more)


def flags(model: nn.Module, without: str = " ") -> dict[str, bool]:
    named = model.named_parameters()
    return {plain(name): each.requires_grad for name, each in named if without not in name}


@pytest.mark.parametrize("listed", [["lora", "ia3", "task_lora"], ["task_lora", "lora", "ia3"]])
def test_it_is_the_sum_that_is_written(listed: list[str]) -> None:
    """Peft's parts in their order, this package's round them: l * (W x + b + (alpha / r) B A x) + (4 / 2) D C x."""
    parts = {
        "lora": {"method": "lora", "r": 2, "lora_alpha": 6, "target_modules": ["0"]},
        "ia3": {"method": "ia3", "target_modules": ["0"], "feedforward_modules": []},
        "task_lora": {"method": "task_lora", "rank": 2, "alpha": 4.0, "target_modules": ["0"]},
    }
    model: Any = scatter(get_peft_model(nn.Sequential(nn.Linear(6, 5)), config(*(parts[name] for name in listed))))
    own = {plain(name.removeprefix("base_model.model.0.")): each for name, each in model.named_parameters()}
    tail = f"quincunx_tuned.default.parts.{listed.index('task_lora')}_task_lora"
    down, up = own["lora_A.default.weight"], own["lora_B.default.weight"]
    x = torch.randn(3, 6)
    inside = x @ own["weight"].T + own["bias"] + 3 * (x @ down.T @ up.T)
    expected = own["ia3_l.default"].flatten() * inside
    expected = expected + 2 * (x @ own[f"{tail}.down.weight"].T @ own[f"{tail}.up.weight"].T)
    torch.testing.assert_close(model(x), expected)
    model.merge_adapter()
    torch.testing.assert_close(model.base_model.model(x), expected)
    model.unmerge_adapter()
    torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(model.merge_and_unload()(x), expected)


def test_parts_are_found_inside_stacks_that_have_prompts() -> None:
    model = tuned(PROMPTS, LORA)
    names = [plain(name) for name, _ in model.named_modules() if name.endswith("lora_A")]
    assert len(names) == 2 * (2 + 2 * 2), "of both stacks"
    assert "lora: 12 modules" in model.base_model.notes


@pytest.mark.parametrize("beside", [[], [LORA]], ids=["none", "some"])
def test_a_second_adapter_elsewhere_leaves_names_and_outputs(beside: list[dict[str, Any]], tmp_path: Path) -> None:
    """Its file is the one that it would write alone, whatever stands round the same modules for the first."""
    first = [BOTTLENECK, *beside]
    second = [IA3, {**LORA, "target_modules": ["q_proj", "v_proj", "fc1"]}, PROMPTS, {**BOTTLENECK, "sites": ["value"]}]
    if beside:
        second = [second[1], second[0], *second[2:]]
    alone = tuned(*second, train=["biases"])
    alone.save_pretrained(str(tmp_path / "alone"))
    model = tuned(*first)
    expected, before = look(model), flags(model)
    model.load_adapter(str(tmp_path / "alone"), adapter_name="second")
    assert flags(model, without=".second") == before
    base = MODELS["bart"]()
    biases = {plain(name): each for name, each in model.named_parameters() if name.endswith("bias")}
    for name, each in base.named_parameters():  # the file's biases are the model's own, for both adapters
        if name.endswith("bias"):
            biases[f"base_model.model.{name}"].data.copy_(each.data)
    assert torch.equal(look(model.eval()), expected)
    model.load_adapter(str(tmp_path / "alone"), adapter_name="third")
    model.set_adapter("second")
    assert torch.equal(look(model.eval()), look(alone))
    model.save_pretrained(str(tmp_path / "both"), selected_adapters=["second"])
    found, written = (load_file(tmp_path / path / "adapter_model.safetensors") for path in ("both/second", "alone"))
    assert found.keys() == written.keys()
    assert all(torch.equal(found[name], each) for name, each in written.items())
    model.delete_adapter("second")
    model.delete_adapter("third")
    assert {plain(name) for name, _ in model.named_parameters()} == before.keys()
    assert model.active_adapters == ["default"]


def test_orders_that_contradict_each_other_are_refused() -> None:
    model = tuned(LORA, IA3)
    with pytest.raises(UsageError, match="stand in the order lora, ia3, innermost first: give these parts in the same"):
        model.add_adapter("second", config(IA3, LORA))
    model.add_adapter("second", config(IA3))
    model.delete_adapter("default")
    model.add_adapter("third", config({**IA3, "target_modules": ["fc1"]}, LORA))


def test_the_later_method_goes_inside_where_it_is_named_first() -> None:
    model = tuned(IA3)
    model.add_adapter("second", config(LORA, IA3))
    layer: Any = model.get_submodule(VALUE)
    assert "IA3" in type(layer).__mro__[2].__name__ and hasattr(layer._modules["base_layer"], "lora_A")


def test_one_method_twice_at_other_modules(tmp_path: Path) -> None:
    model = tuned(LORA, IA3, {**LORA, "r": 3, "use_dora": True, "target_modules": ["fc1"]})
    model.save_pretrained(str(tmp_path))
    kinds = [{type(layer).__module__.split(".")[2] for layer in each.layers} for each in model.base_model._all()]
    assert kinds == [{"lora"}, {"ia3"}, {"lora"}]
    again = PeftModel.from_pretrained(MODELS["bart"](), str(tmp_path)).eval()
    assert torch.equal(look(again), look(model))
    again.load_adapter(str(tmp_path), adapter_name="second")
    again.set_adapter("second")
    assert torch.equal(look(again.eval()), look(model))
    with pytest.raises(UsageError, match=r"parts\[2\]: lora stands at .*v_proj already, by parts\[0\]"):
        tuned(LORA, BOTTLENECK, {**LORA, "target_modules": ["v_proj", "fc1"]})


BAD: dict[str, tuple[list[dict[str, Any]], str]] = {
    "names": ([LORA, {**IA3, "target_modules": ["nope"], "feedforward_modules": []}],
              r"parts\[1\]: peft cannot put ia3 into BartFor.*nope.* named fc1, fc2, k_proj"),
    "halfway": ([BOTTLENECK, {**LORA, "target_modules": ["q_proj", "fc1", "final_layer_norm"]}],
                r"parts\[1\]: peft cannot put lora into .* is not supported"),
    "in part": ([{**LORA, "target_modules": ["q_proj", "qproj"]}], r"parts\[0\]: lora found no module qproj"),
    "excluded": ([{**LORA, "exclude_modules": ["qproj"]}], r"parts\[0\]: lora: .*no modules were excluded"),
    "ours": ([LORA, IA3, {**BOTTLENECK, "reduction_factor": 100}], "a reduction factor of 100 leaves nothing"),
    "twice": ([LORA, {**LORA, "target_modules": ["fc1", "v_proj"]}], "stands at"),
    "tasks": ([IA3, {**BOTTLENECK, "tasks": ["c", "d"]}], "give all of them the same tasks"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_failure_leaves_the_model_as_it_was(name: str) -> None:
    parts, said = BAD[name]
    model = tuned(LORA, {**BOTTLENECK, "tasks": ["a", "b"]}, train=["norms"])
    before, expected = flags(model), look(model, tasks=["a", "b", "a", "b"])
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UsageError, match=said):
        model.add_adapter("second", config(*parts))
    assert list(model.peft_config) == ["default"] and flags(model) == before
    assert state.keys() == model.state_dict().keys()
    assert torch.equal(look(model, tasks=["a", "b", "a", "b"]), expected)
    model.add_adapter("second", config(IA3))
    model.set_adapter("second")
    if name != "tasks":
        fresh = MODELS["bart"]()
        with pytest.raises(UsageError, match=said):
            get_peft_model(fresh, config(*parts))
        assert fresh.state_dict().keys() == MODELS["bart"]().state_dict().keys()
        assert all(parameter.requires_grad for parameter in fresh.parameters()) and not hasattr(fresh, "peft_config")


def test_merging_is_refused_before_anything_is_merged() -> None:
    for parts, said in (
        ([LORA, {"method": "task_lora"}, BOTTLENECK], "ResidualAdapter is no change of the weight"),
        ([LORA, {"method": "lily", "target_modules": ["fc1"]}], "lily cannot be merged: peft has no merging for it"),
    ):
        model = tuned(*parts)
        before = {name: each.clone() for name, each in model.named_parameters()}
        for merge in (model.merge_and_unload, model.merge_adapter):
            with pytest.raises(UsageError, match=said):
                merge()
        assert all(torch.equal(each, before[name]) for name, each in model.named_parameters())
    with pytest.raises(UsageError, match="osf is merged for good alone"):
        tuned({"method": "osf", "target_modules": ["fc1"]}).merge_adapter()


def test_what_an_adapter_trains_of_the_model_follows_it() -> None:
    model = tuned(LORA, train=["norms"])
    model.add_adapter("second", config(IA3, train=["biases"]))
    for name, word in (("second", "bias"), ("default", "norm")):
        model.set_adapter(name)
        own = {name for name, each in model.named_parameters() if each.requires_grad and "default" not in name}
        assert own and all(word in each for each in own if ".second" not in each)
        with model.disable_adapter():
            pass
        assert {n for n, each in model.named_parameters() if each.requires_grad and "default" not in n} == own
    model.delete_adapter("default")
    assert model.active_adapters == ["second"]
    own = {name for name, each in model.named_parameters() if each.requires_grad and ".second" not in name}
    assert own and all("bias" in name for name in own)


def test_a_file_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    model = tuned(LORA, BOTTLENECK)
    model.save_pretrained(str(tmp_path))
    file = tmp_path / "adapter_model.safetensors"
    kept = {name: each for name, each in load_file(file).items() if not name.endswith("q_proj.lora_B.weight")}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"parts\[0\]: the file lacks 6 tensors of lora, .*q_proj\.lora_B"):
        PeftModel.from_pretrained(MODELS["bart"](), str(tmp_path))


def test_a_copy_is_kept_and_merged_by_itself(tmp_path: Path) -> None:
    model = tuned(LORA, IA3, {"method": "task_lora", "rank": 2})
    other, expected = copy.deepcopy(model), look(model)
    for parameter in model.parameters():
        parameter.data += 0.5
    other.save_pretrained(str(tmp_path))
    assert torch.equal(look(PeftModel.from_pretrained(MODELS["bart"](), str(tmp_path)).eval()), expected)
    torch.testing.assert_close(look(other.merge_and_unload()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("empty", [False, True], ids=["filled", "empty"])
def test_peft_s_own_loaders_take_it(empty: bool, tmp_path: Path) -> None:
    base: Any = MODELS["bart"]()
    base.save_pretrained(tmp_path / "base")
    parts = config(BOTTLENECK, LORA, IA3, train=["norms"], task_type="SEQ_2_SEQ_LM")
    model: Any = scatter(get_peft_model(type(base).from_pretrained(tmp_path / "base"), parts)).eval()
    model.save_pretrained(str(tmp_path / "adapter"))
    again: Any = AutoPeftModelForSeq2SeqLM.from_pretrained(str(tmp_path / "adapter"), low_cpu_mem_usage=empty)
    torch.testing.assert_close(look(again.eval()), look(model), rtol=1e-5, atol=1e-5)


def test_numbers_of_half_the_width_keep_theirs_where_modules_are_copied() -> None:
    norms = {"method": "ln_tuning", "target_modules": ["self_attn_layer_norm"]}
    model: Any = get_peft_model(MODELS["bart"]().bfloat16(), config(LORA, norms))
    found = {name.split(".")[-3]: each.dtype for name, each in model.named_parameters() if each.requires_grad}
    assert found == {"lora_A": torch.float32, "lora_B": torch.float32, "ln_tuning_layers": torch.bfloat16}


def test_heads_that_share_their_weight_are_tied_and_grown_through_both() -> None:
    model = tuned({**LORA, "target_modules": ["q_proj"]}, {"method": "bottleneck", "sites": ["query"]})
    before = look(model)
    inner = model.get_base_model()
    inner.tie_weights()
    inner.resize_token_embeddings(44)
    torch.testing.assert_close(look(model)[..., :40], before, rtol=1e-5, atol=1e-5)


def test_tasks_choose_between_parts_that_have_them() -> None:
    model = tuned(LORA, {**BOTTLENECK, "tasks": ["a", "b"]})
    mixed = look(model, tasks=["a", "b", "a", "b"])
    for number, name in enumerate(["a", "b"]):
        with routed(model, [name] * 4):
            torch.testing.assert_close(look(model)[number::2], mixed[number::2], rtol=1e-4, atol=1e-5)


def test_it_is_attached_in_place_and_a_run_without_adapters_fits_it() -> None:
    model, plain_one = MODELS["bart"](), MODELS["bart"]()
    for parameter in plain_one.parameters():
        parameter.data += 0.1
    section = Peft(method="composite", options={"parts": [PROMPTS, LORA, BOTTLENECK], "train": ["norms"]})
    attached = attach(model, section)
    assert attached.model is model and any("lora: 12 modules" in note for note in attached.notes)
    assert "model.decoder.layers.1.encoder_attn.v_proj" in attached.modules
    copied = copy.deepcopy(model)
    tensors, said = fit_adapters(copied, plain_one.state_dict())
    copied.load_state_dict(tensors, strict=True)
    assert said and "begin anew" in said[0]
    for name, each in plain_one.named_parameters():
        [found] = [own for key, own in copied.named_parameters() if plain(key) == name]
        assert torch.equal(found, each)


def test_it_is_counted_where_tensors_have_shapes_alone() -> None:
    with torch.device("meta"):
        model = MODELS["bart"]()
        section = Peft(method="composite", options={"parts": [LORA, IA3, BOTTLENECK]})
        found = attach(model, section)
    assert found.trainable == attach(MODELS["bart"](), section).trainable


def test_without_peft_s_own_functions_its_parts_are_refused() -> None:
    with pytest.raises(UsageError, match=r"parts of peft \(lora\) go in by peft"):
        place(MODELS["bart"](), CompositeConfig(parts=[LORA, BOTTLENECK]))


def test_a_ladder_lets_nothing_be_trained_in_its_layers() -> None:
    with pytest.raises(UsageError, match="a ladder lets no gradient into the layers"):
        output_of(tuned({"method": "ladder", "reduction_factor": 4}, LORA), inputs_for(MODELS["bart"]()))
