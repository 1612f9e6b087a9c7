"""A hyperformer's adapters by their formulas, one example after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

State = Mapping[str, Tensor]
"""Weights of one stack's network by name."""


def embedding(state: State, task: Tensor, layer: int, kind: int | None) -> Tensor:
    """Return LN(W2 relu(W1 [task; layer; kind] + b1) + b2) `[P]` for what is learned of a task `[E]`."""
    parts = [task, state["layers"][layer]]
    if kind is not None:
        parts.append(state["kinds"][kind])
    hidden = (state["hidden.weight"] @ torch.cat(parts) + state["hidden.bias"]).clamp(min=0)
    e = state["project.weight"] @ hidden + state["project.bias"]
    e = (e - e.mean()) / torch.sqrt(((e - e.mean()) ** 2).mean() + 1e-5)
    return e * state["norm.weight"] + state["norm.bias"]


def made(state: State, generator: str, half: str, e: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight, flat, and a bias: each a linear map of e."""
    name = f"generators.{generator}.{half}"
    weight = state[f"{name}.weight.weight"] @ e + state[f"{name}.weight.bias"]
    return weight, state[f"{name}.bias.weight"] @ e + state[f"{name}.bias.bias"]


def added(
    x: Tensor,
    tasks: Sequence[int],
    learned: Tensor,
    state: State,
    *,
    layer: int,
    kind: int | None,
    generator: str,
    bottleneck: int,
) -> Tensor:
    """Return what adapters add `[B, S, D]` for `x [B, S, D]`, each example's own made anew."""
    rows = []
    for given, task in zip(x, tasks, strict=True):
        row = given
        e = embedding(state, learned[task], layer, kind)
        if f"generators.{generator}.before.weight.weight" in state:
            row = _norm(row, *made(state, generator, "before", e))
        weight, bias = made(state, generator, "down", e)
        hidden = functional.gelu(row @ weight.view(bottleneck, -1).T + bias, approximate="tanh")
        weight, bias = made(state, generator, "up", e)
        row = hidden @ weight.view(-1, bottleneck).T + bias
        if f"generators.{generator}.after.weight.weight" in state:
            row = _norm(row, *made(state, generator, "after", e))
        rows.append(row)
    return torch.stack(rows)


def _norm(row: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = row - row.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5) * weight + bias
