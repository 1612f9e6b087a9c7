"""Heads beside the one that writes: what they are given, whatever stands before, between and behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.nn.routing import routed
from quincunx.recipes.vision_language.model.heads import (
    AnswerHead,
    PointerHead,
    first_state,
    head_inputs,
    visual_states,
)
from quincunx.recipes.vision_language.objective import inputs_of
from vision_language_runs import experiment_of

PROMPTS = {"adapt.encoder_prompts": 3, "adapt.decoder_prompts": 2, "adapt.prompt_width": 8}


@pytest.mark.parametrize("architecture", ["t5", "bart", "pegasus"])
@pytest.mark.parametrize("prompts", [{}, PROMPTS], ids=["plain", "prompts"])
def test_states_are_those_of_each_row_alone(prompts: dict[str, Any], architecture: str, world: Path) -> None:
    settings = {"data.tasks": ["vqa", "refcoco"], "model.build.architecture": architecture, **prompts}
    made = experiment_of(world, settings)
    source: Any = made.source
    numbers = [0, 1, 2, 40, 41]
    batch = made.collate([source[number] for number in numbers], numbers, range(5), 7)
    model: Any = made.parts.model.double().eval()
    lengths, seen = batch["attention_mask"].sum(1), batch["visual_mask"].sum(1)
    assert len(set(lengths.tolist())) > 1 and len(set(seen.tolist())) > 1

    def states(of: Any) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = {name: each.double() if each.is_floating_point() else each for name, each in inputs_of(of).items()}
        with torch.no_grad(), routed(model, of["tasks"]):
            encoded = model.encode(**inputs)
            tokens = visual_states(model, encoded, of["attention_mask"], of["visual_mask"].shape[1])
            return tokens, first_state(model, encoded, of["input_ids"])

    tokens, first = states(batch)
    for row in range(5):
        alone, own = states(batch.select([row]))
        torch.testing.assert_close(tokens[row, : int(seen[row])], alone[0], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(first[row], own[0], rtol=1e-9, atol=1e-11)
        other = (row + 1) % 5
        assert not torch.allclose(tokens[row, 0], tokens[other, 0])


def test_the_first_state_is_the_one_of_what_is_written_behind_it(world: Path) -> None:
    made = experiment_of(world, {"data.tasks": ["vqa"]})
    source: Any = made.source
    batch = made.collate([source[0], source[1]], [0, 1], range(2), 7)
    model: Any = made.parts.model.eval()
    with torch.no_grad():
        encoded = model.encode(**inputs_of(batch))
        with head_inputs(model) as found:
            model(batch["input_ids"], encoded=encoded, labels=batch["labels"])
        first = first_state(model, encoded, batch["input_ids"])
    torch.testing.assert_close(found[0][:, 0], first)
    assert len(found) == 1, "it listens inside alone"


def test_a_pointer_scores_by_scaled_products_and_answers_by_two_maps() -> None:
    torch.manual_seed(0)
    head = PointerHead(4).double()
    state, tokens = torch.randn(3, 4).double(), torch.randn(3, 5, 4).double()
    wanted = torch.stack([head.key(tokens[row]) @ head.query(state[row]) / 2 for row in range(3)])
    torch.testing.assert_close(head(state, tokens), wanted)
    answers = AnswerHead(4, 7)
    assert answers(torch.randn(3, 4)).shape == (3, 7)
    assert [tuple(each.shape) for each in answers.parameters()] == [(8, 4), (8,), (8,), (8,), (7, 8), (7,)]
