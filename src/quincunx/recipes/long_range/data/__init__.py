"""ListOps data of the `long_range` recipe: grammar, generator, TSV files, splits with their cache, oracles.

Numpy only, so that data can be generated and checked where torch is not wanted.
"""

from __future__ import annotations

from quincunx.recipes.long_range.data.examples import Examples, SkippedRow
from quincunx.recipes.long_range.data.export import FILE_NAMES, Manifest, generate
from quincunx.recipes.long_range.data.generator import Parameters
from quincunx.recipes.long_range.data.oracles import majority_oracle, root_operator_oracle
from quincunx.recipes.long_range.data.store import Splits, load_splits
from quincunx.recipes.long_range.data.tsv import read_tsv

__all__ = [
    "FILE_NAMES",
    "Examples",
    "Manifest",
    "Parameters",
    "SkippedRow",
    "Splits",
    "generate",
    "load_splits",
    "majority_oracle",
    "read_tsv",
    "root_operator_oracle",
]
