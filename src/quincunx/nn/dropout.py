"""Dropout whose mask is computed, not drawn: a counter hash of (key, layer, salt, row, position within the row).

A mask then depends neither on how a batch is cut into chunks, nor on its other rows, nor on padding, so chunked
gradients stay exact; and on a CPU it is several times faster than drawing. B batch, L elements of one row.
"""

from __future__ import annotations

import math
import struct

import torch
from torch import Tensor

from quincunx.nn.rows import BEFORE, Columns, RowAware, RowContext, number_words, position_words, scramble

MULTIPLIER = 0x2C1B3C6D
"""Odd 32-bit number, about half of its bits set and without a pattern, that the last step multiplies by."""

SLICE = (1 << 15) - 64
"""Elements hashed at a time on a CPU. A slice stays in the cache through all its steps, and is just too small for torch
to spread it over threads: on a busy machine each of the nine steps would wait for the slower thread, which costs more
than two threads gain."""


def threshold(p: float) -> int:
    """Return t such that a uniform signed 32-bit number lies below it with probability 1 - p, to within 2**-33.

    The result is kept inside the int32 range, so that p as small as 2**-40 still drops, at a rate of 2**-32.
    """
    return min(max(round((1 - p) * 2**32), 1), 2**32 - 1) - 2**31


