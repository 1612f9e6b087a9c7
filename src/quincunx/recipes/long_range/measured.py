"""What evaluations measure: the names of all scalars, and the one that chooses among checkpoints. Torch-free."""

from __future__ import annotations

from typing import Any

from quincunx.config.schema import Metrics

DENOISING = ("loss", "accuracy", "accuracy_se", "commonest_token")
"""Of masked tokens that are restored."""


def metrics_of(config: Any) -> Metrics:
    """Return what the evaluations of a config measure."""
    from quincunx.recipes.long_range.baselines import scalars_of  # NumPy, which reading a config does without

    if config.objective == "denoising":
        return Metrics("dev/loss", "min", DENOISING)
    return Metrics("dev/accuracy", "max", scalars_of(config.task))
