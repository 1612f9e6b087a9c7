"""Where bottleneck adapters go."""

from __future__ import annotations

from torch import nn

from quincunx.tuners.adapter import Placement
from quincunx.tuners.bottleneck.config import BottleneckConfig
from quincunx.tuners.bottleneck.layer import dense
from quincunx.tuners.residual import place_residual


def place(model: nn.Module, config: BottleneckConfig) -> Placement:
    """Return an adapter for each site."""
    return place_residual(model, config, dense)
