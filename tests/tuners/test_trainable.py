"""Which of a model's own parameters are trained, and norms that keep their statistics."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from bart_base import BASE, NORMS, bart_base
from quincunx.data.batch import Batch
from quincunx.engine.objective import Summed
from quincunx.engine.step import Step
from quincunx.errors import RunError, UsageError
from quincunx.tuners.adapter import inject
from quincunx.tuners.bottleneck.config import BottleneckConfig
from quincunx.tuners.bottleneck.model import place as place_bottleneck
from quincunx.tuners.convolution.config import ConvolutionConfig
from quincunx.tuners.convolution.model import place as place_convolution
from quincunx.tuners.trainable import (
    WORDS,
    BitFitConfig,
    NormsConfig,
    freeze,
    freeze_batch_norm_statistics,
    freeze_layer_norms,
    part_of,
    place_bitfit,
    place_norms,
    select,
    unfreeze,
)
from tiny_models import MODELS, inputs_for, output_of
from toys import cpu, plan


def llava() -> nn.Module:
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    text: dict[str, Any] = {
        "model_type": "llama",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 24,
        "vocab_size": 40,
    }
    vision: dict[str, Any] = {
        "model_type": "clip_vision_model",
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "image_size": 32,
        "patch_size": 8,
    }
    with torch.device("meta"):
        return LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text))


def clip_and_bart() -> nn.Module:
    """Return a model with a ResNet as CLIP names it and a BART, as VL-Adapter's have."""
    from reference.tuners_convolution import ResNet

    model = nn.Module()
    model.visual, model.language_model = ResNet("clip"), MODELS["bart"]()
    model.visual_mapper = nn.Linear(24, 16)
    return model


def count(model: nn.Module, *rules: str) -> int:
    return sum(model.get_parameter(name).numel() for name in select(model, rules).names)


def test_a_bart_of_the_published_size_has_the_published_counts() -> None:
    model = bart_base()
    assert count(model, "norms") == NORMS == 49_152
    assert len(select(model, ["norms"]).names) == 2 * 32
    assert count(model, "biases") == 125_952
    assert count(model, "head") == 50_265 * 768
    assert count(model, "language_model") == BASE


def test_words_mean_what_they_say() -> None:
    bart, t5, llama = (MODELS[name]() for name in ("bart", "t5", "llama"))
    assert select(t5, ["relative_bias"]).names == (
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    )
    assert select(t5, ["embeddings"]).names == ("shared.weight",)
    assert all(name.endswith("norm.weight") for name in select(t5, ["norms"]).names)
    assert len(select(t5, ["norms"]).names) == 2 * 2 + 1 + 2 * 3 + 1
    assert select(llama, ["head"]).names == ("lm_head.weight",)
    assert len(select(llama, ["norms"]).names) == 5
    assert select(bart, ["embeddings"]).names == (
        "model.shared.weight",
        "model.encoder.embed_positions.weight",
        "model.decoder.embed_positions.weight",
    )
    last = select(bart, ["last_layer"]).names
    assert {name.split(".")[1] for name in last} == {"encoder", "decoder"}
    assert all(".layers.1." in name for name in last) and len(last) == 16 + 26
    resnet = select(MODELS["resnet"](), ["batch_norms"])
    assert len(resnet.names) == 2 * (1 + 4 * 3 + 2)
    assert select(MODELS["resnet"](), ["head"]).names == ("classifier.1.weight", "classifier.1.bias")


def test_biases_of_a_model_without_any_are_not_what_is_called_so_besides() -> None:
    with pytest.raises(UsageError, match="T5ForConditionalGeneration has no parameters that are biases"):
        select(MODELS["t5"](), ["biases"])


