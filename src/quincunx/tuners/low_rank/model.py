"""Where low-rank adapters go."""

from __future__ import annotations

from torch import nn

from quincunx.tuners.adapter import Placement
from quincunx.tuners.low_rank.config import LowRankConfig
from quincunx.tuners.low_rank.layer import LowRankLinear
from quincunx.tuners.residual import place_residual


def place(model: nn.Module, config: LowRankConfig) -> Placement:
    """Return an adapter for each site."""

    def linear(in_features: int, out_features: int, tasks: int | None, zero: bool) -> nn.Module:
        return LowRankLinear(in_features, out_features, rank=config.low_rank_rank, tasks=tasks, zero=zero)

    return place_residual(model, config, linear)
