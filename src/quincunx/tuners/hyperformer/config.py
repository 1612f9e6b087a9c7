"""Options of the hyperformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from quincunx.tuners.residual import ResidualConfig

DEFAULT_PROJECTION = 64


@dataclass
class HyperformerConfig(ResidualConfig):
    """Adapters with generated weights (R. Karimi Mahabadi et al., ACL 2021); their layer norms are generated too."""

    generators: Literal["unique", "efficient"] = "unique"
    """`unique`: each kind of module (feedforward, attention, cross-attention) has generators of its own. `efficient`:
    one set of generators for all kinds, which are told apart by an embedding of their own."""
    task_embedding_dim: int = 512
    """Width of what is learned of each task, each layer and, with `efficient`, each kind of module."""
    hidden_dim: int = 128
    """Width between the two maps that make one embedding out of those."""
    projected_task_embedding_dim: int = -1
    """Width P of that embedding, which nearly all of the method's parameters are in proportion to; -1: 64. VL-Adapter's
    results are with 8."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.generators not in ("unique", "efficient"):
            raise ValueError(f"generators must be unique or efficient, found {self.generators!r}")
        if not self.tasks:
            raise ValueError("hyperformer makes adapters out of what it learns of tasks: name at least one in tasks")
        if self.share_down or self.share_up:
            raise ValueError(
                "hyperformer makes both maps of every task by the same generators: leave share_down and share_up out"
            )
        for name in ("task_embedding_dim", "hidden_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if self.projected_task_embedding_dim < 1 and self.projected_task_embedding_dim != -1:
            raise ValueError(
                "projected_task_embedding_dim must be at least 1, or -1 for "
                f"{DEFAULT_PROJECTION}, found {self.projected_task_embedding_dim}"
            )

    @property
    def projection(self) -> int:
        """Width P of the embedding that weights are made of."""
        return DEFAULT_PROJECTION if self.projected_task_embedding_dim == -1 else self.projected_task_embedding_dim