def test_what_is_tied_is_said() -> None:
    for name, embeddings in (("bart", "model.shared"), ("t5", "shared")):
        for word in ("head", "embeddings"):
            [note] = select(MODELS[name](), [word, "norms"]).notes
            assert note.startswith(f"The head's weight is that of {embeddings}") and "training one" in note
    assert select(MODELS["bart"](), ["head"]).names == ("model.shared.weight",)
    assert select(MODELS["llama"](), ["head", "embeddings"]).notes == ()


def test_paths_name_parameters_or_modules_that_hold_them() -> None:
    model = MODELS["bart"]()
    assert select(model, ["model.encoder.layers.0.fc1"]).names == (
        "model.encoder.layers.0.fc1.weight",
        "model.encoder.layers.0.fc1.bias",
    )
    assert select(model, ["model.*.layers.1.fc2.bias"]).names == (
        "model.encoder.layers.1.fc2.bias",
        "model.decoder.layers.1.fc2.bias",
    )
    assert len(select(model, ["model.encoder.layers.1"]).names) == 16


def test_a_later_rule_wins() -> None:
    model = MODELS["bart"]()
    every = {*select(model, ["language_model"]).names}
    assert {*select(model, ["language_model", "-embeddings"]).names} == every - {*select(model, ["embeddings"]).names}
    again = {*select(model, ["language_model", "-embeddings", "head"]).names}
    assert "model.shared.weight" in again and "model.encoder.embed_positions.weight" not in again
    with pytest.raises(UsageError, match="-head takes nothing away"):
        select(model, ["norms", "-head"])


def test_what_names_nothing_is_refused_with_what_may_have_been_meant() -> None:
    with pytest.raises(UsageError, match="did you mean norms"):
        select(MODELS["bart"](), ["norm"])
    with pytest.raises(UsageError, match=r"did you mean model\.encoder\.layers\.1\.fc1"):
        select(MODELS["bart"](), ["model.encoder.layer.1.fc1"])
    for word in ("vision", "connector", "vision_last_layer", "batch_norms"):
        with pytest.raises(UsageError, match=f"no parameters that are {word}"):
            select(MODELS["bart"](), [word])


def test_parameters_are_made_trained_and_not() -> None:
    model = MODELS["bart"]()
    model.requires_grad_(False)
    chosen = unfreeze(model, ["last_layer"])
    freeze(model, ["norms"])
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {*chosen.names} - {*select(model, ["norms"]).names} and len(trained) == 42 - 10


@pytest.mark.parametrize("word", sorted({*WORDS} - {"vision", "vision_last_layer", "connector", "relative_bias"}))
def test_parts_of_adapters_are_never_meant(word: str) -> None:
    model = MODELS["resnet" if word == "batch_norms" else "bart"]()
    before = [*select(model, [word]).names]
    if word == "batch_norms":
        placement = place_convolution(model, ConvolutionConfig(adapter_type="front/middle/transition-bottleneck"))
    else:
        placement = place_bottleneck(model, BottleneckConfig(reduction_factor=2, norm_before=True))
    inject(model, placement)
    after = select(model, [word]).names
    assert [name.replace(".base_layer", "") for name in after] == before
    assert all(name in dict(model.named_parameters()) for name in after)
    # a path is that of the model as it was
    if word == "biases":
        assert select(model, ["model.encoder.layers.0.fc2"]).names == (
            "model.encoder.layers.0.fc2.base_layer.weight",
            "model.encoder.layers.0.fc2.base_layer.bias",
        )


def test_parts_of_a_vision_language_model() -> None:
    model = llava()
    for path, part in (
        ("model.vision_tower.vision_model.encoder.layers.0.mlp.fc1", "vision"),
        ("model.multi_modal_projector.linear_1.weight", "connector"),
        ("model.language_model.layers.0.self_attn.q_proj", "language"),
        ("lm_head", "language"),
    ):
        assert part_of(model, path) == part
    every = {name for name, _ in model.named_parameters()}
    parts = [{*select(model, [word]).names} for word in ("vision", "connector", "language_model")]
    assert set().union(*parts) == every and sum(map(len, parts)) == len(every)
    last = select(model, ["vision_last_layer"]).names
    assert last and all(".encoder.layers.2." in name for name in last)
    assert all(".language_model.layers.1." in name for name in select(model, ["last_layer"]).names)


