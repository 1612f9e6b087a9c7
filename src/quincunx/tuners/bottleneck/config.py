"""Options of the bottleneck adapter."""

from __future__ import annotations

from dataclasses import dataclass

from quincunx.tuners.residual import ResidualConfig


@dataclass
class BottleneckConfig(ResidualConfig):
    """Bottleneck adapters: two dense maps (N. Houlsby et al., ICML 2019)."""
