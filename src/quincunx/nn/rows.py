"""Which rows of the global logical batch a forward pass works on, shared by every module that draws random masks.

The engine sets it for each chunk, and again when it walks that chunk back; a mask is then a function of (seed, update,
layer, row, position), so that neither chunks nor processes nor replays change it. C rows of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

GOLDEN = 0x9E3779B97F4A7C15
"""Fraction of the golden ratio, 64 bits: multiples of it lie far apart."""
SQRT_TWO = 0xB504F333F9DE6485
SQRT_THREE = 0xDDB3D742C265539D
"""Leading 64 bits of the square roots, the first made odd: multiplying by odd numbers loses nothing."""

CACHED_POSITIONS = 1 << 24
"""Position words kept at most, by device: 64 MiB."""


def signed(word: int) -> int:
    """Return the 64-bit two's complement number with the last 64 bits of `word`, as torch's int64 holds it."""
    return (word + (1 << 63)) % (1 << 64) - (1 << 63)


def scramble(words: Tensor) -> Tensor:
    """Return int64 words, of any shape, scrambled: changing one bit of a word changes each bit with probability 1/2.

    Two rounds of xor-shift and multiplication modulo 2**64; no two words give the same result.
    """
    words = (words ^ _shift(words, 32)) * signed(SQRT_TWO)
    words = (words ^ _shift(words, 29)) * signed(SQRT_THREE)
    return words ^ _shift(words, 32)


def _shift(words: Tensor, by: int) -> Tensor:
    return (words >> by) & ((1 << (64 - by)) - 1)  # torch's shift copies the sign; the hash needs zeros there


def position_words(count: int, device: torch.device) -> Tensor:
    """Return a scrambled int32 word `[count]` for each position within a row, for at most 2**32 positions.

    No two positions share a word, else they would share every decision; a longer run of positions begins with the same.
    """
    return number_words(torch.arange(count, device=device))


def number_words(numbers: Tensor) -> Tensor:
    """Return the words `[n]` of positions with these numbers `[n]`, int64 from 0 to 2**32 - 1; see `position_words`."""
    # The xor comes first: torch.compile would take a plain multiple of arange for an index, computed without wrapping.
    words = numbers ^ (SQRT_TWO >> 32)
    words = (words * (GOLDEN >> 32)) & 0xFFFFFFFF
    words = words ^ (words >> 16)
    words = (words * (SQRT_THREE & 0xFFFFFFFF)) & 0xFFFFFFFF
    return (words ^ (words >> 15)).to(torch.int32)


class Tokens(NamedTuple):
    """Which tokens of which rows a pass works on, where they lie behind one another as one long sequence."""

    rows: Tensor
    """Of each token among the rows of the chunk `[T]`, int64."""
    positions: Tensor
    """Of each token in its row `[T]`, int64."""


class Columns(NamedTuple):
    """Which numbers the columns `[S]` of a pass have, where padding stands between its parts: each part then counts by
    itself, and padding moves nothing. None: 0, 1, 2 and so on."""

    own: Tensor | None = None
    """Of what is computed `[S]`, int64 below 2**31."""
    keys: Tensor | None = None
    """Of all that it attends to, what was kept from before included `[K]`; None: its own."""
    memory: Tensor | None = None
    """Of another stack's states, which it attends to besides `[M]`."""


PLAIN = Columns()
BEFORE = 1 << 31
"""Numbers from here on are those of columns that a module has put before those it was given."""


