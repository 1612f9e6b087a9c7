"""Random numbers that are computed from a key and a place, never drawn: the same however a batch is made up.

B batch, N places.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quincunx.nn.rows import position_words, scramble


def hashes(keys: Tensor, count: int, salt: int = 0) -> Tensor:
    """Return int64 words `[B, count]`, one for each key and place; no two places of a row share one.

    Args:
        keys: `[B]`, int64 or uint64: one a sequence, for example `quincunx.seeds.address(seed, "positions", row)`.
        count: Places. More of them begin with the same.
        salt: Tells several uses of the same keys apart.

    Raises:
        TypeError: The keys are of another type or shape.
    """
    if keys.dtype == torch.uint64:
        keys = keys.view(torch.int64)
    if keys.dtype != torch.int64 or keys.ndim != 1:
        raise TypeError(f"keys must be an int64 tensor of one dimension, found {keys.dtype} of {keys.ndim} dimensions")
    rows = scramble(scramble(keys) ^ salt)
    return scramble(rows[:, None] ^ position_words(count, keys.device))


def uniforms(keys: Tensor, count: int, salt: int = 0) -> Tensor:
    """Return numbers `[B, count]`, float64, uniform in [0, 1): multiples of 2**-53. Arguments as in `hashes`."""
    return ((hashes(keys, count, salt) >> 11) + 2**52).double() * 2**-53
