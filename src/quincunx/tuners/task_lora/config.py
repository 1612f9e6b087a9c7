"""Options of task LoRA."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from quincunx.tuners.method import TunerConfig, check_dropout, check_tasks


@dataclass
class TaskLoraConfig(TunerConfig):
    """LoRA (E. Hu et al., ICLR 2022), each task with its own matrices as in VL-Adapter (Sung et al., CVPR 2022)."""

    rank: int = 4
    """Rank of the change of a weight."""
    alpha: float = 32.0
    """The change is multiplied by alpha / rank."""
    use_rslora: bool = False
    """By alpha / sqrt(rank) in its place (D. Kalajdzievski, 2023)."""
    dropout: float = 0.0
    """Probability of dropout on what goes into the change; VL-Adapter trains with 0.1."""
    biases: Literal["none", "all"] = "none"
    """Whether every bias of the model is trained too, as VL-Adapter does; what is trained stays when the adapter is
    disabled."""
    tasks: list[str] = field(default_factory=list[str])
    """Names of tasks that have matrices of their own; none: one pair for everything."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, found {self.rank}")
        if not self.alpha > 0:
            raise ValueError(f"alpha must be above 0, found {self.alpha}")
        check_dropout(self.dropout)
        if self.biases not in ("none", "all"):
            raise ValueError(f"biases must be none or all, found {self.biases!r}")
        check_tasks(self.tasks)

    @property
    def scale(self) -> float:
        """What the change is multiplied by."""
        return self.alpha / (self.rank**0.5 if self.use_rslora else self.rank)
