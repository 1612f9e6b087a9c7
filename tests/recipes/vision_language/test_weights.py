"""Starting from a file of weights: one's own, or the published ones, under whatever name the file has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from safetensors.torch import save_file

from quincunx.errors import UsageError
from quincunx.recipes.vision_language.weights import find_file, with_tied
from vision_language_runs import experiment_of

ARCHITECTURES = ("t5", "bart")
INSIDE = {
    "features.map": "feat_embedding.0",
    "features.norm": "feat_embedding.1",
    "box": "absolute_vis_pos_embedding.0",
    "box_norm": "absolute_vis_pos_embedding.1",
    "image_order": "img_order_embedding",
}


def model_of(world: Path, **settings: Any) -> Any:
    return experiment_of(world, {"data.tasks": ["vqa"], **settings}).parts.model


def changed(world: Path, architecture: str) -> dict[str, torch.Tensor]:
    """Return the weights of a model, each moved a little, those that are one staying one."""
    model = model_of(world, **{"model.build.architecture": architecture})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.25)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(model: Any, tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("form", ["weights.safetensors", "weights.pth", "weights"])
def test_a_model_begins_with_the_weights_of_a_file(form: str, architecture: str, world: Path, tmp_path: Path) -> None:
    tensors = changed(world, architecture)
    if form == "weights.pth":
        torch.save({"state_dict": {f"module.{name}": each for name, each in tensors.items()}}, tmp_path / form)
    else:
        save_file(tensors, tmp_path / "weights.safetensors")
    settings = {"model.build.architecture": architecture, "model.weights": str(tmp_path / form)}
    assert_same(model_of(world, **settings), tensors)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_published_names_are_known(architecture: str, world: Path, tmp_path: Path) -> None:
    tensors = changed(world, architecture)
    inside = "encoder" if architecture == "t5" else "model.encoder"
    theirs: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part == "language_model":
            theirs[f"module.{rest}"] = tensor
        else:
            module, _, kind = rest.rpartition(".")
            theirs[f"module.{inside}.visual_embedding.{INSIDE[module]}.{kind}"] = tensor
    torch.save(theirs, tmp_path / "Epoch30.pth")
    settings = {"model.build.architecture": architecture, "model.weights": str(tmp_path / "Epoch30")}
    assert_same(model_of(world, **settings), tensors)


def test_adapters_are_put_into_what_was_loaded(world: Path, tmp_path: Path) -> None:
    tensors = changed(world, "t5")
    save_file(tensors, tmp_path / "weights.safetensors")
    model = model_of(world, **{"adapt.bottleneck": True, "model.weights": str(tmp_path / "weights")})
    name = "language_model.encoder.block.0.layer.0.SelfAttention.o"
    kept = {path: each for path, each in model.state_dict().items() if path.startswith(name) and "base" in path}
    assert [torch.equal(each, tensors[f"{name}.weight"]) for each in kept.values()] == [True]


def test_missing_and_unexpected_names_are_listed_and_refused_unless_partial(world: Path, tmp_path: Path) -> None:
    tensors = changed(world, "t5")
    lost = tensors.pop("visual_embedding.box.weight")
    tensors["visual_embedding.bax.weight"] = lost
    save_file(tensors, tmp_path / "weights.safetensors")
    settings: dict[str, Any] = {"model.weights": str(tmp_path / "weights")}
    with pytest.raises(UsageError, match=r"missing: visual_embedding\.box\.weight\n.*unexpected: .*bax(.|\n)*partial"):
        model_of(world, **settings)
    made = experiment_of(world, {"data.tasks": ["vqa"], **settings, "init_partial": True})
    assert any("missing: visual_embedding.box.weight" in note for note in made.notes)
    found = made.parts.model.state_dict()
    assert torch.equal(found["visual_embedding.box.bias"], tensors["visual_embedding.box.bias"])
    assert not torch.equal(found["visual_embedding.box.weight"], lost)


def test_another_file_is_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file .*none, nor any of none.safetensors"):
        find_file(tmp_path / "none")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UsageError, match=r"text.pth"):
        model_of(world, **{"model.weights": str(tmp_path / "text.pth")})
    with pytest.raises(UsageError, match="weights"):
        save_file({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
        model_of(world, **{"model.weights": str(tmp_path / "weights"), "init_partial": True})


def test_weights_that_are_one_need_to_be_there_once(world: Path) -> None:
    model = model_of(world)
    whole = model.state_dict()
    tied = [name for name in whole if name.endswith(("embed_tokens.weight", "lm_head.weight"))]
    assert tied
    assert with_tied({name: each for name, each in whole.items() if name not in tied}, model).keys() == whole.keys()
