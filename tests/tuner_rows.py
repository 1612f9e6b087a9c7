"""One row or more for every method: what `test_every_tuner.py` tries with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """A method with options on a model."""

    method: str
    model: str
    """Of `tiny_models.MODELS`."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    name: str = ""
    """What the options are, in a word."""
    identity: bool = True
    """Whether the model is as it was at the start, bit for bit."""
    restores: bool = True
    """Whether the model is as it was while the adapter is disabled."""
    merges: bool = False
    """Whether the adapter may be merged into the weights."""
    loads_in_transformers: bool = True
    """Whether transformers' own `load_adapter` takes it: not where parts share something."""
    trains_in_eval: bool = True
    """Whether gradients may be compared in eval mode."""

    @property
    def id(self) -> str:
        return "-".join(part for part in (self.method, self.model, self.name) if part)


TASKS = ["colour", "shape", "size"]

ROWS: tuple[Row, ...] = (
    *(Row("bottleneck", model, {"reduction_factor": 4}) for model in ("bart", "t5", "bert", "llama", "clip")),
    Row("bottleneck", "bart", {"reduction_factor": 4, "tasks": TASKS}, "tasks"),
    Row("bottleneck", "t5", {"reduction_factor": 4, "tasks": TASKS, "share_down": True}, "half-shared"),
    Row("bottleneck", "bart", {"reduction_factor": 2, "norm_before": True, "norm_after": True}, "norms"),
    Row("bottleneck", "t5", {"reduction_factor": 2, "parallel": True, "learned_scale": True}, "parallel"),
    Row("bottleneck", "llama", {"reduction_factor": 2, "parallel": True, "scale": 0.5}, "parallel"),
)
