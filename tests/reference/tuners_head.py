"""A head adapter's logits, one example after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional


def added(x: Tensor, state: Mapping[str, Tensor], tasks: Sequence[int] | None) -> Tensor:
    """Return what is added to the logits `[B, S, V]` for the last state `x [B, S, D]`, with each example's own task."""
    rows = []
    for row, given in enumerate(x):
        task = None if tasks is None else tasks[row]
        hidden = given
        if "norm_before.weight" in state:
            width = (hidden.shape[-1],)
            hidden = functional.layer_norm(hidden, width, state["norm_before.weight"], state["norm_before.bias"])
        down, bias = state["down.weight"], state["down.bias"]
        if down.ndim == 3:
            assert task is not None
            down, bias = down[task], bias[task]
        hidden = functional.gelu(hidden @ down.T + bias, approximate="tanh")
        up, bias = state["up.weight"], state["up.bias"]
        if up.ndim == 3:  # rows and columns the other way round
            assert task is not None
            up, bias = up[task].T, bias[task]
        found = hidden @ up.T + bias
        if "norm_after.weight" in state:
            words = (found.shape[-1],)
            found = functional.layer_norm(found, words, state["norm_after.weight"], state["norm_after.bias"])
        rows.append(found)
    return torch.stack(rows)
