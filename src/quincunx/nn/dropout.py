"""Dropout whose mask is computed, not drawn: a counter hash of (key, layer, salt, row, position within the row).

A mask then depends neither on how a batch is cut into chunks, nor on its other rows, nor on padding, so chunked
gradients stay exact; and on a CPU it is several times faster than drawing. B batch, L elements of one row.
"""

from __future__ import annotations

import struct

import torch
from torch import Tensor

from quincunx.nn.rows import RowAware, position_words, scramble

MULTIPLIER = 0x2C1B3C6D
"""Odd 32-bit number, about half of its bits set and without a pattern, that the last step multiplies by."""

SLICE = 1 << 18
"""Elements hashed at a time on a CPU: 1 MiB stays in the cache through all steps (the fastest of 2**15 to 2**20)."""


def threshold(p: float) -> int:
    """Return t such that a uniform signed 32-bit number lies below it with probability 1 - p, to within 2**-33.

    The result is kept inside the int32 range, so that p as small as 2**-40 still drops, at a rate of 2**-32.
    """
    return min(max(round((1 - p) * 2**32), 1), 2**32 - 1) - 2**31


def kept(rows: Tensor, positions: Tensor, limit: int, unit: int = 1) -> Tensor:
    """Return which elements are kept.

    Each row has two 32-bit numbers a and b (odd), each position one, c; an element is kept where the hash of
    (c xor a) * b, modulo 2**32, is below the limit.

    Args:
        rows: 64-bit words `[N]`, one for each row; see `row_words`.
        positions: int32 words `[L]`, one for each position within a row; see `quincunx.nn.rows.position_words`.
        limit: Signed 32-bit number; see `threshold`.
        unit: What to return for a kept element.

    Returns:
        int32 `[N, L]`, `unit` where kept and 0 elsewhere.
    """
    first = (rows >> 32).to(torch.int32)[:, None]
    second = rows.to(torch.int32)[:, None] | 1  # to int32 keeps the low half; odd, so that no position's bits are lost
    count, length = len(rows), len(positions)
    if torch.compiler.is_compiling() or rows.device.type != "cpu" or count * length <= SLICE:
        return _hash_in_place(positions ^ first, second, limit, unit)
    words = torch.empty(count, length, dtype=torch.int32)
    step = max(1, SLICE // length)
    for start in range(0, count, step):
        part = slice(start, start + step)
        _hash_in_place(
            torch.bitwise_xor(positions, first[part], out=words[part]),
            second[part],
            limit,
            unit,
        )
    return words


def _hash_in_place(words: Tensor, factor: Tensor, limit: int, unit: int) -> Tensor:
    words.mul_(factor)
    words.bitwise_xor_(words >> 16)
    words.mul_(MULTIPLIER)
    words.lt_(limit)  # in place: the result stays int32, which vectorises; a bool mask takes three times as long
    return words.mul_(unit) if unit != 1 else words


def row_words(words: Tensor, layer: int, salt: int, shape: tuple[int, ...] = ()) -> Tensor:
    """Return one word for each row of one dropout layer, and for each index of further leading dimensions.

    Args:
        words: int64 `[B]`, from key and row (`RowContext.current`).
        layer: The module's number.
        salt: Tells several applications of the same module apart; less than 2**32.
        shape: Sizes of the dimensions after the first whose indices are hashed one by one.

    Returns:
        int64 `[B * prod(shape)]`.
    """
    words = scramble(words ^ ((layer << 32) + salt))  # small numbers only: torch.compile may make symbols of them
    for size in shape:
        words = scramble(words[:, None] ^ position_words(size, words.device)).flatten()
    return words


class CounterDropout(RowAware):
    """Dropout by counter hash: zeroes elements with probability p, and divides the others by the chance to be kept.

    In evaluation mode, or with p = 0, the input itself is returned. In training mode `attach_rows(model)` must have
    been called once, and its context's `set(key, rows)` for the chunk at hand. The mask is the same on every device and
    in every precision.

    Args:
        p: Probability to be dropped, in [0, 1).
        leading: The first so many dimensions are addressed by their own index; the rest count through as one position.
            1 suits states `[B, S, D]`: a row cut to a shorter S keeps its mask. Attention weights `[B, H, S, S]` need 3
            for that, since otherwise position (h, t, s) would depend on S.
    """

    def __init__(self, p: float, leading: int = 1) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout must lie in [0, 1), found {p}")
        self.p = p
        self.leading = leading
        self.limit = threshold(p)
        self.scale = 2**32 / (self.limit + 2**31)
        """1 / chance to be kept, as the limit realises it, so that the mean of the output is the input."""
        self._scale_bits: int = struct.unpack("<i", struct.pack("<f", self.scale))[0]

    def forward(self, x: Tensor, salt: int = 0) -> Tensor:
        """Return x with elements dropped, of the same shape and dtype.

        Args:
            x: `[B, ...]`, float32, float64, bfloat16 or float16.
            salt: Tells several applications of the same module (tied weights) apart.
        """
        if not self.training or self.p == 0:
            return x
        context = self.attached()
        shape = x.shape
        words = context.current(shape[0]).to(x.device)
        rows = row_words(words, self.layer, salt, tuple(shape[1 : self.leading]))
        positions = context.positions(shape[self.leading :].numel(), x.device)
        if x.dtype == torch.float32:
            # The integer that is kept has the bits of the scale: nothing is converted, everything is done in one pass.
            return x * kept(rows, positions, self.limit, self._scale_bits).view(torch.float32).view(shape)
        mask = kept(rows, positions, self.limit).to(x.dtype).view(shape)
        return x * mask * self.scale  # the scale itself is never rounded to half precision: that would be a bias

    def extra_repr(self) -> str:
        """Return what `print(module)` shows."""
        return f"p={self.p}" + (f", leading={self.leading}" if self.leading != 1 else "")
