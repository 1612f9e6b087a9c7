"""Readers of collections, one file a format: each returns a `Collection` or says what is wrong with its files."""

from __future__ import annotations

from quincunx.recipes.retrieval.data.readers.beir import read_beir
from quincunx.recipes.retrieval.data.readers.files import BadRows
from quincunx.recipes.retrieval.data.readers.ir_datasets import read_ir_datasets
from quincunx.recipes.retrieval.data.readers.pairs import read_pairs
from quincunx.recipes.retrieval.data.readers.saved import read_saved
from quincunx.recipes.retrieval.data.readers.tokenized import read_tokenized
from quincunx.recipes.retrieval.data.readers.triplets import read_triplets
from quincunx.recipes.retrieval.data.readers.tsv import read_texts, read_tsv

__all__ = [
    "BadRows",
    "read_beir",
    "read_ir_datasets",
    "read_pairs",
    "read_saved",
    "read_texts",
    "read_tokenized",
    "read_triplets",
    "read_tsv",
]
