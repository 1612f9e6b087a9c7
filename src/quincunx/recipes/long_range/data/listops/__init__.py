"""ListOps: grammar, generator, TSV files, splits. Numpy only, so that data can be made and checked without torch."""

from __future__ import annotations

from quincunx.recipes.long_range.data.listops.export import FILE_NAMES, Manifest, generate
from quincunx.recipes.long_range.data.listops.generator import Parameters
from quincunx.recipes.long_range.data.listops.tsv import read_tsv

__all__ = ["FILE_NAMES", "Manifest", "Parameters", "generate", "read_tsv"]