class RowContext:
    """The rows of the chunk at hand; one object shared by all row-aware modules of a model."""

    def __init__(self) -> None:
        self.words: Tensor | None = None
        self.tokens: Tokens | None = None
        self.columns = PLAIN
        self.passes: list[Any] = []
        """Passes through modules that are under way, innermost last; see `quincunx.nn.foreign`."""
        self._positions: dict[torch.device, Tensor] = {}

    def set(self, key: int, rows: Tensor) -> None:
        """Say what the next forward (or backward) pass works on.

        `key` is a 64-bit number made of seed and update (and logical batch); `rows [C]`, int64, are positions in the
        global logical batch, on the device of the model. TypeError when rows are anything else.
        """
        if rows.dtype != torch.int64 or rows.ndim != 1:
            raise TypeError(
                f"rows must be an int64 tensor of one dimension, found {rows.dtype} of {rows.ndim} dimensions"
            )
        # The key enters as part of a tensor: a compiled model then sees the same kind of input at every update.
        self.words = scramble(rows * signed(GOLDEN) + signed(key))

    def current(self, batch: int) -> Tensor:
        """Return the word of each row `[C]`, int64; RuntimeError when no rows, or not `batch` of them, were set."""
        words = self.known()
        if len(words) != batch:
            raise RuntimeError(
                f"rows were set for {len(words)} examples, the module got {batch}: set them anew for each chunk"
            )
        return words

    def known(self) -> Tensor:
        """Return the word of each row that was set `[C]`, int64; RuntimeError when none were."""
        if self.words is None:
            raise RuntimeError(
                "a random mask was asked for in training mode before the rows were set: "
                "call attach_rows(model).set(key, rows), or model.eval()"
            )
        return self.words

    @contextmanager
    def at(self, words: Tensor | None) -> Iterator[None]:
        """Go back to earlier `words` for a while: a recomputation in the backward pass draws its forward's masks."""
        present, self.words = self.words, words
        try:
            yield
        finally:
            self.words = present

    @contextmanager
    def laid_out(self, tokens: Tokens | None) -> Iterator[None]:
        """Say for a while that the rows lie behind one another; None: each is a row of its own, as ever."""
        present, self.tokens = self.tokens, tokens
        try:
            yield
        finally:
            self.tokens = present

    @contextmanager
    def numbered(self, columns: Columns) -> Iterator[None]:
        """Say for a while which numbers the columns have."""
        present, self.columns = self.columns, columns
        try:
            yield
        finally:
            self.columns = present

    @contextmanager
    def members(self, rows: Tensor, numbers: Tensor) -> Iterator[None]:
        """Go on for a while with several members of each row as rows of their own.

        Args:
            rows: Of each member among the rows that were set `[P]`, int64.
            numbers: Which member of its row it is `[P]`, int64.
        """
        words = self.words
        if words is not None and len(rows):
            places = self.positions(int(numbers.max()) + 1, words.device)
            words = scramble(words[rows] ^ places[numbers])
        with self.at(words):
            yield

    def as_it_is(self) -> AbstractContextManager[None]:
        """Return what goes back, when it is entered, to what is set now: for a recomputation in the backward pass."""
        return self._as(self.words, self.tokens, self.columns)

    @contextmanager
    def _as(self, words: Tensor | None, tokens: Tokens | None, columns: Columns) -> Iterator[None]:
        with self.at(words), self.laid_out(tokens), self.numbered(columns):
            yield

    def positions(self, count: int, device: torch.device) -> Tensor:
        """Return `position_words(count, device)`; the longest run so far is kept, within CACHED_POSITIONS."""
        if torch.compiler.is_compiling() or count > CACHED_POSITIONS:
            return position_words(count, device)
        known = self._positions.get(device)
        if known is None or len(known) < count:
            known = self._positions[device] = position_words(count, device)
        return known[:count]


class RowAware(nn.Module):
    """Base of modules whose randomness is addressed by row; `attach_rows` gives each its context and layer number."""

    context: RowContext | None = None
    layer: int = 0

    def attached(self) -> RowContext:
        """Return the context; RuntimeError when `attach_rows` was not called."""
        if self.context is None:
            raise RuntimeError("this module draws masks by row: call attach_rows(model) once before training")
        return self.context

    def numbering(self, columns: Columns) -> AbstractContextManager[None]:
        """Return `RowContext.numbered` of the context; nothing where `attach_rows` was not called."""
        return nullcontext() if self.context is None else self.context.numbered(columns)

    def looking_before(self, count: int, device: torch.device) -> AbstractContextManager[None]:
        """Say for a while that what attends looks at so many columns that were put before all others."""
        if self.context is None:
            return nullcontext()
        return self.numbering(self.context.columns._replace(keys=torch.arange(BEFORE, BEFORE + count, device=device)))


def attach_rows(*models: nn.Module) -> RowContext | None:
    """Give every row-aware module in the models one shared context and a layer number of its own, in module order.

    Returns the context, or None when no module is row-aware. Modules that occur twice (tied weights) have one number.
    """
    context = RowContext()
    found: list[RowAware] = []
    for model in models:
        found.extend(module for module in model.modules() if isinstance(module, RowAware))
    for number, module in enumerate(dict.fromkeys(found)):
        module.context = context
        module.layer = number
    return context if found else None


def context_of(model: nn.Module) -> RowContext | None:
    """Return the context that a model's row-aware modules share; None where it has none, or none was attached."""
    return next((m.context for m in model.modules() if isinstance(m, RowAware) and m.context is not None), None)
