"""Parameters and memory before training, against hand computation and against what autograd really keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.config.schema import Sizes
from quincunx.data.batch import Batch
from quincunx.engine.experiment import Parts
from quincunx.engine.footprint import count_parameters, estimate_memory
from quincunx.engine.objective import Objective, Summed
from quincunx.nn.rows import attach_rows
from quincunx.recipes import recipe_of, schema_of
from runner import tiny
from toys import Contrastive, Encoder, pairs, plan


class TwoMaps(nn.Module):
    """x W1 -> relu -> W2."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(functional.relu(self.first(x)))


class Squares(Summed):
    def weights(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(len(batch))}

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        return {"loss": model(chunk["x"]).square().sum()}


def rows(count: int, length: int | None) -> Batch:
    """Return `count * length` rows of width 8, length being 3 where it is not known."""
    length = length or 3
    lengths = torch.full((count,), length)
    return Batch({"x": torch.ones(count, length, 8)}, torch.arange(count), list(range(count)), lengths)


def parts(objective: Objective | None = None) -> Parts:
    return Parts(TwoMaps(), objective or Squares(), rows)


WEIGHTS = 4 * (8 * 16 + 16 + 16 * 4 + 4)
POSITION = 4 * (8 + 16 + 4)
"""Bytes kept for each row: the input of the first map, that of the second (also relu's output), that of the square."""


def test_memory_by_hand():
    found = estimate_memory(parts(), plan(batch_size=5, sizes=Sizes(train=10, longest=7)), torch.float32)
    assert found == {
        "weights": WEIGHTS,
        "gradients": WEIGHTS,
        "optimizer": 2 * WEIGHTS,
        "activations": 5 * 7 * POSITION,
        "total": 4 * WEIGHTS + 5 * 7 * POSITION,
    }


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({"chunk_samples": 2}, 2),
        ({"chunk_samples": 9}, 5),
        ({"chunk_tokens": 21}, 3),
        ({"chunk_tokens": 6}, 1),
        ({"chunk_tokens": 28, "chunk_samples": 3}, 3),
    ],
)
def test_memory_is_that_of_the_largest_chunk(limits: dict[str, Any], count: int):
    made = plan(batch_size=5, sizes=Sizes(train=10, longest=7), **limits)
    found = estimate_memory(parts(), made, torch.float32)
    assert found is not None
    assert found["activations"] == count * 7 * POSITION


def test_an_unknown_length_is_the_longest_that_the_model_takes():
    made = plan(batch_size=5, sizes=Sizes(train=10), chunk_tokens=6)
    found = estimate_memory(parts(), made, torch.float32)
    assert found is not None
    assert found["activations"] == 2 * 3 * POSITION


def test_frozen_parameters_take_no_gradient_and_shared_ones_count_once():
    model = TwoMaps()
    shared = nn.ModuleDict({"a": model, "b": model})
    for parameter in model.first.parameters():
        parameter.requires_grad = False
    frozen = 8 * 16 + 16
    assert count_parameters(Parts(shared, Squares())) == {"trainable": WEIGHTS // 4 - frozen, "total": WEIGHTS // 4}
    found = estimate_memory(Parts(model, Squares(), rows), plan(), torch.float32, optimizer_states=1)
    assert found is not None
    assert found["weights"] == WEIGHTS
    assert found["gradients"] == found["optimizer"] == WEIGHTS - 4 * frozen


def test_what_the_objective_owns_counts():
    class Scaled(Squares):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))
            self.register_buffer("queue", torch.zeros(5))

    found = estimate_memory(parts(Scaled()), plan(), torch.float32)
    assert found is not None
    assert found["weights"] == WEIGHTS + 4 * 8
    assert found["gradients"] == WEIGHTS + 4 * 3
    assert count_parameters(parts(Scaled()))["total"] == WEIGHTS // 4 + 3


def test_nothing_is_estimated_without_a_sample_or_where_values_decide():
    assert estimate_memory(Parts(TwoMaps(), Squares()), plan(), torch.float32) is None

    class Looks(TwoMaps):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if bool((x > 0).all()) else x

    assert estimate_memory(Parts(Looks(), Squares(), rows), plan(), torch.float32) is None


def kept(model: nn.Module, loss: Any) -> int:
    """Return the bytes of all tensors that autograd keeps for the backward pass, the model's own left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    held: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        held.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss()
    return sum(tensor.untyped_storage().nbytes() for address, tensor in held.items() if address not in own)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention.kind": "none"},
        {"encoder.pooling": "cls"},
        {"encoder.tied_weights": True, "chunking.samples": 3},
        {"encoder.dropout": 0.0, "encoder.attention_dropout": 0.0},
        {"attention.options": {"softmax": {"weight_dropout": 0.1}}},
    ],
    ids=str,
)
def test_the_estimate_is_what_autograd_keeps(changes):
    """The classifier of long_range, on real tensors of the longest length, dropout included."""
    config = schema_of("long_range").config.model_validate(tiny(changes))
    recipe = recipe_of("long_range")
    config, _ = recipe.decide(config)
    made = recipe.parts(config)
    limit = config.chunking.samples
    estimate = estimate_memory(
        made, plan(batch_size=16, chunk_samples=limit, sizes=Sizes(train=9, longest=23)), torch.float32
    )
    batch = made.sample(limit or 16, 23)
    context = attach_rows(made.model, made.objective)
    if context is not None:
        context.set(0, batch.rows)
    made.model.train()
    measured = kept(made.model, lambda: made.objective.loss(made.model, batch))
    assert estimate is not None
    assert estimate["activations"] == pytest.approx(measured, rel=0.02)


def test_represented_objectives_are_estimated_for_their_roles():
    made = Parts(Encoder(dropout=0.0), Contrastive(), lambda count, length: pairs(count))
    found = estimate_memory(made, plan(), torch.float32)
    assert found is not None
    assert found["activations"] > 10 * 9 * 12 * 4
    assert made.model.training, "left as it was"
