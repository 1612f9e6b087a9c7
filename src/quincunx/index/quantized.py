"""Vectors in 8 bits or 1 bit a number, scored by integer products: a quarter or a thirty-second of the memory.

Each vector less the mean of all is a scale times small integers, `x ~ mean + scale * code`; the query is held in 8
bits, so that a block of scores is one integer matrix product. The mean adds the same to all scores of a query and is
left out. With one bit, code is the signs and scale is `|x|^2 / sum |x_d|`, which makes the estimate exact for the
vector itself (as in RaBitQ, Gao and Long 2024, without its rotation).

N vectors, Q queries, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quincunx.index.exact import search_by

LARGEST = 127
BLOCK = 2**21
"""Scores of a block: what is computed of them passes through the processor's caches several times."""


class Quantized:
    """N vectors as codes, which are searched without the vectors."""

    def __init__(self, bits: int, width: int, codes: NDArray, scales: NDArray[np.float32]) -> None:
        """Take codes `[N, D] int8`, or `[N, ceil(D / 8)] uint8` where one bit is used, and scales `[N]`."""
        self.bits = bits
        self.width = width
        self.codes = codes
        self.scales = scales

    @classmethod
    def of(cls, bits: int, blocks: Callable[[], Iterable[NDArray[np.float32]]], count: int, width: int) -> Quantized:
        """Return the codes of vectors that come in blocks `[n, D]`, gone through twice; `bits` is 8 or 1."""
        mean = np.zeros(width, np.float64)
        for block in blocks():
            mean += block.sum(0, dtype=np.float64)
        mean32 = (mean / max(count, 1)).astype(np.float32)
        codes = np.empty((count, width), np.int8) if bits == 8 else np.empty((count, -(-width // 8)), np.uint8)
        scales = np.empty(count, np.float32)
        at = 0
        for block in blocks():
            until = at + len(block)
            codes[at:until], scales[at:until] = (_in_bytes if bits == 8 else _in_bits)(block - mean32)
            at = until
        return cls(bits, width, codes, scales)

    @property
    def arrays(self) -> Mapping[str, NDArray]:
        """What a file must hold, by name."""
        return {"codes": self.codes, "scales": self.scales}

    def candidates(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Return `[Q, count]` vectors by their estimated scores, best first."""
        asked, _ = _in_bytes(queries)  # its scale is the same for all documents of a query
        tensor = torch.from_numpy(asked)
        doubled_sum = tensor.int().sum(1, keepdim=True)
        scales = torch.from_numpy(self.scales)

        def score(q0: int, q1: int, d0: int, d1: int) -> Tensor:
            codes = self.codes[d0:d1]
            if self.bits == 8:
                product = _product(tensor[q0:q1], torch.from_numpy(codes))
            else:  # signs are 2 b - 1 of bits b
                bits = np.unpackbits(codes, axis=1, count=self.width).view(np.int8)
                product = 2 * _product(tensor[q0:q1], torch.from_numpy(bits)) - doubled_sum[q0:q1]
            return product * scales[d0:d1]

        return search_by(score, len(queries), len(self.codes), count, BLOCK).documents


def _in_bytes(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    scales = np.abs(vectors).max(1, initial=0) / LARGEST
    codes = np.rint(vectors / np.where(scales > 0, scales, 1)[:, None])
    return codes.astype(np.int8), scales.astype(np.float32)


def _in_bits(vectors: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    total = np.abs(vectors).sum(1)
    scales = (vectors * vectors).sum(1) / np.where(total > 0, total, 1)
    return np.packbits(vectors > 0, axis=1), scales.astype(np.float32)


def _product(queries: Tensor, codes: Tensor) -> Tensor:
    """Return the inner products `[Q, N]` of integers in a byte, exactly."""
    if _bytes_multiply():
        return torch._int_mm(queries, codes.T)  # pyright: ignore[reportPrivateImportUsage]
    return (queries.float() @ codes.float().T).round()  # exact as long as sums stay below 2^24


@cache
def _bytes_multiply() -> bool:
    """Tell whether torch multiplies bytes into 32-bit integers here, and exactly: old processors' products saturate."""
    try:
        extremes = torch.tensor([LARGEST, -LARGEST], dtype=torch.int8)
        rows = extremes.repeat(2, 64)
        rows[1] = LARGEST
        wanted = rows.int() @ rows.int().T
        found = torch._int_mm(rows, rows.T)  # pyright: ignore[reportPrivateImportUsage]
        return bool((found == wanted).all())
    except (AttributeError, RuntimeError):
        return False
