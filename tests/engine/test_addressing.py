"""Tasks reach the modules of a chunk, and reach them again when it is walked back."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from quincunx.data.batch import Batch
from quincunx.engine.objective import Part
from quincunx.engine.step import Step
from quincunx.errors import UsageError
from quincunx.nn.dropout import CounterDropout
from quincunx.tuners.task_linear import TaskLinear
from toys import WIDTH, Contrastive, Encoder, TwoTerms, cpu, labelled, pairs, plan


class Routed(Encoder):
    """An encoder with a map for each of three tasks, computed a second time in the backward pass, dropout included."""

    def __init__(self) -> None:
        super().__init__()
        self.own = TaskLinear(WIDTH, WIDTH, tasks=3, std=0.5)
        self.own_drop = CounterDropout(0.3)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        hidden = super().forward(tokens, lengths)
        again = checkpoint(lambda x: self.own_drop(self.own(x)), hidden, use_reentrant=False)
        assert isinstance(again, Tensor)
        return hidden + again


class RoutedPairs(Contrastive):
    """Queries and documents of a pair belong to its task."""

    def parts(self, batch: Batch) -> list[Part]:
        return [
            Part(part.role, replace(part.batch, tensors={**part.batch.tensors, "tasks": batch["tasks"]}))
            for part in super().parts(batch)
        ]


def tasked(batch: Batch) -> Batch:
    return replace(batch, tensors={**batch.tensors, "tasks": torch.arange(len(batch)) * 2 % 3})


def gradients(represented: bool, batches: list[Batch], **changes: object) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model, objective = Routed().double(), (RoutedPairs() if represented else TwoTerms()).double()
    Step(model, objective, cpu(), plan(**changes), seed=5).gradient(3, batches)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("graphs", ["keep", "replay", "auto"])
@pytest.mark.parametrize("represented", [False, True], ids=["summed", "represented"])
def test_chunks_of_mixed_tasks_whose_layers_are_computed_twice_leave_the_gradient(
    represented: bool, graphs: str
) -> None:
    batches = [
        tasked(pairs(10) if represented else labelled(10)),
        tasked(pairs(4, 1) if represented else labelled(4, 1)),
    ]
    whole = gradients(represented, copy.deepcopy(batches))
    found = gradients(represented, batches, chunk_samples=3, graphs=graphs)
    assert found.keys() == whole.keys() and "own.weight" in found
    for name, value in whole.items():
        assert float((found[name] - value).norm()) <= 1e-12 * max(1.0, float(value.norm())), name


def test_the_gradient_is_that_of_each_example_s_own_map() -> None:
    """Against the same model, in which the map of one task stands for all: only its rows are alike."""
    batch = tasked(labelled(10))
    whole = gradients(False, [batch])["own.weight"]
    assert bool(whole.flatten(1).any(1).all())
    without = replace(batch, tensors={**batch.tensors, "tasks": torch.zeros(10, dtype=torch.int64)})
    alone = gradients(False, [without])["own.weight"]
    assert bool(alone[0].any()) and not alone[1:].any()


def test_after_an_update_nothing_is_known_of_the_next_rows() -> None:
    """An evaluation that forgets to say its tasks must not be given those of the last chunk."""
    torch.manual_seed(0)
    model, batch = Routed().double(), tasked(labelled(4))
    Step(model, TwoTerms().double(), cpu(), plan(), seed=5).gradient(0, [batch])
    with pytest.raises(UsageError, match="which task an example belongs to"):
        model.eval()(batch["tokens"], batch["lengths"])


def test_a_batch_that_does_not_say_its_tasks_is_refused() -> None:
    with pytest.raises(UsageError, match="which task an example belongs to"):
        gradients(False, [labelled(10)])


def test_models_without_tasks_take_no_notice() -> None:
    model: nn.Module = Encoder().double()
    Step(model, TwoTerms().double(), cpu(), plan(), seed=5).gradient(0, [tasked(labelled(4))])
    assert all(p.grad is not None for p in model.parameters())
