"""peft's own methods as parts: each one that is taken, beside itself alone; and what is refused beforehand."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("peft")

from peft import PeftModel, get_peft_model

from quincunx.config.sections.peft import Peft
from quincunx.errors import UsageError
from quincunx.tuners import check_peft
from quincunx.tuners.attaching import UNSUITED
from quincunx.tuners.composite.config import CompositeConfig
from quincunx.tuners.composite.theirs import REFUSED_METHODS, UNMERGED, config_classes
from quincunx.tuners.methods import METHODS
from quincunx.tuners.peft_plugin import config_class, register
from quincunx.tuners.sites import plain
from tiny_models import MODELS, inputs_for, output_of

OPTIONS: dict[str, dict[str, Any]] = {
    "boft": {"boft_block_size": 4},
    "c3a": {"block_size": 8},
    "fourierft": {"n_frequency": 20},
    "ia3": {"feedforward_modules": []},
    "ln_tuning": {"target_modules": ["LayerNorm"]},
    "lora": {"r": 4},
    "miss": {"r": 4},
    "oft": {"oft_block_size": 4},
    "psoft": {"r": 8},
    "road": {"group_size": 8},
    "shira": {"r": 2},
    "waveft": {"n_frequency": 20},
}
"""What does not fit the tiny model by peft's defaults, or must be given."""
BESIDE: dict[str, Any] = {"method": "bottleneck", "reduction_factor": 4, "sites": ["query", "feedforward"]}
MERGED: dict[str, Any] = {"method": "task_lora", "rank": 2, "sites": ["query", "feedforward"]}


def taken() -> list[str]:
    return [name for name in config_classes() if name not in UNSUITED and name not in REFUSED_METHODS]


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    register()


def options(method: str) -> dict[str, Any]:
    return copy.deepcopy({"target_modules": ["query", "value"], **OPTIONS.get(method, {})})


def composite(*parts: dict[str, Any], **more: Any) -> Any:
    torch.manual_seed(2)
    made: Any = get_peft_model(MODELS["bert"](), config_class("composite")(parts=list(parts), **more))
    return made.eval()


def part(method: str) -> dict[str, Any]:
    return {"method": method, **options(method)}


def look(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return output_of(model, inputs_for(MODELS["bert"]()))


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {plain(name): each for name, each in model.named_parameters() if each.requires_grad}


def scatter(model: nn.Module) -> None:
    """Move everything that is trained by numbers that follow from its plain name."""
    for name, parameter in trained(model).items():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))


@pytest.mark.parametrize("method", taken())
def test_a_part_is_the_method_alone(method: str) -> None:
    """The same weights are trained from the same numbers, and give the same, beside a part that adds nothing yet."""
    torch.manual_seed(2)
    alone: Any = get_peft_model(MODELS["bert"](), config_classes()[method](**options(method)))
    model = composite(BESIDE, part(method))
    theirs = {name: each for name, each in trained(model).items() if "quincunx" not in name}
    assert theirs.keys() == trained(alone).keys() and theirs
    assert torch.equal(look(model), look(alone.eval()))
    own = {plain(name): each for name, each in model.named_parameters()}
    for name, each in MODELS["bert"]().named_parameters():
        assert torch.equal(own[f"base_model.model.{name}"], each), name
    scatter(alone)
    before = look(model)
    for name, each in trained(alone).items():
        theirs[name].data.copy_(each.data)
    assert torch.equal(look(model), look(alone))
    assert not torch.allclose(look(model), before, atol=1e-4)


@pytest.mark.parametrize("method", taken())
def test_a_part_is_kept_doubled_disabled_and_deleted(method: str, tmp_path: Path) -> None:
    base, model = look(MODELS["bert"]()), composite(BESIDE, part(method))
    scatter(model)
    expected = look(model)
    model.save_pretrained(str(tmp_path))
    again: Any = PeftModel.from_pretrained(MODELS["bert"](), str(tmp_path)).eval()
    assert torch.equal(look(again), expected)
    again.load_adapter(str(tmp_path), adapter_name="other")
    for name in ("other", "default", "other"):
        again.set_adapter(name)
        assert torch.equal(look(again.eval()), expected)
    again.delete_adapter("default")
    assert torch.equal(look(again.eval()), expected)
    again.save_pretrained(str(tmp_path / "second"))
    third: Any = PeftModel.from_pretrained(MODELS["bert"](), str(tmp_path / "second" / "other")).eval()
    assert torch.equal(look(third), expected)
    with model.disable_adapter():
        assert torch.equal(look(model), base)
    assert torch.equal(look(copy.deepcopy(model)), expected)
    assert torch.equal(look(model.unload()), base)


