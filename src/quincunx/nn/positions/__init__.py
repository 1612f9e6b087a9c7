"""Where a token stands: numbers counted or drawn (`sampling`), vectors added to embeddings (`tables`, `counted`),
biases of attention scores (`alibi`)."""

from __future__ import annotations

from quincunx.nn.positions.counted import Positions
from quincunx.nn.positions.tables import PositionTable, sinusoids

__all__ = ["PositionTable", "Positions", "sinusoids"]
