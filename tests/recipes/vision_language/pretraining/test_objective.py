"""The losses are those of a plain reference, whatever the chunks; what they weigh is known from the data alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quincunx.data.batch import Batch
from quincunx.engine.step import Step
from quincunx.errors import RunError, UsageError
from quincunx.recipes.vision_language.data.record import Picture, Region
from quincunx.recipes.vision_language.model.joint import Encoded
from quincunx.recipes.vision_language.pretraining.heads import RegionHeads, add_region_heads, region_states
from quincunx.recipes.vision_language.pretraining.objective import Pretraining
from quincunx.recipes.vision_language.pretraining.regions import RegionWords, hidden_regions
from toys import cpu, plan
from vision_language_models import batch as small_batch
from vision_language_models import model_of

both = pytest.mark.parametrize("architecture", ["t5", "bart"])


def doubled(batch: Batch) -> Batch:
    tensors = {
        name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in batch.tensors.items()
    }
    return replace(batch, tensors=tensors)


def surprise(logits: Tensor, target: int) -> float:
    values = logits.tolist()
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values)) - values[target]


def huber(one: float, other: float) -> float:
    distance = abs(one - other)
    return 0.5 * distance**2 if distance < 1 else distance - 0.5


@torch.no_grad()
def expected(model: Any, batch: Batch) -> dict[str, float]:
    """Return the terms' sums, row by row without padding, region by region and word by word."""
    sums: dict[str, float] = dict.fromkeys(("answers", "obj", "attr", "feat"), 0.0)
    heads: RegionHeads = model.region_heads
    for row in range(len(batch)):
        one = batch.select([row])
        features = one["features"].clone()
        places = [place for place in one["region_places"][0].tolist() if place >= 0]
        for place in places:
            features[0, place] = heads.blank
        inputs = {name: one[name] for name in ("input_ids", "attention_mask", "boxes", "visual_mask")}
        ids = {name: one[name] for name in ("image_ids", "object_ids")}
        encoded = model.encode(**inputs, **ids, features=features)
        labels = [label for label in one["labels"][0].tolist() if label != -100]
        if labels:
            logits = model(one["input_ids"], encoded=encoded, labels=torch.tensor([labels]))
            losses = [surprise(logits[0, place], label) for place, label in enumerate(labels)]
            sums["answers"] += sum(losses) / len(losses) * float(one["weight"][0])
        for number, place in enumerate(places):
            state = encoded.states[0, one["input_ids"].shape[1] + place]
            hidden = heads.transform(state)
            confidence = float(one["region_confidence"][0, number])
            for name, key in (("obj", "region_names"), ("attr", "region_attributes")):
                target = int(one[key][0, number])
                if target != -100:
                    sums[name] += confidence * surprise(heads.outputs[name](hidden), target)
            found, original = heads.outputs["feat"](hidden).tolist(), one["features"][0, place].tolist()
            sums["feat"] += sum(map(huber, found, original)) / len(original)
    return sums


@both
def test_terms_are_those_of_the_reference(make: Callable[..., Any], architecture: str) -> None:
    made = make(architecture=architecture, pretraining={"ground_weight": 0.5, "grounded": 2})
    made.model.double()
    made.model.region_heads.blank.data.normal_()
    batch = doubled(made.batch(made.some(3)))
    assert {0.5, 1.0, 0.0} == {*batch["weight"].tolist()}
    confidence = batch["region_confidence"]
    batch = replace(batch, tensors={**batch.tensors, "region_confidence": confidence * 0.7})
    found = made.objective.loss(made.model, batch)
    wanted = expected(made.model, batch)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(wanted, rel=1e-10)
    assert min(wanted.values()) > 0
    hidden = (batch["region_places"] >= 0).sum()
    said = (batch["labels"] != -100).any(1).sum()
    known = {"answers": float(said), "obj": float(hidden), "attr": float(hidden), "feat": float(hidden)}
    assert made.objective.weights(batch) == known