@pytest.mark.parametrize("method", taken())
def test_a_part_is_merged_or_refuses_to_be(method: str) -> None:
    model = composite(MERGED, part(method))
    scatter(model)
    expected = look(model)
    if method in UNMERGED:
        with pytest.raises(UsageError, match=rf"parts\[1\]: {method} cannot be merged"):
            model.merge_and_unload()
        assert torch.equal(look(model), expected)
        return
    merged = model.merge_and_unload()
    torch.testing.assert_close(look(merged), expected, rtol=1e-4, atol=1e-4)
    assert {name for name, _ in merged.named_parameters()} == {name for name, _ in MODELS["bert"]().named_parameters()}


def test_every_method_is_taken_or_refused() -> None:
    assert not {*REFUSED_METHODS} & {*UNSUITED}
    assert {*REFUSED_METHODS} | {*UNSUITED} <= {*config_classes()}
    assert {*UNMERGED} <= {*taken()}


LORA: dict[str, Any] = {"method": "lora", "r": 2, "target_modules": ["query"]}


@pytest.mark.parametrize(
    ("one", "said"),
    [
        ({"method": "lorra"}, r"no method lorra here or in peft; did you mean lora\?"),
        ({"method": "whatever"}, r"no method whatever here or in peft; there are bottleneck, .*ia3"),
        ({"method": "prefix_tuning", "num_virtual_tokens": 2}, "prefix_tuning is no part: it stands before the text"),
        ({"method": "vera"}, "vera is no part: what its layers have in common"),
        ({"method": "adalora"}, "adalora is no part: it takes ranks away"),
        ({**LORA, "rank": 2}, r"lora has no option rank; did you mean r\?"),
        ({**LORA, "task_type": "CAUSAL_LM"}, "task_type says nothing here"),
        ({**LORA, "init_lora_weights": "eva"}, "init_lora_weights of lora cannot be eva: it needs a pass"),
        ({**LORA, "init_lora_weights": "pissa_niter_4"}, "cannot be pissa_niter_4: it changes the model's own weights"),
        ({**LORA, "modules_to_save": ["cls"]}, "modules_to_save of lora .*said by `train`"),
        ({**LORA, "bias": "all"}, "bias of lora cannot be all: biases of the model are trained by a word of `train`"),
        ({**LORA, "tasks": ["a", "b"]}, "lora has no option tasks"),
        ({**LORA, "layers_to_transform": [0], "target_modules": ".*query"}, "lora refuses these options: .*target"),
    ],
)
def test_what_cannot_be_is_refused_with_the_part_named(one: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=rf"parts\[1\]: .*{said}"):
        CompositeConfig(parts=[BESIDE, one])


@pytest.mark.parametrize(
    "more", [{"bias": "none"}, {"modules_to_save": None}, {"init_lora_weights": "gaussian"}, {"use_dora": True}]
)
def test_what_changes_nothing_of_the_model_is_taken(more: dict[str, Any]) -> None:
    assert composite({**LORA, **more})


def test_a_config_says_it_at_its_place() -> None:
    section = Peft(method="composite", options={"parts": [{**LORA, "rank": 2}]})
    [problem] = check_peft(section)
    assert "parts[0]: lora has no option rank" in problem.message
    assert problem.path == ("peft", "options")


def test_the_page_names_those_that_are_no_parts() -> None:
    page = (Path(__file__).parents[3] / "docs" / "tuners.md").read_text(encoding="utf-8")
    said = page.partition("may be any of these but ")[2].partition("\n\n")[0]
    known = {*config_classes()} | {*METHODS}
    assert {name for name in re.findall(r"`(\w+)`", said) if name in known} - {"prompts", "prefix"} == {
        *REFUSED_METHODS
    }
