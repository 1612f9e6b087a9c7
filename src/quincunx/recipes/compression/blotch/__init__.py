"""Blotching: whole steps of a text are left out in training, and the model learns to jump over them.

`cut` divides a text into units, `choose` leaves some out, `excise` says what is then seen and predicted, `intensity`
how much is left out; `picture` shows it. Tensors in, tensors out; every choice follows from a row's key.
"""

from __future__ import annotations

from quincunx.recipes.compression.blotch.choose import choose
from quincunx.recipes.compression.blotch.cut import Units, either, spans, units
from quincunx.recipes.compression.blotch.excise import UNTRAINED, Excised, excise, ranks, targets
from quincunx.recipes.compression.blotch.intensity import curriculum, draw_levels, levels, shares
from quincunx.recipes.compression.blotch.picture import picture

__all__ = [
    "UNTRAINED",
    "Excised",
    "Units",
    "choose",
    "curriculum",
    "draw_levels",
    "either",
    "excise",
    "levels",
    "picture",
    "ranks",
    "shares",
    "spans",
    "targets",
    "units",
]