def test_parts_of_other_models() -> None:
    assert part_of(MODELS["bart"](), "model.encoder.layers.0.fc1") == "language"
    assert part_of(MODELS["clip"](), "encoder.layers.0.mlp.fc1") == "vision"
    assert part_of(MODELS["resnet"](), "resnet.encoder.stages.0") == "vision"
    # the innermost name wins, as in a vision encoder that ends with what joins it to the language model
    assert part_of(nn.Module(), "visual.merger.mlp.0") == "connector"
    assert part_of(nn.Module(), "visual.blocks.0") == "vision"
    assert part_of(nn.Module(), "encoder.layers.0") == ""


def test_an_encoder_of_pictures_beside_a_decoder_of_words() -> None:
    from transformers import VisionEncoderDecoderModel

    model: Any = VisionEncoderDecoderModel(encoder=MODELS["clip"](), decoder=_decoder())
    assert part_of(model, "encoder.encoder.layers.0.mlp.fc1") == "vision"
    assert part_of(model, "decoder.model.layers.0.mlp.up_proj") == "language"


def _decoder() -> nn.Module:
    model: Any = MODELS["llama"]()
    model.config.is_decoder = True
    model.config.add_cross_attention = True
    return model


def test_the_last_stage_of_a_resnet_is_its_last_layer() -> None:
    model = clip_and_bart()
    last = select(model, ["vision_last_layer"]).names
    assert last and all(name.startswith("visual.layer2.") for name in last)
    assert len(last) == len([*model.get_submodule("visual.layer2").parameters()])
    assert select(model, ["connector"]).names == ("visual_mapper.weight", "visual_mapper.bias")
    assert all(".stages.1." in name for name in select(MODELS["resnet"](), ["vision_last_layer"]).names)


def _moved(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("compiled", [False, True])
def test_batch_norms_keep_their_statistics_whatever_mode_the_model_is_put_into(compiled: bool) -> None:
    model = MODELS["resnet"]()
    inputs = inputs_for(model)
    expected = output_of(model, inputs)
    held = freeze_batch_norm_statistics(model)
    assert len(held.frozen) == 15 and held.without_effect == ()
    before = copy.deepcopy(model.state_dict())
    torch.compiler.reset()
    called: Any = torch.compile(model, backend="eager") if compiled else model
    for _ in range(2):
        model.train()
        torch.testing.assert_close(output_of(called, inputs), expected)
    assert not _moved(model, before)
    assert model.training and not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))


def test_batch_norms_that_keep_their_statistics_let_a_batch_be_cut() -> None:
    """Which is asked of their modes, before the first pass."""
    model: Any = MODELS["resnet"]().train()
    pictures = inputs_for(model)["pixel_values"]
    batch = Batch({"pixel_values": pictures}, torch.arange(4), [0, 1, 2, 3])
    model.requires_grad_(False)
    unfreeze(model, ["head"])
    with pytest.raises(RunError, match="computes statistics over the batch"):
        Step(model, Logits(), cpu(), plan(chunk_samples=1), seed=5).gradient(0, [batch])
    held = freeze_batch_norm_statistics(model)
    found: list[torch.Tensor] = []
    for size in (None, 1, 3):
        model.zero_grad()
        step = Step(model.train(), Logits(), cpu(), plan(chunk_samples=size), seed=5)
        step.gradient(0, [batch])
        found.append(torch.cat([p.grad.flatten() for p in step.parameters if p.grad is not None]))
    for each in found[1:]:
        torch.testing.assert_close(each, found[0], rtol=1e-4, atol=1e-5)
    held.release()
    assert all(norm.training for norm in model.train().modules() if isinstance(norm, nn.BatchNorm2d))