def gradient(made: Any, batches: list[Batch], **cut: int | None) -> Tensor:
    made.model.zero_grad()
    Step(made.model, made.objective, cpu(), plan(**cut), seed=5).gradient(2, batches)
    named = [each.grad for each in made.model.parameters() if each.grad is not None]
    assert made.model.region_heads.blank.grad is not None
    return torch.cat([each.flatten() for each in named])


@both
def test_chunks_of_any_size_give_the_same_gradient(make: Callable[..., Any], architecture: str) -> None:
    made = make(architecture=architecture)
    made.model.double().train()
    numbers = made.some(2)
    batches = [doubled(made.batch(numbers[::2])), doubled(made.batch(numbers[1::2], seed=6))]
    whole = gradient(made, batches)
    for cut in ({"chunk_samples": 1}, {"chunk_samples": 3}, {"chunk_tokens": 60}):
        assert float((gradient(made, batches, **cut) - whole).norm() / whole.norm()) <= 1e-12


@both
def test_hidden_features_reach_the_loss_as_targets_alone(make: Callable[..., Any], architecture: str) -> None:
    made = make(["obj"], architecture=architecture)
    batch = made.batch(range(6))
    assert made.objective.terms == ("obj",)
    assert (batch["labels"] == -100).all()
    found = made.objective.loss(made.model, batch)["obj"]
    other = dict(batch.tensors)
    places = batch["region_places"].clamp(min=0)[..., None].expand(-1, -1, 12)
    other["features"] = batch["features"].scatter(1, places, 9.0)
    assert not torch.equal(other["features"], batch["features"])
    assert torch.equal(made.objective.loss(made.model, replace(batch, tensors=other))["obj"], found)
    found.backward()
    heads = made.model.region_heads
    assert heads.blank.grad.any()
    assert {*heads.outputs} == {"obj"}
    assert all(each.grad is not None for each in heads.parameters())


def test_losses_about_words_alone_need_no_heads(make: Callable[..., Any]) -> None:
    made = make(["lm", "itm"])
    assert made.objective.terms == ("answers",)
    assert made.found.words is None
    batch = made.batch(made.some())
    assert "region_places" not in batch.tensors
    assert made.objective.loss(made.model, batch)["answers"].item() > 0
    with pytest.raises(UsageError, match="pretraining needs a loss; there are lm, qa"):
        Pretraining([])


def test_a_model_without_heads_is_refused(make: Callable[..., Any]) -> None:
    made = make(["obj"])
    del made.model.region_heads
    with pytest.raises(UsageError, match="no heads that find regions: add_region_heads"):
        made.objective.loss(made.model, made.batch(range(3)))


def test_an_update_without_known_regions_is_no_division_by_nought(make: Callable[..., Any]) -> None:
    made = make(["lm", "attr"])
    batch = made.batch(made.some())
    unknown = torch.full_like(batch["region_attributes"], -100)
    batch = replace(batch, tensors={**batch.tensors, "region_attributes": unknown})
    assert made.objective.weights(batch)["attr"] == 0
    made.model.zero_grad()
    Step(made.model, made.objective, cpu(), plan(), seed=5).gradient(0, [batch])
    grads = [each.grad for each in made.model.parameters() if each.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)
    only = batch.select([row for row in range(len(batch)) if float(batch["weight"][row]) == 0])
    with pytest.raises(RunError, match="nothing to learn from"):
        Step(made.model, made.objective, cpu(), plan(), seed=5).gradient(0, [only])


