"""The losses of pretraining by kind, and what is measured of each; known without data and without torch."""

from __future__ import annotations

from collections.abc import Sequence

REGIONS = "regions"
"""The kind whose rows hide regions: `obj`, `attr` and `feat` are asked about the same ones."""
OF_REGIONS = ("obj", "attr", "feat")
SAID = ("lm", "qa", "itm", "caption", "ground_caption", "refer")
"""Losses of which a text is said; each is a kind of its own."""
GROUNDING = ("ground_caption", "refer")


def kinds_of(losses: Sequence[str]) -> tuple[str, ...]:
    """Return the kinds of rows that losses need, in the losses' order: what adapters of tasks are counted by."""
    return tuple(dict.fromkeys(REGIONS if loss in OF_REGIONS else loss for loss in losses))


def measures_of(losses: Sequence[str]) -> tuple[str, ...]:
    """Return what an evaluation measures: `loss`, the mean of the losses' own ones, then those of each."""
    found = ["loss"]
    for loss in losses:
        names = ("loss", "accuracy", "exact") if loss in SAID else ("loss", "accuracy")
        found += [f"{loss}/{name}" for name in (names if loss != "feat" else ("loss",))]
    return tuple(found)
