"""A rendered world of shapes: pictures by number, and examples of every task about them, all functions of a seed."""

from quincunx.recipes.vision_language.data.world.generate import COUNTS, Manifest, generate

__all__ = ["COUNTS", "Manifest", "generate"]
