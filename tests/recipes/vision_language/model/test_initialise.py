"""From scratch: everything is drawn anew, by its own scheme and its seed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("transformers", reason="the transformers library is not installed")
pytest.importorskip("peft", reason="the peft library is not installed")

from quincunx.config.sections.peft import Peft
from quincunx.errors import UsageError
from quincunx.recipes.vision_language.model.initialise import initialise
from quincunx.tuners.attaching import attach
from vision_language_models import BACKBONES, FEATURES, batch, model_of


def fresh(name: str, seed: int = 0, **options: Any) -> Any:
    model = model_of(name, **options)
    for module in model.modules():  # as of a model that was loaded
        module._is_hf_initialized = True
    for parameter in model.parameters():
        parameter.data += 100
        parameter._is_hf_initialized = True
    initialise(model, seed)
    return model


@pytest.mark.parametrize("name", ["bart", "t5", "pegasus"])
def test_every_weight_is_drawn_anew_and_none_is_large(name: str) -> None:
    model = fresh(name)
    for path, weight in model.named_parameters():
        assert float(weight.detach().abs().max()) < 6, path
        assert bool(weight.any()) or path.endswith("bias"), path
    embeddings = {id(each.weight) for each in model.modules() if isinstance(each, nn.Embedding)}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and id(module.weight) not in embeddings:  # a head may be tied
            assert float(module.weight.detach().std()) < 0.5, path
    assert model(**batch()).isfinite().all()


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_it_is_the_backbone_s_own_scheme(name: str) -> None:
    """The same spread, weight by weight, as in a model that the library has just made."""
    model = fresh(name)
    library = type(model.language_model)(model.config).state_dict()
    for path, weight in model.language_model.state_dict().items():
        expected = library[path]
        if weight.ndim == 2 and weight.numel() >= 256:
            assert 0.75 < float(weight.std() / expected.std()) < 1.33, path
        elif "layer" in path and weight.ndim == 1:
            assert torch.equal(weight, expected), path
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_equal_seeds_give_equal_weights_and_the_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    first, second, other = fresh("t5", 3), fresh("t5", 3), fresh("t5", 4)
    assert torch.equal(torch.get_rng_state(), state)
    for (path, weight), same, another in zip(
        first.named_parameters(), second.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(weight, same), path
        assert weight.ndim == 1 or not torch.equal(weight, another), path


def test_an_image_encoder_keeps_its_weights() -> None:
    vision = nn.Linear(3, FEATURES)
    before = vision.weight.detach().clone()
    model = model_of("bart", vision=vision)
    initialise(model, 0)
    assert torch.equal(vision.weight, before)


@pytest.mark.parametrize("method", ["bottleneck", "lora"])
def test_a_model_with_adapters_is_refused(method: str) -> None:
    model = model_of("bart")
    attach(model, Peft(method=method))
    with pytest.raises(UsageError, match="initialise it before"):
        initialise(model, 0)
    assert set(BACKBONES) >= {"bart"}
