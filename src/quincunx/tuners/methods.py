"""The methods of this package by name."""

from __future__ import annotations

from collections.abc import Mapping

from quincunx.tuners.composite.config import CompositeConfig
from quincunx.tuners.composite.model import place as place_composite
from quincunx.tuners.method import Method
from quincunx.tuners.single import SINGLE

METHODS: Mapping[str, Method] = {**SINGLE, "composite": Method(CompositeConfig, place_composite, shares=True)}
"""Method -> its options and how it goes into a model."""
