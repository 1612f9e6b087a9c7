"""Networks that make an adapter's weights: e = LN(W2 relu(W1 [task; layer])), each weight a linear map of e.

R. Karimi Mahabadi et al., "Parameter-efficient multi-task fine-tuning for transformers via shared hypernetworks" (ACL
2021). B examples, S positions, D width, R width of the bottleneck, T tasks, N of them at hand, E width of what is
learned of tasks and layers, P width of the embedding e.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.nn.routing import TaskRouted
from quincunx.tuners.hyperformer.config import HyperformerConfig
from quincunx.tuners.task_linear import task_linear

STD = 0.01
"""Of a generator's starting weights."""


class Made(NamedTuple):
    """The adapters of N tasks at one place: pairs of weights and biases."""

    down: tuple[Tensor, Tensor]
    """`[N, R, D], [N, R]`."""
    up: tuple[Tensor, Tensor]
    """`[N, D, R], [N, D]`."""
    before: tuple[Tensor, Tensor] | None
    """Of the layer norm before, `[N, D]` each."""
    after: tuple[Tensor, Tensor] | None
    """Of the layer norm after, `[N, D]` each."""


@dataclass(frozen=True)
class Shape:
    """What adapters must have in common to be made by the same generators."""

    entry: int
    """Width of what goes in."""
    bottleneck: int
    width: int
    """Width of what comes out."""


class TaskEmbeddings(nn.Module):
    """What is learned of each task `[T, E]`, one for the whole model."""

    def __init__(self, tasks: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(tasks, width))


class PairGenerator(nn.Module):
    """Makes a weight and a bias out of embeddings.

    Args:
        projection: Width P of an embedding.
        weight: Shape of the weight.
        bias: Width of the bias.
        begins_at: What the weight begins as for every task: None for small random numbers, or this number throughout,
            with a bias of nought.
    """

    def __init__(self, projection: int, weight: tuple[int, ...], bias: int, begins_at: float | None = None) -> None:
        super().__init__()
        self.shape = weight
        self.weight = nn.Linear(projection, torch.Size(weight).numel())
        self.bias = nn.Linear(projection, bias)
        for generator in (self.weight, self.bias):
            nn.init.zeros_(generator.weight) if begins_at is not None else nn.init.normal_(generator.weight, std=STD)
            nn.init.zeros_(generator.bias)
        if begins_at:
            nn.init.constant_(self.weight.bias, begins_at)

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight `[N, *weight]` and the bias `[N, bias]` for `embeddings [N, P]`."""
        return self.weight(embeddings).view(-1, *self.shape), self.bias(embeddings)


class Generators(nn.Module):
    """Makes all of an adapter's weights out of embeddings, such that every adapter begins as nothing."""

    def __init__(self, shape: Shape, config: HyperformerConfig) -> None:
        super().__init__()
        made_of = config.projection
        # whichever comes last begins at nought: the norm after, or else the map up
        last = None if config.norm_after else 0.0
        self.down = PairGenerator(made_of, (shape.bottleneck, shape.entry), shape.bottleneck)
        self.up = PairGenerator(made_of, (shape.width, shape.bottleneck), shape.width, begins_at=last)
        self.before = PairGenerator(made_of, (shape.entry,), shape.entry, begins_at=1.0) if config.norm_before else None
        self.after = PairGenerator(made_of, (shape.width,), shape.width, begins_at=0.0) if config.norm_after else None

    def forward(self, embeddings: Tensor) -> Made:
        """Return the adapters of N tasks for `embeddings [N, P]`."""
        return Made(
            self.down(embeddings),
            self.up(embeddings),
            None if self.before is None else self.before(embeddings),
            None if self.after is None else self.after(embeddings),
        )


