"""The data of the `long_range` recipe: one room a task, and what all tasks share (examples, splits, cache, oracles).

Never imports torch, so that data can be generated and checked where torch is not wanted.
"""

from __future__ import annotations

from quincunx.recipes.long_range.data.examples import Examples, SkippedRow
from quincunx.recipes.long_range.data.splits import SPLITS, Splits, check, load_splits

__all__ = ["SPLITS", "Examples", "SkippedRow", "Splits", "check", "load_splits"]
