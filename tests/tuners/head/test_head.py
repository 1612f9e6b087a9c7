"""The bottleneck beside the head."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bart_base import added
from quincunx.errors import UsageError
from quincunx.nn.routing import attach_tasks, routed
from quincunx.tuners.adapter import Placement, inject
from quincunx.tuners.head.config import HeadConfig
from quincunx.tuners.head.layer import TaskVocabulary
from quincunx.tuners.head.model import place
from reference import tuners_head as reference
from tiny_models import MODELS, inputs_for, output_of, pick

TASKS = ["colour", "shape", "size"]
HEADS = {"bart": "lm_head", "t5": "lm_head", "llama": "lm_head", "bert": "cls.predictions.decoder"}


def scattered(placement: Placement) -> Placement:
    generator = torch.Generator().manual_seed(7)
    for adapter in placement.adapters.values():
        for parameter in adapter.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return placement


def tuned(model: nn.Module, **options: Any) -> Placement:
    placement = scattered(place(model, HeadConfig(**{"reduction_factor": 4, **options})))
    inject(model, placement)
    attach_tasks(model)
    return placement


@pytest.mark.parametrize("name", [*HEADS])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm_before": True, "norm_after": True},
        {"tasks": TASKS},
        {"tasks": TASKS, "share_down": True},
        {"tasks": TASKS, "share_up": True, "norm_before": True},
    ],
    ids=["one", "norms", "tasks", "shared-down", "shared-up"],
)
def test_logits_are_those_of_the_formulas(name: str, options: dict[str, Any]) -> None:
    model = MODELS[name]()
    inputs = inputs_for(model)
    states: list[Tensor] = []
    head = model.get_submodule(HEADS[name])
    head.register_forward_pre_hook(lambda _, args: states.append(args[0]))
    with torch.no_grad():
        base = output_of(model, inputs)
    placement = tuned(model, **options)
    assert [*placement.adapters] == [HEADS[name]]
    tasks = [2, 0, 1, 2] if "tasks" in options else None
    # the last state as the head gets it: where T5's embeddings are tied, divided by the root of its width
    expected = reference.added(states[0], placement.adapters[HEADS[name]].state_dict(), tasks)
    with torch.no_grad(), routed(model, tasks):
        torch.testing.assert_close(output_of(model, inputs), base + expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["bart", "t5", "bert"])
def test_what_is_tied_stays_tied(name: str) -> None:
    model: Any = MODELS[name]()
    embeddings = model.get_input_embeddings()
    inputs = inputs_for(model)
    tuned(model)
    expected = output_of(model, inputs)

    def head() -> Any:
        return model.get_submodule(f"{HEADS[name]}.base_layer")

    assert head().weight is embeddings.weight
    embeddings.weight.data += 0.1 * torch.randn_like(embeddings.weight)
    assert head().weight is embeddings.weight
    assert not torch.allclose(output_of(model, inputs), expected, atol=1e-3)


def test_beams_have_the_tasks_of_their_examples() -> None:
    model: Any = MODELS["t5"]()
    tuned(model, tasks=TASKS, norm_before=True)
    inputs = inputs_for(model)
    inputs.pop("decoder_input_ids")
    said: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 5, "min_new_tokens": 5}
    tasks = [0, 2, 1, 0]
    with routed(model, tasks):
        mixed = model.generate(**inputs, **said)
    for row, task in enumerate(tasks):
        with routed(model, [task]):
            alone = model.generate(**pick(inputs, torch.tensor([row])), **said)
        assert torch.equal(alone[0], mixed[row])
    with routed(model, [1, 1, 2, 2]):
        assert not torch.equal(model.generate(**inputs, **said), mixed)


def test_a_head_of_another_name_is_found_and_one_that_is_not_there_missed() -> None:
    class Reader(nn.Module):
        """Has a head under a name of its own, and says so, as models of transformers do."""

        def __init__(self, says: bool) -> None:
            super().__init__()
            self.body, self.words = nn.Linear(16, 16), nn.Linear(16, 40)
            if says:
                self.get_output_embeddings = lambda: self.words

    assert [*place(Reader(True), HeadConfig()).adapters] == ["words"]
    assert [*place(Reader(False), HeadConfig(target_modules=["words"])).adapters] == ["words"]
    with pytest.raises(UsageError, match="no module that is known as head"):
        place(Reader(False), HeadConfig())
    with pytest.raises(UsageError, match="has 2 such modules"):
        place(Reader(False), HeadConfig(target_modules=["?o*"]))


def test_the_map_of_each_task_serves_states_of_any_shape() -> None:
    torch.manual_seed(0)
    head = TaskVocabulary(3, 11, 4, std=0.5)
    nn.init.normal_(head.bias)
    attach_tasks(head)
    tasks = [3, 0, 0, 2, 1]
    for shape in ((5, 3), (5, 2, 3), (5, 2, 4, 3)):
        x = torch.randn(shape)
        expected = torch.stack([row @ head.weight[t] + head.bias[t] for row, t in zip(x, tasks, strict=True)])
        with routed(head, tasks):
            torch.testing.assert_close(head(x), expected, rtol=1e-5, atol=1e-5)


def test_the_published_size_has_its_parameters() -> None:
    one = added(place, HeadConfig())
    assert one == (768 * 48 + 48) + (48 * 50265 + 50265)
    assert added(place, HeadConfig(tasks=TASKS)) == 3 * one


def test_half_precision_where_it_is_asked_for_is_near() -> None:
    model = MODELS["bart"]()
    tuned(model, tasks=TASKS)
    with torch.no_grad(), routed(model, [0, 1, 2, 0]):
        expected = output_of(model, inputs_for(model))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = output_of(model, inputs_for(model))
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"parallel": False}, "leave parallel out"),
        ({"gate": "middle_y"}, "not over logits"),
        ({"sites": ["head"]}, "leave sites"),
        ({"leave_out": [0]}, "leave_out out"),
        ({"reduction_factors": {"0": 2.0}}, "rather than reduction_factors"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        HeadConfig(**options)
