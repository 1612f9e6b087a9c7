"""What an evaluation measures is counted word by word, the same in batches of any size, and falls as a model learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from quincunx.engine.step import Step
from quincunx.recipes.vision_language.data.augment import Augmentation
from quincunx.recipes.vision_language.pretraining.evaluate import PretrainingEvaluator
from quincunx.recipes.vision_language.pretraining.measured import measures_of
from toys import cpu, plan


def evaluated(made: Any, size: int = 10, limit: int | None = 8) -> Any:
    made.model.eval()
    settings = plan(evaluation_batch=size, evaluation_limit=limit)
    return PretrainingEvaluator(made.found.splits.dev, made.asking)(made.model, cpu(), settings)


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_measures_are_those_of_the_reference(make: Callable[..., Any], architecture: str) -> None:
    made = make(architecture=architecture, pretraining={"object_mask_rate": 0.5})
    found = evaluated(made)
    assert tuple(found.scalars) == measures_of(made.config.pretraining.losses)
    rows, losses = made.found.splits.dev, dict[str, list[float]]()
    right, exact = dict[str, list[bool]](), dict[str, list[bool]]()
    before: dict[str, int] = {}
    for number in range(len(rows)):
        item = rows[number]
        row = before.setdefault(item.task.name, 0)
        before[item.task.name] += 1
        if row >= 8:
            continue
        batch = made.asking([item], [row], [row], 0)
        with torch.no_grad():
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "boxes", "visual_mask")}
            ids = {name: batch[name] for name in ("image_ids", "object_ids")}
            features = batch["features"].clone()
            places = batch["region_places"][0].tolist()
            features[0, places] = 0  # the trained vector, added to by the fixture, is tested elsewhere
            features[0, places] += made.model.region_heads.blank
            encoded = made.model.encode(**inputs, **ids, features=features)
            if item.task.name == "regions":
                states = encoded.states[0, batch["input_ids"].shape[1] :][places]
                for name, scores in made.model.region_heads(states).items():
                    if name == "feat":
                        distances = torch.nn.functional.smooth_l1_loss(
                            scores, batch["features"][0, places], reduction="none"
                        )
                        losses.setdefault(name, []).extend(distances.mean(1).tolist())
                        continue
                    targets = batch["region_names" if name == "obj" else "region_attributes"][0].tolist()
                    chances = scores.softmax(-1)
                    losses.setdefault(name, []).extend(
                        -math.log(chances[i, target]) for i, target in enumerate(targets)
                    )
                    right.setdefault(name, []).extend((scores.argmax(-1) == torch.tensor(targets)).tolist())
                continue
            logits = made.model(batch["input_ids"], encoded=encoded, labels=batch["labels"])[0]
        targets = batch["labels"][0].tolist()
        hits = [int(logits[place].argmax()) == target for place, target in enumerate(targets)]
        losses.setdefault(item.task.name, []).extend(
            -math.log(logits[place].softmax(-1)[target]) for place, target in enumerate(targets)
        )
        right.setdefault(item.task.name, []).extend(hits)
        exact.setdefault(item.task.name, []).append(all(hits))
    wanted = {f"{name}/loss": sum(each) / len(each) for name, each in losses.items()}
    wanted["loss"] = sum(wanted.values()) / len(wanted)
    wanted |= {f"{name}/accuracy": sum(each) / len(each) for name, each in right.items()}
    wanted |= {f"{name}/exact": sum(each) / len(each) for name, each in exact.items()}
    assert dict(found.scalars) == pytest.approx(wanted, rel=1e-4)
    assert len(found.values["caption/loss"]) == 8


def test_batches_change_nothing(make: Callable[..., Any]) -> None:
    made = make()
    whole, small = evaluated(made, 200, 20), evaluated(made, 3, 20)
    assert dict(small.scalars) == pytest.approx(dict(whole.scalars), rel=1e-4)
    for name, values in whole.values.items():
        assert dict(small.values[name]) == pytest.approx(dict(values), rel=1e-3, abs=1e-5)
    assert evaluated(made, 200, 20).scalars == whole.scalars


def test_a_limit_holds_for_each_loss(make: Callable[..., Any]) -> None:
    made = make(["lm", "qa"])
    rows = PretrainingEvaluator(made.found.splits.dev, made.asking)
    limited = rows(made.model.eval(), cpu(), plan(evaluation_limit=3))
    assert {name: len(each) for name, each in limited.values.items()} == {"lm/loss": 3, "qa/loss": 3}
    free = replace(rows, limited=False)(made.model, cpu(), plan(evaluation_limit=3))
    assert len(free.values["lm/loss"]) > 3


def test_pictures_stay_as_they_are(make: Callable[..., Any]) -> None:
    made = make(["caption"])
    moved = replace(made.asking, asking=replace(made.asking.asking, augmentation=Augmentation()))
    assert moved.still == made.asking


def test_all_losses_are_learnt_together(make: Callable[..., Any]) -> None:
    made = make(pretraining={"object_mask_rate": 0.4})
    before = evaluated(made).scalars
    made.model.train()
    step = Step(made.model, made.objective, cpu(), plan(), seed=5)
    optimizer = torch.optim.Adam(made.model.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(2)
    for update in range(25):
        chosen = torch.randperm(len(made.found.splits.train), generator=generator)[:24].tolist()
        optimizer.zero_grad()
        step.gradient(update, [made.batch(chosen, seed=update)])
        optimizer.step()
    after = evaluated(made).scalars
    fallen = {name for name, value in after.items() if name.endswith("/loss") and value < before[name]}
    assert fallen == {name for name in after if name.endswith("/loss")}
    assert after["loss"] < 0.8 * before["loss"]