class Hypernetwork(nn.Module):
    """Makes the adapters of one stack of layers.

    Args:
        layers: Number of layers that have adapters.
        kinds: Number of kinds of modules that are told apart by an embedding; 0: they are not.
        generators: Shape of the adapters that each set of generators makes, by its name.
        config: The options.
    """

    def __init__(self, layers: int, kinds: int, generators: dict[str, Shape], config: HyperformerConfig) -> None:
        super().__init__()
        width = config.task_embedding_dim
        self.layers = nn.Parameter(torch.randn(layers, width))
        self.kinds = nn.Parameter(torch.randn(kinds, width)) if kinds else None
        self.hidden = nn.Linear(width * (3 if kinds else 2), config.hidden_dim)
        self.project = nn.Linear(config.hidden_dim, config.projection)
        self.norm = nn.LayerNorm(config.projection)
        self.generators = nn.ModuleDict({name: Generators(shape, config) for name, shape in generators.items()})

    def embed(self, tasks: Tensor, layer: int, kind: int) -> Tensor:
        """Return what adapters are made of `[N, P]`, for what is learned of tasks `[N, E]`, at one place."""
        parts = [tasks, self.layers[layer].expand_as(tasks)]
        if self.kinds is not None:
            parts.append(self.kinds[kind].expand_as(tasks))
        return self.norm(self.project(torch.relu(self.hidden(torch.cat(parts, dim=-1)))))

    def forward(self, tasks: Tensor, layer: int, kind: int, generator: str) -> Made:
        """Return the adapters of N tasks at one place, for what is learned of the tasks `[N, E]`."""
        return self.generators[generator](self.embed(tasks, layer, kind))


@dataclass(frozen=True)
class Place:
    """Where in its stack an adapter is."""

    layer: int
    """Row of the layer's embedding."""
    kind: int
    """Row of the embedding of its kind of module."""
    generator: str
    """Name of the generators."""


class Handed:
    """What the first half of an adapter has made for the second: both halves in one go, once for each pass."""

    def __init__(self) -> None:
        self.value: tuple[Made, Tensor] | None = None

    def take(self) -> tuple[Made, Tensor]:
        """Return it, and forget it."""
        value, self.value = self.value, None
        assert value is not None, "the first half of an adapter was not called"
        return value

    def __reduce__(self) -> tuple[type[Handed], tuple[()]]:
        return Handed, ()  # a copy of the model begins without what this one's last pass may have left


class MadeDown(TaskRouted):
    """The norm before and the map down, their weights made in each pass: once for each task, not for each example.

    Args:
        tasks: What is learned of tasks.
        network: Makes the weights of this adapter's stack.
        place: Where in the stack it is.
        handed: Where what was made for the other half goes.
    """

    def __init__(self, tasks: TaskEmbeddings, network: Hypernetwork, place: Place, handed: Handed) -> None:
        super().__init__()
        self._shared = (tasks, network)  # a tuple, so that they stay what several adapters share
        self._place, self._handed = place, handed

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, ..., R]` for `x [B, ..., D]`."""
        made, own = self._handed.value = self._adapters(x)
        return task_linear(x if made.before is None else _norm(x, *made.before, own), *made.down, own)

    def _adapters(self, x: Tensor) -> tuple[Made, Tensor]:
        """Return adapters, no more of them than tasks nor than rows, and which of them each row of `x [B, ...]` has."""
        tasks, network = self._shared
        own, learned = self.tasks(x), tasks.weight
        if len(x) < len(learned):
            learned, own = learned[own], torch.arange(len(x), device=x.device)
        return network(learned, self._place.layer, self._place.kind, self._place.generator), own


class MadeUp(nn.Module):
    """The map up and the norm after, as the first half had them made."""

    def __init__(self, handed: Handed) -> None:
        super().__init__()
        self._handed = handed

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, ..., D]` for `x [B, ..., R]`."""
        made, own = self._handed.take()
        added = task_linear(x, *made.up, own)
        return added if made.after is None else _norm(added, *made.after, own)


def _norm(x: Tensor, weight: Tensor, bias: Tensor, own: Tensor) -> Tensor:
    """Return the layer norm of `x [B, ..., D]`, each row with its own of the weights and biases `[N, D]`."""
    many = (len(x), *(1,) * (x.ndim - 2), x.shape[-1])
    normed = functional.layer_norm(x, x.shape[-1:])
    return normed * weight[own].view(many) + bias[own].view(many)
