"""The kinds that faiss has: flat, inverted lists, graphs, product quantization. Imported only where faiss is installed.

All compare by inner product; of vectors of length 1 that is the cosine. N vectors, Q queries, D width.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from quincunx.errors import RunError, UsageError
from quincunx.index.options import BLOCK, Settings

METRIC = faiss.METRIC_INNER_PRODUCT
PER_LIST = 64
"""Vectors that train one list's centre: more cost time and change nothing that could be measured."""
CODEBOOK = 16
"""Entries of a codebook of product quantization: four bits, what faiss scores within registers (fast scan)."""
TRAINS_CODEBOOKS = 1 << 16
"""Vectors that train codebooks, at most."""


class Flat:
    """Every vector, compared where it lies."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = vectors

    def candidates(self, queries: NDArray[np.float32], count: int, effort: int, settings: Settings) -> NDArray:
        """Return the best vectors `[Q, count]`."""
        return faiss.knn(queries, self.vectors, count, metric=METRIC)[1]

    def save(self, path: Path) -> None:
        """Write nothing: the vectors are all there is."""


class Faiss:
    """An index of faiss that has its own structure."""

    def __init__(self, kind: str, index: Any) -> None:
        self.kind = kind
        self.index = index

    def candidates(self, queries: NDArray[np.float32], count: int, effort: int, settings: Settings) -> NDArray:
        """Return likely best vectors `[Q, count]`, NOTHING (which faiss writes alike) where it finds fewer."""
        count = min(count, self.index.ntotal)
        parameters = None
        if self.kind == "hnsw":
            parameters = faiss.SearchParametersHNSW(  # pyright: ignore[reportAttributeAccessIssue]
                efSearch=max(settings["ef_search"] * effort, count)
            )
        elif self.kind in ("ivf", "ivfpq"):
            parameters = faiss.SearchParametersIVF(
                nprobe=min(settings["nprobe"] * effort, self.index.nlist)  # pyright: ignore[reportCallIssue]
            )
        return self.index.search(queries, count, params=parameters)[1]

    def save(self, path: Path) -> None:
        """Write faiss's own format."""
        faiss.write_index(self.index, str(path))


def make(kind: str, vectors: NDArray[np.float32], options: Settings) -> Faiss:
    """Return an index of vectors `[N, D]`; too few of them to train it on are a UsageError."""
    count, width = vectors.shape
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(width, options["M"], METRIC)
        index.hnsw.efConstruction = options["ef_construction"]
    elif kind == "pq":
        index = faiss.IndexPQFastScan(width, _subspaces(width, options), 4, METRIC)
        _few_are_enough(index.pq.cp)
    else:
        nlist = lists(count, options)
        coarse: Any = faiss.IndexFlat(width, METRIC)
        if kind == "ivf":
            index = faiss.IndexIVFFlat(coarse, width, nlist, METRIC)
        else:
            index = faiss.IndexIVFPQFastScan(coarse, width, nlist, _subspaces(width, options), 4, METRIC)
            _few_are_enough(index.pq.cp)
        _few_are_enough(index.cp)
        index.cp.max_points_per_centroid = PER_LIST
        coarse.this.disown()
        index.own_fields = True
    if not index.is_trained:
        index.train(_sample(vectors, training_vectors(kind, count, options)))
    for start in range(0, count, BLOCK):
        index.add(np.ascontiguousarray(vectors[start : start + BLOCK]))
    return Faiss(kind, index)


def read(kind: str, vectors: NDArray[np.float32], path: Path) -> Faiss:
    """Return an index that `save` wrote; RunError where the file is none, or of other vectors."""
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise RunError(f"{path} cannot be read by faiss: {str(error).splitlines()[0]}") from error
    if (index.ntotal, index.d) != vectors.shape:
        raise RunError(
            f"{path} holds {index.ntotal:,} vectors of width {index.d}, its vectors' file {len(vectors):,} of width "
            f"{vectors.shape[1]}: make the index anew by quincunx index"
        )
    return Faiss(kind, index)


def lists(count: int, options: Settings) -> int:
    """Return how many lists N vectors are divided into."""
    asked = options["nlist"] or max(1, round(4 * math.sqrt(count)))
    return max(1, min(asked, count))


def training_vectors(kind: str, count: int, options: Settings) -> int:
    """Return how many of N vectors train an index."""
    wanted = TRAINS_CODEBOOKS if "code_bytes" in options else 0
    if "nlist" in options:
        wanted = max(wanted, PER_LIST * lists(count, options))
    return min(wanted, count)


def _subspaces(width: int, options: Settings) -> int:
    """Return into how many pieces product quantization cuts a vector: two to a byte of its code."""
    asked = 2 * options["code_bytes"]
    if not asked:
        return next(pieces for pieces in range(max(1, width // 2), 0, -1) if width % pieces == 0)
    if width % asked:
        fits = [number for number in range(1, width // 2 + 1) if width % (2 * number) == 0]
        raise UsageError(
            f"code_bytes is {options['code_bytes']}: vectors of width {width} are cut into {asked} equal pieces of "
            f"half a byte each. Use one of {', '.join(map(str, fits)) or 'no number: choose another kind'}"
        )
    return asked


def _few_are_enough(clustering: Any) -> None:
    clustering.min_points_per_centroid = 1  # else faiss warns on standard error, past every log
    clustering.seed = 1234


def _sample(vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return so many vectors, chosen at random but always the same, in their order."""
    if count >= len(vectors):
        return np.ascontiguousarray(vectors)
    chosen = np.random.default_rng(0).choice(len(vectors), count, replace=False)
    return vectors[np.sort(chosen)]
