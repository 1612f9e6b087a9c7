"""Quincunx: transformer experiments, each described by one explained config file, on one exact engine.

    from quincunx import load, train, evaluate, Run, Encoder, Compressor, seed_everything

Importing the package imports nothing else; torch is loaded by the first thing that needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quincunx.api import Run, compare_rankings, evaluate, load, train
    from quincunx.engine.runtime import seed_everything
    from quincunx.recipes.compression.answers.compress import Compressor
    from quincunx.recipes.retrieval.encode import Encoder

__version__ = "0.1.0"
__all__ = ["Compressor", "Encoder", "Run", "compare_rankings", "evaluate", "load", "seed_everything", "train"]

_HOMES = {
    "Compressor": "quincunx.recipes.compression.answers.compress",
    "Encoder": "quincunx.recipes.retrieval.encode",
    "Run": "quincunx.api",
    "compare_rankings": "quincunx.api",
    "evaluate": "quincunx.api",
    "load": "quincunx.api",
    "train": "quincunx.api",
    "seed_everything": "quincunx.engine.runtime",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'quincunx' has no attribute {name!r}")
