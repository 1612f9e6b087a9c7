"""How an index of each kind is made, read and searched.

A kind answers one question, which documents are likely the best; scores, ties, deletions and several parts are the same
for all of them (`indexed.py`). N vectors, Q queries, D width.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from quincunx.errors import MissingExtra, RunError
from quincunx.index.exact import search
from quincunx.index.options import BLOCK, KINDS, Settings
from quincunx.index.quantized import Quantized


class Searcher(Protocol):
    """A kind's own structure over N vectors."""

    def candidates(self, queries: NDArray[np.float32], count: int, effort: int, settings: Settings) -> NDArray:
        """Return for each query `[Q, D]` its likely best vectors `[Q, count]`, NOTHING where it finds fewer.

        `effort` multiplies what the settings say of how far a search goes: 1, then more where too little was found.
        """
        ...

    def save(self, path: Path) -> None:
        """Write what the vectors alone do not give."""
        ...


class Exact:
    """Every vector, by torch."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = vectors

    def candidates(self, queries: NDArray[np.float32], count: int, effort: int, settings: Settings) -> NDArray:
        """Return the best vectors `[Q, count]`."""
        return search(torch.from_numpy(queries), torch.from_numpy(self.vectors), count).documents

    def save(self, path: Path) -> None:
        """Write nothing: the vectors are all there is."""


class Codes:
    """Every vector in few bits."""

    def __init__(self, quantized: Quantized) -> None:
        self.quantized = quantized

    def candidates(self, queries: NDArray[np.float32], count: int, effort: int, settings: Settings) -> NDArray:
        """Return the best vectors `[Q, count]` by their codes."""
        return self.quantized.candidates(queries, count)

    def save(self, path: Path) -> None:
        """Write codes and scales."""
        save_file(dict(self.quantized.arrays), path)


def check_available(kind: str) -> None:
    """Raise MissingExtra where a kind needs faiss and it is not installed."""
    if KINDS[kind].faiss:
        _faiss(kind)


def make(kind: str, vectors: NDArray[np.float32], options: Settings) -> Searcher:
    """Return a searcher over vectors `[N, D]`, which may lie in a file; `options` are a kind's, all of them.

    Raises:
        MissingExtra: The kind needs faiss, and it is not installed.
        UsageError: An option does not go with these vectors.
    """
    if kind in ("exact", "flat"):
        return _every(kind, vectors)
    if kind in ("int8", "binary"):
        count, width = vectors.shape

        def blocks():
            return (vectors[start : start + BLOCK] for start in range(0, count, BLOCK))

        return Codes(Quantized.of(8 if kind == "int8" else 1, blocks, count, width))
    return _faiss(kind).make(kind, vectors, options)


def read(kind: str, vectors: NDArray[np.float32], path: Path | None) -> Searcher:
    """Return the searcher that `save` wrote, over the same vectors.

    Raises:
        MissingExtra: The kind needs faiss, and it is not installed.
        RunError: The file cannot be read, or holds something else.
    """
    if kind in ("exact", "flat") or path is None:
        return _every(kind, vectors)
    if kind not in ("int8", "binary"):
        return _faiss(kind).read(kind, vectors, path)
    try:
        arrays = load_file(path)
        codes, scales = arrays["codes"], arrays["scales"]
    except (OSError, SafetensorError, KeyError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    bits, width = (8, vectors.shape[1]) if kind == "int8" else (1, -(-vectors.shape[1] // 8))
    if codes.shape != (len(vectors), width) or scales.shape != (len(vectors),):
        raise RunError(f"{path} holds codes {list(codes.shape)} for {len(vectors):,} vectors: make the index anew")
    return Codes(Quantized(bits, vectors.shape[1], codes, scales))


def _every(kind: str, vectors: NDArray[np.float32]) -> Searcher:
    if kind == "flat":
        try:
            from quincunx.index.faiss_kinds import Flat
        except ImportError:
            return Exact(vectors)
        return Flat(vectors)
    return Exact(vectors)


def _faiss(kind: str) -> Any:
    try:
        return import_module("quincunx.index.faiss_kinds")
    except ImportError:
        raise MissingExtra("faiss-cpu", "retrieval", f"An index of kind {kind}") from None
