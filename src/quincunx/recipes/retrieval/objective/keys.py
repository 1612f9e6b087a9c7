"""An encoder that follows the trained one slowly, so that what it encodes stays comparable for longer.

Momentum Contrast (He et al. 2020, arXiv 1911.05722, equation 2).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from quincunx.errors import UsageError


class KeyEncoder(nn.Module):
    """A moving average of a model's weights: always in eval mode, never trained by gradients.

    It begins as a copy of the model after the first update, so it does not matter what the weights are when it is made.

    Args:
        model: A BiEncoder or PolyEncoder.
        momentum: How much of the average is kept at each update, from 0 (always the model itself) to below 1.
        sides: What it is to encode: `document`, or `query` and `document`. A separate query encoder that is not needed
            is not copied.

    Raises:
        UsageError: The momentum is out of range.
    """

    def __init__(self, model: nn.Module, momentum: float, sides: Sequence[str] = ("document",)) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise UsageError(
                f"the momentum of a key encoder is at least 0 and below 1, found {momentum}; 0.99 is usual"
            )
        self.momentum = momentum
        query, document = getattr(model, "query", None), getattr(model, "document", None)
        spare = "query" not in sides and isinstance(query, nn.Module) and query is not document
        # what the copy finds for an object in its memo it does not copy
        self.model = copy.deepcopy(model, {id(query): nn.Identity()} if spare else None)
        self.model.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> KeyEncoder:
        """Stay in eval mode: stored vectors carry no dropout noise."""
        return super().train(False)

    @torch.no_grad()
    def follow(self, model: nn.Module, first: bool = False) -> None:
        """Move a step towards the model's weights, the whole way at the first update; buffers are copied."""
        weights = dict(model.named_parameters(remove_duplicate=False))
        mine, theirs = [], []
        for name, parameter in self.model.named_parameters():
            mine.append(parameter)
            theirs.append(weights[name].detach())
        if mine:
            torch._foreach_lerp_(mine, theirs, 1.0 if first else 1 - self.momentum)  # pyright: ignore[reportPrivateImportUsage]
        buffers = dict(model.named_buffers(remove_duplicate=False))
        for name, buffer in self.model.named_buffers():
            buffer.copy_(buffers[name])