def kept(rows: Tensor, positions: Tensor, limit: int, value: float, dtype: torch.dtype) -> Tensor:
    """Return a mask with `value` where an element is kept and 0 where it is dropped.

    Each row has two 32-bit numbers a and b (odd), each position one, c; an element is kept where the hash of
    (c xor a) * b, modulo 2**32, is below the limit.

    Args:
        rows: 64-bit words `[N]`, one for each row; see `row_words`.
        positions: int32 words `[L]`, one for each position within a row; see `quincunx.nn.rows.position_words`.
        limit: Signed 32-bit number; see `threshold`.
        value: What a kept element is multiplied by.
        dtype: Floating-point type of the mask.

    Returns:
        `[N, L]`, of that type.
    """
    first = (rows >> 32).to(torch.int32)[:, None]
    second = rows.to(torch.int32)[:, None] | 1  # to int32 keeps the low half; odd, so that no position's bits are lost
    count, length = len(rows), len(positions)
    if torch.compiler.is_compiling() or rows.device.type != "cpu" or count * length <= SLICE:
        return _decide(positions ^ first, second, limit).to(dtype).mul_(value)
    mask = torch.empty(count, length, dtype=dtype)
    # The bits of a float32 number: multiplied by them, ones are turned into the mask without a conversion.
    bits = struct.unpack("<i", struct.pack("<f", value))[0]
    step = max(1, SLICE // length)
    for start in range(0, count, step):
        part = slice(start, start + step)
        for place in range(0, length, SLICE):
            target = mask[part, place : place + SLICE]
            run = positions[place : place + SLICE]
            if dtype == torch.float32:
                words = torch.bitwise_xor(run, first[part], out=target.view(torch.int32))
                _decide(words, second[part], limit).mul_(bits)
            else:
                target.copy_(_decide(run ^ first[part], second[part], limit)).mul_(value)
    return mask


def _decide(words: Tensor, factor: Tensor, limit: int) -> Tensor:
    """Turn words, in place, into 1 where kept and 0 where dropped."""
    words.mul_(factor)
    words.bitwise_xor_(words >> 16)
    words.mul_(MULTIPLIER)
    return words.lt_(limit)  # in place the result stays int32, which vectorises; bools would take three times as long


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
        words = index_words(words, position_words(size, words.device))
    return words


def index_words(words: Tensor, positions: Tensor) -> Tensor:
    """Return a word for each index within each row `[N * n]`, int64, of words `[N]` and those of the indices `[n]`."""
    return scramble(words[:, None] ^ positions).flatten()


def dropped(x: Tensor, rows: Tensor, positions: Tensor, limit: int, scale: float) -> Tensor:
    """Return x, of any shape, with elements dropped.

    Args:
        x: As many elements as there are pairs of the two that follow.
        rows: As in `kept` `[N]`.
        positions: As in `kept` `[L]`.
        limit: As in `kept`.
        scale: What the others are multiplied by.
    """
    if x.dtype in (torch.bfloat16, torch.float16):
        # The scale is not rounded to half precision, as a mask would hold it: that would be a bias.
        return x * kept(rows, positions, limit, 1.0, x.dtype).view(x.shape) * scale
    return x * kept(rows, positions, limit, scale, x.dtype).view(x.shape)


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

    def forward(self, x: Tensor, salt: int = 0) -> Tensor:
        """Return x with elements dropped, of the same shape and dtype.

        Args:
            x: `[B, ...]`, float32, float64, bfloat16 or float16.
            salt: Tells several applications of the same module (tied weights) apart.
        """
        if not self.training or self.p == 0:
            return x
        rows, positions = self._words(self.attached(), x.shape, x.device, salt)
        return dropped(x, rows, positions, self.limit, self.scale)

    def mask(self, words: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, salt: int = 0) -> Tensor:
        """Return what elements `[B, ...]` of rows with these words `[B]` are multiplied by in training mode.

        `words` are some of `RowContext.known()`, maybe of an earlier time.
        """
        rows = row_words(words, self.layer, salt, tuple(shape[1 : self.leading]))
        positions = self.attached().positions(math.prod(shape[self.leading :]), rows.device)
        return kept(rows, positions, self.limit, self.scale, dtype).view(shape)

    def _words(
        self, context: RowContext, shape: tuple[int, ...], device: torch.device, salt: int
    ) -> tuple[Tensor, Tensor]:
        """Return the word of each of the leading dimensions' indices, and of each position behind them."""
        words = row_words(context.current(shape[0]).to(device), self.layer, salt, tuple(shape[1 : self.leading]))
        return words, context.positions(math.prod(shape[self.leading :]), device)

    def extra_repr(self) -> str:
        """Return what `print(module)` shows."""
        return f"p={self.p}" + (f", leading={self.leading}" if self.leading != 1 else "")


class TokenDropout(CounterDropout):
    """Dropout addressed token by token: of vectors `[B, D]`, states `[B, S, D]`, attention weights `[B, H, Q, K]`.

    A token's number is its column's, or what the context says (`RowContext.numbered`); of texts that lie behind one
    another as states `[1, T, D]` (`RowContext.laid_out`) it is that in its own text. The mask is the same each way.

    Args:
        p: Probability to be dropped, in [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__(p, leading=3)

    def _words(
        self, context: RowContext, shape: tuple[int, ...], device: torch.device, salt: int
    ) -> tuple[Tensor, Tensor]:
        return token_words(context, self.layer, salt, shape, device)


def token_words(
    context: RowContext,
    layer: int,
    salt: int,
    shape: tuple[int, ...],
    device: torch.device,
    columns: Columns | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the words of rows and positions for `kept`, of a tensor of which the last dimension is the positions.

    Args:
        context: Says what rows and columns are.
        layer: The module's number.
        salt: Tells several applications of the same module apart.
        shape: `[B, D]`, `[B, S, D]`, `[1, T, D]` or `[B, H, Q, K]`; B may be a multiple of the rows that are set, each
            row's members behind one another.
        device: Of the tensor.
        columns: Their numbers, where they are not what the context says.

    Raises:
        RuntimeError: The tensor's rows are not those that were set.
    """
    columns, tokens = columns or context.columns, context.tokens
    if tokens is not None:
        if tuple(shape[:2]) != (1, len(tokens.rows)):
            raise RuntimeError(
                f"{len(tokens.rows)} tokens lie behind one another, the dropout got states of shape {tuple(shape)}"
            )
        words = row_words(context.known().to(device), layer, salt)
        places = context.positions(int(tokens.positions.max()) + 1, device)
        return scramble(words[tokens.rows] ^ places[tokens.positions]), context.positions(shape[-1], device)
    words = row_words(_members(context, shape[0], device), layer, salt)
    *between, last = shape[1:]
    if not between:
        return words, context.positions(last, device)
    for size in between[:-1]:
        words = index_words(words, context.positions(size, device))
    words = index_words(words, _columns(context, columns.own, between[-1], device))
    if len(between) == 1:
        return words, context.positions(last, device)
    keys = columns.own if columns.keys is None else columns.keys
    return words, _columns(context, keys, last, device)


def _members(context: RowContext, count: int, device: torch.device) -> Tensor:
    """Return a word for each of so many rows."""
    words = context.known().to(device)
    if count == len(words):
        return words
    if not len(words) or count % len(words):
        raise RuntimeError(
            f"rows were set for {len(words)} examples, the module got {count}: set them anew for each chunk, or train "
            "without dropout where a module makes other rows of them"
        )
    return index_words(words, context.positions(count // len(words), device))


def _columns(context: RowContext, numbers: Tensor | None, size: int, device: torch.device) -> Tensor:
    """Return a word for each of so many columns; those beyond what is numbered have been put before it."""
    if numbers is None:
        return context.positions(size, device)
    if size < len(numbers):
        numbers = numbers[:0]  # these are others
    extra = torch.arange(BEFORE, BEFORE + size - len(numbers), device=device)
    return number_words(torch.cat([extra, numbers.to(device)]))