class Logits(Summed):
    """Squares of what a classifier gives."""

    def weights(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(len(batch))}

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, torch.Tensor]:
        return {"loss": output_of(model, chunk.tensors).square().sum()}


def test_a_copy_keeps_them_too_and_they_can_be_let_go() -> None:
    model = MODELS["resnet"]()
    held = freeze_batch_norm_statistics(model)
    again = freeze_batch_norm_statistics(model)  # nothing is held twice
    other = copy.deepcopy(model).train()
    before = copy.deepcopy(other.state_dict())
    output_of(other, inputs_for(model))
    assert not _moved(other, before)
    again.release()
    held.release()
    output_of(model.train(), inputs_for(model))
    assert len(_moved(model, before)) == 3 * 15


def test_weights_of_norms_that_keep_their_statistics_are_trained() -> None:
    model = MODELS["resnet"]()
    model.requires_grad_(False)
    unfreeze(model, ["batch_norms"])
    freeze_batch_norm_statistics(model)
    output_of(model.train(), inputs_for(model)).sum().backward()
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    assert len(trained) == 30 and all(bool(p.grad.any()) for p in trained if p.grad is not None)


def test_layer_norms_have_nothing_to_keep() -> None:
    for name, norms in (("bart", 12), ("t5", 12), ("llama", 5)):
        model = MODELS[name]()
        held = freeze_layer_norms(model)
        assert held.frozen == () and len(held.without_effect) == norms
        output_of(model.train(), inputs_for(model))
        assert not any(model.get_submodule(path).training for path in held.without_effect)
    assert freeze_batch_norm_statistics(MODELS["bart"]()).frozen == ()


def test_batch_norms_without_statistics_have_nothing_to_keep() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.BatchNorm1d(3), nn.SyncBatchNorm(3))
    held = freeze_batch_norm_statistics(model)
    assert held.frozen == ("1", "2") and held.without_effect == ("0",)


def test_bitfit_trains_biases_and_norms_norms() -> None:
    model = MODELS["bart"]()
    placement = place_bitfit(model, BitFitConfig())
    assert placement.trained == select(model, ["biases"]).names and not placement.adapters
    assert any("disabled or unloaded leaves them as they became" in note for note in placement.notes)
    inject(model, placement)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {*placement.trained}
    assert place_norms(model, NormsConfig()).trained == select(model, ["norms"]).names
    resnet = MODELS["resnet"]()
    assert place_norms(resnet, NormsConfig(batch_norms=True)).trained == select(resnet, ["batch_norms"]).names
    with pytest.raises(UsageError, match="no parameters that are norms"):
        place_norms(resnet, NormsConfig())


def test_methods_take_the_options_that_choose_modules() -> None:
    model = MODELS["bart"]()

    def biases(**options: Any) -> tuple[str, ...]:
        return place_bitfit(model, BitFitConfig(**options)).trained

    assert all(name.endswith(("q_proj.bias", "query.bias")) for name in biases(sites=["query"]))
    assert len(biases(sites=["query"])) == 2 + 4
    assert biases(target_modules=["model.encoder.layers.*.fc1"]) == (
        "model.encoder.layers.0.fc1.bias",
        "model.encoder.layers.1.fc1.bias",
    )
    assert not any(".layers.0." in name for name in biases(leave_out=[0]))
    assert len(biases(leave_out=[0])) == len(biases()) - 8 - 13
    assert len(place_norms(model, NormsConfig(leave_out=["*layernorm_embedding"])).trained) == 2 * 10
    with pytest.raises(UsageError, match="have no parameters that are norms"):
        place_norms(model, NormsConfig(target_modules=["model.encoder.layers.0.fc1"]))
    with pytest.raises(ValueError, match="leave sites out"):
        NormsConfig(sites=["attention"])
