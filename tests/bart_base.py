"""Shares of trained parameters as the papers count them: BART-base with VL-Adapter's visual parts, on no device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from quincunx.tuners.adapter import Placement

BASE = 139_420_416
"""Parameters of BART-base."""
NEW_TOKENS = 200 * 768
"""Embeddings that VL-Adapter adds, and does not train."""
VISUAL = 1_582_848
"""What maps features of 2,048 numbers and boxes to tokens; always trained."""
NORMS = 49_152
"""Weights and biases of BART-base's 32 layer norms."""


def bart_base() -> nn.Module:
    """Return a BART-base without numbers."""
    from transformers import BartConfig, BartForConditionalGeneration

    widths: Any = {"d_model": 768, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072, "vocab_size": 50265}
    depths: Any = {"encoder_layers": 6, "decoder_layers": 6}
    heads: Any = {"encoder_attention_heads": 12, "decoder_attention_heads": 12}
    with torch.device("meta"):
        return BartForConditionalGeneration(BartConfig(**widths, **depths, **heads))


def added(place: Callable[[nn.Module, Any], Placement], config: Any) -> int:
    """Return how many parameters a method puts into BART-base, those shared counted once."""
    model = bart_base()
    assert sum(parameter.numel() for parameter in model.parameters()) == BASE
    with torch.device("meta"):
        placement = place(model, config)
    parts = nn.ModuleList([*placement.adapters.values(), placement.shared])
    return sum(parameter.numel() for parameter in parts.parameters())


def percent(count: int, *, own: int) -> float:
    """Return the share of trained parameters in percent: `count` new ones of a method, and `own` of the model's."""
    return 100 * (count + VISUAL + own) / (BASE + NEW_TOKENS + VISUAL + count)
