"""The ladder side network by its formulas, an example at a time, a head at a time, a query at a time; no padding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    found = x @ weights[f"{name}.weight"].T
    return found + weights[f"{name}.bias"] if f"{name}.bias" in weights else found


def norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attention(weights: Weights, name: str, x: Tensor, source: Tensor, heads: int, causal: bool) -> Tensor:
    query = linear(weights, f"{name}.query", x)
    key, value = (linear(weights, f"{name}.{part}", source) for part in ("key", "value"))
    width = x.shape[-1] // heads
    rows = []
    for place in range(len(x)):
        seen = place + 1 if causal else len(source)
        parts = []
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            weighed = torch.softmax(key[:seen, own] @ query[place, own] / math.sqrt(width), dim=0)
            parts.append(weighed @ value[:seen, own])
        rows.append(torch.cat(parts))
    return linear(weights, f"{name}.output", torch.stack(rows))


def gelu_new(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def side_states(
    weights: Weights,
    entry: Tensor,
    states: Sequence[Tensor],
    *,
    heads: int = 1,
    temperature: float = 0.1,
    causal: bool = False,
    memory: Tensor | None = None,
) -> Tensor:
    """Return the last side states `[S, R]` of one text.

    Args:
        weights: Of the side network, by name.
        entry: What the first layer is given `[S, D]`.
        states: What the layers with a block give, `[S, D]` each.
        heads: Of every block.
        temperature: Of the gates.
        causal: Whether a token sees its past alone.
        memory: What the decoder's blocks look at `[M, R]`.
    """
    side = linear(weights, "downs.0", entry)
    for number, state in enumerate(states):
        gate = 1 / (1 + torch.exp(-weights["gates"][number] / temperature))
        side = (1 - gate) * side + gate * linear(weights, f"downs.{number + 1}", state)
        block = f"blocks.{number}"
        normed = norm(weights, f"{block}.within_norm", side)
        side = side + attention(weights, f"{block}.within", normed, normed, heads, causal)
        if memory is not None:
            normed = norm(weights, f"{block}.across_norm", side)
            side = side + attention(weights, f"{block}.across", normed, memory, heads, False)
        hidden = gelu_new(linear(weights, f"{block}.widen", norm(weights, f"{block}.feedforward_norm", side)))
        side = side + linear(weights, f"{block}.narrow", hidden)
    return norm(weights, "norm", side)


def change(weights: Weights, side: Tensor) -> Tensor:
    """Return what is added to the last layer's states `[S, D]`."""
    return linear(weights, "up", side)


def parameters(width: int, blocks: int, factor: int, *, cross: bool, ends: bool, own_memory: bool = False) -> int:
    """Return how many numbers a side network trains, counted by hand."""
    side = width // factor
    look = 4 * side * side + 3 * side  # keys have no bias
    block = look + (look if cross else 0) + 2 * 4 * side * side + 4 * side + side + (3 if cross else 2) * 2 * side + 1
    down = width * side + side
    return (blocks + 1) * down + blocks * block + 2 * side + (side * width + width if ends else 0) + own_memory * down
