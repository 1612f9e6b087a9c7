"""What is trained, by words; and that nothing else moves."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")
pytest.importorskip("peft", reason="the peft library is not installed")

from compression_toys import batch, compressor
from quincunx.config.sections.peft import Peft
from quincunx.errors import UsageError
from quincunx.recipes.compression.model.trained import choose_trained

NEW = {"new.slots", "new.starts"}
EMBEDDINGS, HEAD = "backbone.model.embed_tokens.weight", "backbone.lm_head.weight"


def moved(model):
    """Return which parameters one step changes."""
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1)
    states = model.states(batch(), ["forward", "reconstruction"])
    sum(model.logits(each).square().sum() for each in states.values()).backward()
    optimizer.step()
    return {name for name, each in model.named_parameters() if not torch.equal(each, before[name])}


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (["new"], NEW),
        (["embeddings"], NEW | {EMBEDDINGS}),
        (["head"], NEW | {HEAD}),
        (["new", "embeddings", "head"], NEW | {EMBEDDINGS, HEAD}),
    ],
)
def test_a_word_trains_its_part_and_nothing_else(train, expected):
    model = compressor("llama")
    found = choose_trained(model, train)
    sizes = {name: each.numel() for name, each in model.named_parameters()}
    assert found.trainable == sum(sizes[name] for name in expected) and found.total == sum(sizes.values())
    assert moved(model) == expected
    assert found.notes[0].startswith(f"{found.trainable:,} of {found.total:,} parameters are trained")


def test_all_trains_everything_again():
    model = compressor("llama")
    choose_trained(model, ["new"])
    assert choose_trained(model, ["all"]).trainable == sum(each.numel() for each in model.parameters())
    assert moved(model) == {name for name, _ in model.named_parameters()}


def test_adapters_are_trained_in_a_frozen_model():
    model = compressor("llama")
    choose_trained(model, ["lora"], Peft(method="lora", options={"r": 2, "target_modules": ["q_proj"]}))
    names = {name for name, each in model.named_parameters() if each.requires_grad}
    assert names - NEW and all("lora_" in name and "q_proj" in name for name in names - NEW)
    found = moved(model)
    assert {name for name in found if "lora_B" in name} and found <= names
    default = compressor("llama")
    choose_trained(default, ["lora"])
    assert any("lora_" in name for name, each in default.named_parameters() if each.requires_grad)


def test_tied_head_and_embeddings_are_said_to_be_one():
    model = compressor("gpt2")
    found = choose_trained(model, ["head"])
    assert "training the head trains both" in found.notes[1]
    assert moved(model) == NEW | {"backbone.transformer.wte.weight"}
    assert len(choose_trained(model, ["head", "embeddings"]).notes) == 1


def test_training_nothing_and_contradictions_are_refused():
    bare = compressor("llama", slots=0, starts=False)
    with pytest.raises(UsageError, match=r"nothing would be trained\. Add embeddings"):
        choose_trained(bare, ["new"])
    assert choose_trained(bare, ["head"]).trainable == bare.backbone.lm_head.weight.numel()
    with pytest.raises(UsageError, match="'heads'"):
        choose_trained(compressor(), ["heads"])
    with pytest.raises(UsageError, match="all and adapters"):
        choose_trained(compressor(), ["all", "lora"])
