"""The methods of this package by name."""

from __future__ import annotations

from collections.abc import Mapping

from quincunx.tuners.bottleneck.config import BottleneckConfig
from quincunx.tuners.bottleneck.model import place as place_bottleneck
from quincunx.tuners.method import Method

METHODS: Mapping[str, Method] = {
    "bottleneck": Method(BottleneckConfig, place_bottleneck),
}
"""Method -> its options and how it goes into a model."""