@pytest.mark.parametrize("backbone", ["t5", "bart", "mbart", "pegasus"])
@pytest.mark.parametrize("before", [0, 3])
def test_states_are_those_of_the_hidden_regions(backbone: str, before: int) -> None:
    """Where padding stands behind everything too, and behind a soft prompt."""
    model, inputs = model_of(backbone), small_batch()
    inputs["features"] = torch.nan_to_num(inputs["features"])
    labels = inputs.pop("labels")
    places = torch.tensor([[0, 3], [5, 1], [-1, -1], [2, -1]])
    with torch.no_grad():
        encoded = model.encode(**inputs)
        prompt = torch.zeros(4, before, encoded.states.shape[2])
        longer = Encoded(torch.cat([prompt, encoded.states], 1), encoded.mask)
        batch = Batch({**inputs, "labels": labels, "region_places": places}, torch.arange(4), range(4))
        found = region_states(model, longer, batch)
        for row in range(4):
            words, rows = int(inputs["attention_mask"][row].sum()), int(inputs["visual_mask"][row].sum())
            own = {
                name: each[row : row + 1, : words if name in ("input_ids", "attention_mask") else rows]
                for name, each in inputs.items()
            }
            states = model.encode(**own).states[0]
            for number, place in enumerate(places[row].tolist()):
                if place >= 0:
                    torch.testing.assert_close(found[row, number], states[words + place], rtol=1e-4, atol=1e-5)


def test_features_are_hidden_where_they_are_meant_to_be() -> None:
    heads = RegionHeads(8, 3, 0, 4, features=False)
    assert {*heads.outputs} == {"obj"}
    features, places = torch.rand(2, 5, 4) + 1, torch.tensor([[4, 0], [2, -1]])
    heads.blank.data.fill_(-2)
    found = heads.hide(features, places)
    for row, hidden in enumerate(({0, 4}, {2})):
        for place in range(5):
            assert torch.equal(found[row, place], heads.blank if place in hidden else features[row, place])
    assert torch.equal(heads.hide(features, places[:, :0]), features)
    assert [*heads(torch.rand(2, 0, 8))["obj"].shape] == [2, 0, 3]


def test_hidden_regions_know_their_words() -> None:
    box = (0.0, 0.0, 1.0, 1.0)
    regions = (Region(box, "dog", "red", 0.5), Region(box, "cat"), Region(box, None, "blue", 0.25), Region(box, "owl"))
    words = RegionWords.of(regions[:3])
    assert words == RegionWords(("cat", "dog"), ("blue", "red"))
    pictures = [Picture("a", 9, 9, regions=regions), Picture("b", 9, 9, regions=regions)]
    generator = np.random.Generator(np.random.Philox(4))
    found = hidden_regions(pictures, [4, 2], words, 0.99, generator)
    names, attributes = [1, 0, -100, -100, 1, 0], [1, -100, 0, -100, 1, -100]
    confidence = [0.5, 1.0, 0.25, 1.0, 0.5, 1.0]
    places = found["region_places"].tolist()
    assert len(places) == 5
    assert found["region_names"].tolist() == [names[place] for place in places]
    assert found["region_attributes"].tolist() == [attributes[place] for place in places]
    assert found["region_confidence"].tolist() == [confidence[place] for place in places]
    assert [len(each) for each in hidden_regions([], [], words, 0.5, generator).values()] == [0] * 4


def test_heads_need_a_token_for_each_region() -> None:
    words = RegionWords(("dog",), ())
    model = model_of("t5")
    assert add_region_heads(model, words, ["lm", "qa"]) is None
    assert not hasattr(model, "region_heads")
    before = {name: each.clone() for name, each in model.state_dict().items()}
    model.requires_grad_(False)
    heads = add_region_heads(model, words, ["lm", "obj", "feat"])
    assert heads is not None
    assert all(each.requires_grad for each in heads.parameters())
    # as the backbone's own maps begin
    assert not any(each.any() for name, each in heads.named_parameters() if name.endswith("bias") or name == "blank")
    assert abs(dict(heads.named_parameters())["outputs.feat.weight"].std().item() - 1 / 4) < 0.06
    assert model.state_dict().keys() - before.keys() == {f"region_heads.{name}" for name in heads.state_dict()}
    with pytest.raises(UsageError, match="no region of the training pictures has an attribute, which the loss attr"):
        add_region_heads(model, words, ["attr"])
    from quincunx.recipes.vision_language.model.downsample import SparseSample

    for other in (model_of("t5", downsample=SparseSample(2)), model_of("t5", vision=nn.Identity())):
        with pytest.raises(UsageError, match=r"obj of pretraining\.losses look at the token of each region"):
            add_region_heads(other, words, ["obj"])
