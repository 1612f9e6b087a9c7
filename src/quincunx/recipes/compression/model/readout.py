"""From states of the first pass to embeddings of the second (read-outs `tokens` and `mean_pool`).

B batch, S tokens of the pass, K slots, D width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quincunx.errors import UsageError


def layer_number(layer: int | str, layers: int) -> int | None:
    """Return the number of the layer whose states are read, None for the mixture of outputs.

    Args:
        layer: A number (0: embeddings, negative: from the end), `half`, or `output`.
        layers: How many the model has.

    Raises:
        UsageError: There is no such layer.
    """
    if layer == "output":
        return None
    found = layers // 2 if layer == "half" else layer
    if not isinstance(found, int) or not -layers - 1 <= found <= layers:
        raise UsageError(f"compress.layer is {layer}, and the model has layers 0 (embeddings) to {layers}")
    return found % (layers + 1)


def mixture(logits: Tensor, vocabulary: Tensor) -> Tensor:
    """Return the vocabulary's embeddings `[V, D]` mixed by the probabilities of logits `[B, K, V]`: `[B, K, D]`."""
    return logits.softmax(-1).to(vocabulary.dtype) @ vocabulary


def pooled(states: Tensor, seen: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the means of states over equal windows of each row's seen tokens, and which windows have any.

    Token r of n (from 0) falls into window floor(r * K / n).

    Args:
        states: `[B, S, D]`.
        seen: `[B, S]` bool.
        count: K windows.

    Returns:
        `[B, K, D]`, zeros where a window is empty, and bool `[B, K]`.
    """
    ranks = seen.cumsum(1) - 1
    lengths = seen.sum(1, keepdim=True).clamp(min=1)
    window = (ranks * count // lengths).clamp(min=0)
    member = torch.zeros(*seen.shape, count, dtype=states.dtype, device=states.device)
    member.scatter_(2, window[..., None], seen[..., None].to(states.dtype))
    sizes = member.sum(1)
    return member.transpose(1, 2) @ states / sizes[..., None].clamp(min=1), sizes > 0


class Projection(nn.Module):
    """What states go through before they are embeddings.

    Args:
        kind: `none`, `linear` (begins as the identity), or `mlp`: a hidden layer with ReLU.
        width: D.
        factor: Width of the hidden layer over D.
    """

    def __init__(self, kind: str, width: int, factor: int) -> None:
        super().__init__()
        self.layers: nn.Module = nn.Identity()
        if kind == "linear":
            linear = nn.Linear(width, width)
            nn.init.eye_(linear.weight)
            nn.init.zeros_(linear.bias)
            self.layers = linear
        elif kind == "mlp":
            self.layers = nn.Sequential(nn.Linear(width, factor * width), nn.ReLU(), nn.Linear(factor * width, width))

    def forward(self, states: Tensor) -> Tensor:
        """Return `[..., D]`."""
        return self.layers(states)
