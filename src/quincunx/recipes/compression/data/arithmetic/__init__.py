"""Arithmetic solved step by step: drawn, solved, judged, written and read. Numpy only.

>>> from quincunx.recipes.compression.data.arithmetic import judge, solve
>>> [step.statement for step in solve("12+7")]
['7+12', '2+7+10', '9+10', '19']
>>> judge("12+7=7+12=18E").correct
False
"""

from __future__ import annotations

from quincunx.recipes.compression.data.arithmetic.export import FILE_NAMES, Manifest, generate
from quincunx.recipes.compression.data.arithmetic.judge import Tally, Verdict, judge, tally
from quincunx.recipes.compression.data.arithmetic.language import ALPHABET, EOS_ID, KINDS, PAD_ID, SEPARATOR_ID
from quincunx.recipes.compression.data.arithmetic.load import (
    ArithmeticExample,
    ArithmeticSource,
    ArithmeticSplits,
    counts_of,
    load,
    parameters_of,
    read,
)
from quincunx.recipes.compression.data.arithmetic.problems import OUTSIDE, SPLITS, Parameters
from quincunx.recipes.compression.data.arithmetic.solve import Step, solve

__all__ = [
    "ALPHABET",
    "EOS_ID",
    "FILE_NAMES",
    "KINDS",
    "OUTSIDE",
    "PAD_ID",
    "SEPARATOR_ID",
    "SPLITS",
    "ArithmeticExample",
    "ArithmeticSource",
    "ArithmeticSplits",
    "Manifest",
    "Parameters",
    "Step",
    "Tally",
    "Verdict",
    "counts_of",
    "generate",
    "judge",
    "load",
    "parameters_of",
    "read",
    "solve",
    "tally",
]
