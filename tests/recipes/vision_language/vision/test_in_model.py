"""An image encoder within the whole model: adapted, unfrozen, left alone, and the same as its stored features."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quincunx.config.sections.peft import Peft
from quincunx.data.batch import Batch
from quincunx.engine.objective import Objective, Summed
from quincunx.engine.step import Step
from quincunx.errors import RunError
from quincunx.recipes.vision_language.model.seq2seq import VisionLanguageModel
from quincunx.recipes.vision_language.model.vision.clip_resnet import ClipResNet, Sizes
from quincunx.recipes.vision_language.model.vision.encoder import Origin
from quincunx.recipes.vision_language.model.visual import make_visual_embedding
from quincunx.recipes.vision_language.objective import Choosing, Saying
from quincunx.recipes.vision_language.pretraining.objective import Pretraining
from quincunx.tuners.attaching import attach
from toys import cpu, plan
from vision_language_models import BACKBONES, batch

SMALL = Sizes((1, 2, 1, 1), 4, 8, 64)


def model_of(backbone: str = "t5", *, pooled: bool = False) -> VisionLanguageModel:
    base = BACKBONES[backbone]()
    torch.manual_seed(0)
    encoder = ClipResNet(Origin("small"), SMALL, (64, 64), pooled=pooled)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    encoder.freeze()
    visual = make_visual_embedding(base, encoder.width)
    return VisionLanguageModel(base, visual, vision=encoder).eval()


def inputs() -> dict[str, Tensor]:
    """Four examples of one or two pictures; what stands for a picture that is not there is no number."""
    given = {name: each for name, each in batch().items() if name in ("input_ids", "attention_mask", "labels")}
    pixels = torch.randn(4, 2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    there = torch.tensor([[1, 0], [1, 1], [0, 0], [1, 0]])
    given["pixels"] = pixels.masked_fill(there[..., None, None, None] == 0, float("nan"))
    return {**given, "visual_mask": there}


@pytest.mark.parametrize("pooled", [False, True])
@torch.no_grad()
def test_pixels_give_what_stored_features_give(pooled: bool) -> None:
    model, given = model_of(pooled=pooled), inputs()
    pixels, there = given.pop("pixels"), given.pop("visual_mask").bool()
    found = model(**given, pixels=pixels, visual_mask=there)
    encoder: Any = model.vision_tower
    rows = torch.zeros(4, 2, encoder.rows, encoder.width)
    rows[there] = encoder(pixels[there])
    numbers = torch.arange(2)[None, :, None].expand(4, -1, encoder.rows).flatten(1)
    stored = model(
        **given, features=rows.flatten(1, 2), image_ids=numbers,
        visual_mask=there[..., None].expand(-1, -1, encoder.rows).flatten(1),
        object_ids=torch.arange(encoder.rows).expand(4, 2, -1).flatten(1),
    )  # fmt: skip
    torch.testing.assert_close(found, stored)
    assert found.isfinite().all()
    other = model(**given, pixels=pixels.flip(3), visual_mask=there)
    assert not torch.allclose(other[0], found[0], atol=1e-4) and torch.allclose(other[2], found[2], atol=1e-5)


@pytest.mark.parametrize("remove_batch_norm", [False, True])
def test_convolution_adapters_go_into_the_model(remove_batch_norm: bool) -> None:
    model, given = model_of(), inputs()
    with torch.no_grad():
        before = model(**given)
    section = Peft(
        method="convolution",
        options={"adapter_type": "front/middle/back/transition-bottleneck", "remove_batch_norm": remove_batch_norm},
        frozen_statistics=["batch_norms"],
    )
    attached = attach(model, section)
    torch.testing.assert_close(attached.model(**given), before)
    assert len(attached.modules) == 5 * (4 if remove_batch_norm else 7)
    attached.model.train()
    statistics = {name: each.clone() for name, each in model.named_buffers() if "quincunx_" not in name}
    attached.model(**given).square().sum().backward()
    for name, each in model.named_buffers():
        assert name not in statistics or torch.equal(each, statistics[name]), name
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == ("vision_tower" in name and "quincunx_" in name), name


@pytest.mark.parametrize(
    ("word", "within"), [("vision", "vision_tower."), ("vision_last_layer", "vision_tower.visual.layer4.")]
)
def test_it_is_unfrozen_by_words(word: str, within: str) -> None:
    model, given = model_of(), inputs()
    attach(model, Peft(method="bottleneck", train=[word]))
    trained = [
        name for name, parameter in model.named_parameters() if parameter.requires_grad and "quincunx_" not in name
    ]
    assert trained and all(name.startswith(within) for name in trained)
    model.train()
    assert model.vision_tower is not None and model.vision_tower.training
    model(**given).square().sum().backward()
    assert all(model.get_parameter(name).grad is not None for name in trained)


@pytest.mark.parametrize(
    "objective", [Saying(), Choosing("scores"), Pretraining(["lm"])], ids=lambda each: type(each).__name__
)
def test_a_batch_that_is_cut_is_refused_with_the_setting_that_helps(objective: Objective) -> None:
    model: Any = model_of().train()
    step = Step(model, objective, cpu(), plan(chunk_samples=1), seed=5)
    batch = Batch({"x": torch.zeros(3, 1)}, torch.arange(3), [0, 1, 2])
    assert step.cut(batch) is not None  # nothing of it is trained: it keeps its statistics
    model.vision_tower.requires_grad_(True)
    model.train()
    assert len(step.cut(Batch({"x": torch.zeros(1, 1)}, torch.arange(1), [0])) or [0]) == 1
    with pytest.raises(RunError, match=r"bn1 .*, or set unfreeze\.hold_batch_norms=true"):
        step.cut(batch)
    assert Summed.statistics_remedy.startswith("put the module in eval mode")


def test_it_stays_as_it_is_where_nothing_of_it_is_trained() -> None:
    model, given = model_of(), inputs()
    attach(model, Peft(method="bottleneck"))
    before = copy.deepcopy(model.vision_tower)
    model.train()
    model(**given)
    assert before is not None and model.vision_tower is not None
    for (name, each), old in zip(model.vision_tower.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(each, old), name


@pytest.mark.parametrize("pooled", [False, True])
def test_adapters_of_the_language_model_pass_it_over(pooled: bool) -> None:
    model = model_of(pooled=pooled)
    assert (
        model.vision_tower is not None and not model.vision_tower.attends
    )  # the attention that pools is none of theirs
    attached = attach(model, Peft(method="task_lora", options={"rank": 2}))
    assert attached.modules and not any("vision_tower" in path for path in attached.modules)
