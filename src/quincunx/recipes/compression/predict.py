"""Predictions of a run: a context is compressed, and what follows is generated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from quincunx.engine.runtime import Runtime
from quincunx.recipes.compression.config import CompressionConfig


def predict(
    config: CompressionConfig, model: nn.Module, tokenizer: Any, runtime: Runtime, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the text that follows each row."""
    raise NotImplementedError
