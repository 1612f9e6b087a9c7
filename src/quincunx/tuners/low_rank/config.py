"""Options of the low-rank adapter."""

from __future__ import annotations

from dataclasses import dataclass

from quincunx.tuners.residual import ResidualConfig


@dataclass
class LowRankConfig(ResidualConfig):
    """Adapters with a bottleneck whose maps have a low rank (R. Karimi Mahabadi et al., NeurIPS 2021, section 4.2)."""

    low_rank_rank: int = 1
    """Rank of each of the two maps; 1: two vectors a map, and its bias."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low_rank_rank < 1:
            raise ValueError(f"low_rank_rank must be at least 1, found {self.low_rank_rank}")
