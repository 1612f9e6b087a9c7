"""Parameters and memory before training, against hand computation and against what autograd really keeps."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional
from torch.optim import Optimizer

from quincunx.config.schema import Sizes
from quincunx.data.batch import Batch
from quincunx.engine.experiment import Parts
from quincunx.engine.footprint import count_parameters, estimate_memory, optimizer_memory
from quincunx.engine.joined import Joined
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


class Chosen(Squares):
    """Ends with an operation that saves what it gives."""

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        return {"loss": model(chunk["x"]).softmax(-1).sum()}


def test_nothing_is_left_of_a_model_that_was_estimated():
    before = {id(found) for found in gc.get_objects() if type(found) is FakeTensor}
    made = parts(Chosen())
    assert estimate_memory(made, plan(batch_size=5, sizes=Sizes(train=10, longest=7)), torch.float32) is not None
    parameters = [weakref.ref(parameter) for parameter in made.model.parameters()]
    del made
    gc.collect()
    assert [each() for each in parameters] == [None] * 4
    assert not [found for found in gc.get_objects() if type(found) is FakeTensor and id(found) not in before]


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
    found = estimate_memory(Parts(model, Squares(), rows), plan(), torch.float32)
    assert found is not None
    assert found["weights"] == WEIGHTS
    assert found["gradients"] == WEIGHTS - 4 * frozen
    assert found["optimizer"] == 2 * found["gradients"]


class Mixed(nn.Module):
    """Parameters of several numbers of dimensions and types, one of a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.double = nn.Linear(7, 9), nn.Linear(3, 11).double()
        self.kernel = nn.Parameter(torch.ones(2, 3, 4, 5, 6))
        self.scale = nn.Parameter(torch.ones(()))


KEPT: dict[str, tuple[Callable[..., Optimizer], int]] = {
    "adamw": (torch.optim.AdamW, 2),
    "fused": (partial(torch.optim.AdamW, fused=True), 2),
    "amsgrad": (partial(torch.optim.Adam, amsgrad=True), 3),
    "adamax": (torch.optim.Adamax, 2),
    "sgd": (torch.optim.SGD, 0),
    "momentum": (partial(torch.optim.SGD, momentum=0.9), 1),
    "rms": (torch.optim.RMSprop, 1),
    "rms momentum": (partial(torch.optim.RMSprop, momentum=0.9), 2),
    "rms centred momentum": (partial(torch.optim.RMSprop, momentum=0.9, centered=True), 3),
    "adagrad": (torch.optim.Adagrad, 1),
    "adadelta": (torch.optim.Adadelta, 2),
}
"""Optimizers by name, and how many numbers they keep of each of a parameter's."""


def really_kept(optimizer: Optimizer) -> int:
    """Return the bytes of an optimizer's state after a step, its counters left out."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    states: Any = optimizer.state.values()
    return sum(
        kept.nbytes for state in states for name, kept in state.items() if isinstance(kept, Tensor) and name != "step"
    )


@pytest.mark.parametrize("name", KEPT)
def test_what_an_optimizer_keeps_is_what_is_there_after_a_step(name: str):
    make, states = KEPT[name]
    model = Mixed()
    sizes = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    optimizer = make(model.parameters(), lr=0.1)
    assert optimizer_memory(optimizer) == states * sizes == really_kept(optimizer)


def test_an_optimizer_that_was_tried_is_as_it_was():
    tried, other = Mixed(), Mixed()
    other.load_state_dict(tried.state_dict())
    steps: list[Optimizer] = []
    for model in (tried, other):
        groups = [{"params": [model.map.weight]}, {"params": [model.map.bias, model.scale], "weight_decay": 0.1}]
        steps.append(torch.optim.AdamW(groups, lr=0.1))
    optimizer_memory(steps[0])
    assert not steps[0].state
    assert all(parameter.grad is None for parameter in tried.parameters())
    for _ in range(2):
        assert really_kept(steps[0]) == really_kept(steps[1])
    assert all(map(torch.equal, tried.parameters(), other.parameters()))
    before = [parameter.clone() for parameter in tried.parameters()]
    assert optimizer_memory(steps[0]) == really_kept(steps[1]), "of one that has stepped, what is there counts"
    assert all(map(torch.equal, before, tried.parameters()))


def test_optimizers_of_several_kinds_keep_what_each_keeps():
    model = Mixed()
    joined = Joined([torch.optim.SGD([model.map.weight], lr=0.1), torch.optim.AdamW([model.map.bias], lr=0.1)])
    assert optimizer_memory(joined) == 2 * 4 * 9 == really_kept(joined)
    assert set(joined.state) <= {model.map.weight, model.map.bias}


def test_a_factored_optimizer_keeps_next_to_nothing_of_maps():
    from transformers import Adafactor

    model = nn.Linear(70, 90, bias=False)
    assert optimizer_memory(Adafactor(model.parameters())) == 0
    assert really_kept(Adafactor(model.parameters())) < model.weight.nbytes / 20


@pytest.mark.parametrize(("kind", "states"), [("sgd", 0), ("rms", 1), ("adamw", 2)])
def test_the_estimate_counts_what_the_optimizer_keeps(kind: str, states: int):
    made = parts()
    for parameter in made.model.get_submodule("first").parameters():
        parameter.requires_grad = False
    trained = [parameter for parameter in made.model.parameters() if parameter.requires_grad]
    found = estimate_memory(made, plan(), torch.float32, KEPT[kind][0](trained, lr=0.1))
    assert found is not None
    assert found["optimizer"] == states * found["gradients"] == states * 4 * (16 * 4 + 4)
    assert found["total"] == sum(value for name, value in found.items() if name != "total")


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
