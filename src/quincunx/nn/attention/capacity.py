"""How much a superposed memory holds: n random pairs are stored in one trace, and every value is asked for again.

Four memories: holographic ones (`hrr`, E numbers) with unit-spectrum keys, and with Gaussian keys undone by their
involution or by their floored exact inverse; and the tensor product (E² numbers) with keys of unit length.
R repetitions, n pairs, E width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from quincunx.errors import UsageError
from quincunx.nn.attention import hrr
from quincunx.seeds import address

WIDTHS = (64, 512)
"""Widths that the table shows unless told otherwise."""

PAIRS = (1, 4, 8, 16, 64, 256, 2000)
"""Numbers of pairs that the table shows unless told otherwise; one pair shows what the unbinding alone loses."""

REPETITIONS = 16
"""Memories measured at each point of the table unless told otherwise."""

BATCH_NUMBERS = 2**22
"""Most numbers of one tensor, where cutting can see to it; 16 MiB in float32."""


class CapacityRow(NamedTuple):
    """One memory at one width and load."""

    memory: str
    """A word of MEMORIES."""
    width: int
    """Width E of keys and values."""
    pairs: int
    """Stored pairs n."""
    repetitions: int
    """Memories R that the means are over."""
    cosine: float
    """Mean cosine of retrieved and true value."""
    cosine_error: float
    """Standard error of that mean, over repetitions."""
    accuracy: float
    """Share of retrieved values whose nearest stored value, by cosine, is the true one."""
    accuracy_error: float
    """Standard error of that share, over repetitions."""


COLUMNS: tuple[str, ...] = CapacityRow._fields
"""Names of the table's columns."""


def hrr_unitary(keys: Tensor, values: Tensor) -> Tensor:
    """Return what each key retrieves `[..., n, E]`, the keys first given unit spectra, for which unbinding is exact."""
    return hrr_involution(hrr.unit_spectrum(keys), values)


def hrr_involution(keys: Tensor, values: Tensor) -> Tensor:
    """Return what each key retrieves `[..., n, E]` by correlation: the involution of the key as it is."""
    return hrr.unbind(hrr.bind(keys, values).sum(-2, keepdim=True), keys)


def hrr_exact(keys: Tensor, values: Tensor) -> Tensor:
    """Return what each key retrieves `[..., n, E]` by its floored exact inverse, which amplifies the other pairs."""
    return hrr.bind(hrr.bind(keys, values).sum(-2, keepdim=True), hrr.inverse(keys, exact=True))


def tensor_product(keys: Tensor, values: Tensor) -> Tensor:
    """Return what each key, first brought to unit length, retrieves `[..., n, E]` from Σ k vᵀ."""
    keys = functional.normalize(keys, dim=-1)
    return keys @ (keys.mT @ values)


MEMORIES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "hrr, unitary keys": hrr_unitary,
    "hrr, Gaussian keys, involution": hrr_involution,
    "hrr, Gaussian keys, exact inverse": hrr_exact,
    "tpr, unit keys": tensor_product,
}
"""The memories of the table: keys and values `[..., n, E]` to what each key retrieves."""


def retrieval(retrieved: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return how well values were retrieved, one figure a memory.

    Args:
        retrieved: `[..., n, E]`.
        values: The true ones, in the same order `[..., n, E]`.

    Returns:
        Mean cosine of retrieved and true value `[...]`, and the share of retrieved values that are closer, by cosine,
        to their true value than to any other `[...]`.
    """
    retrieved, values = functional.normalize(retrieved, dim=-1), functional.normalize(values, dim=-1)
    rows = max(BATCH_NUMBERS * values.shape[-1] // values.numel(), 1)
    nearest = torch.cat([(some @ values.mT).argmax(-1) for some in retrieved.split(rows, dim=-2)], dim=-1)
    right = nearest == torch.arange(values.shape[-2], device=values.device)
    return (retrieved * values).sum(-1).mean(-1), right.to(values.dtype).mean(-1)


def capacity(
    memory: str, width: int, pairs: int, repetitions: int, seed: int, dtype: torch.dtype = torch.float32
) -> CapacityRow:
    """Return how well one memory retrieves, at one width and load.

    Keys and values are drawn from N(0, 1/E) anew for each repetition, by an address of their own: a point's figures
    do not depend on what else is measured, and all memories store the same pairs.

    Args:
        memory: A word of MEMORIES.
        width: Width E, at least 2.
        pairs: Stored pairs n, at least 1.
        repetitions: Memories R measured, at least 2, for the standard errors.
        seed: Root of the random draws.
        dtype: Computed in: float32 or float64.

    Raises:
        UsageError: No such memory, or a number too small.
    """
    if memory not in MEMORIES:
        raise UsageError(f"capacity: memory {memory!r} is not one of {'; '.join(MEMORIES)}")
    for name, number, least in (("width", width, 2), ("pairs", pairs, 1), ("repetitions", repetitions, 2)):
        if number < least:
            raise UsageError(f"capacity: {name} is {number}: expected {least} or more")
    at_once = max(BATCH_NUMBERS // (pairs * width), 1)
    cosines, accuracies = [], []
    for first in range(0, repetitions, at_once):
        drawn = [_draw(width, pairs, seed, number) for number in range(first, min(first + at_once, repetitions))]
        keys, values = torch.stack(drawn, dim=1).to(dtype)
        cosine, accuracy = retrieval(MEMORIES[memory](keys, values), values)
        cosines.append(cosine)
        accuracies.append(accuracy)
    figures = (*_mean(torch.cat(cosines)), *_mean(torch.cat(accuracies)))
    return CapacityRow(memory, width, pairs, repetitions, *figures)


def capacity_table(
    widths: Sequence[int] = WIDTHS,
    pairs: Sequence[int] = PAIRS,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> list[CapacityRow]:
    """Return the rows of all memories at all widths and loads, in this order; their fields are COLUMNS.

    Args:
        widths: Widths E.
        pairs: Numbers of stored pairs n.
        repetitions: Memories measured at each point, at least 2.
        seed: Root of the random draws.
        dtype: Computed in: float32 or float64.

    Raises:
        UsageError: A number too small.
    """
    return [
        capacity(memory, width, count, repetitions, seed, dtype)
        for memory in MEMORIES
        for width in widths
        for count in pairs
    ]


def _draw(width: int, pairs: int, seed: int, repetition: int) -> Tensor:
    """Return keys and values `[2, n, E]`, the same in every precision."""
    generator = torch.Generator().manual_seed(address(seed, "capacity", width, pairs, repetition))
    return torch.randn(2, pairs, width, generator=generator, dtype=torch.float32) / math.sqrt(width)


def _mean(values: Tensor) -> tuple[float, float]:
    """Return the mean of values `[R]` and its standard error."""
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))
