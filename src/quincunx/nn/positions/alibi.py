"""Attention with linear biases (Press et al. 2022, arXiv 2108.12409): a score loses in proportion to the distance.

              keys 0   1   2   3
    query 0        0   0   0   0         times the slope of the head; causal. What comes after the query is for the
    query 1       -1   0   0   0         mask to hide; symmetric, it would have -1, -2 ... there, for encoders
    query 2       -2  -1   0   0
    query 3       -3  -2  -1   0

B batch, H heads, Q queries, K keys.
"""

from __future__ import annotations

import torch
from torch import Tensor


def slopes(heads: int) -> Tensor:
    """Return the slope of each head, `[H]`, float64, as in the paper's code.

    2**(-8/H), 2**(-16/H) ... 2**-8 where H is a power of two; otherwise those of the power of two below, and then every
    second one of the next power.
    """
    power = 1 << (heads.bit_length() - 1)
    exponents = torch.arange(1, power + 1, dtype=torch.float64) * (8 / power)
    further = (2 * torch.arange(heads - power, dtype=torch.float64) + 1) * (4 / power)
    return 2.0 ** -torch.cat([exponents, further])


def bias(
    query_positions: Tensor,
    key_positions: Tensor,
    heads: int,
    *,
    causal: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return what is added to attention scores: minus the slope times the distance.

    Args:
        query_positions: `[B, Q]`, whole or real numbers.
        key_positions: `[B, K]`, likewise.
        heads: H.
        causal: A key after its query gets 0, which the causal mask then hides. False: distances count both ways.
        dtype: Floating-point type of the result.

    Returns:
        `[B, H, Q, K]`, none above 0.
    """
    # whole numbers are subtracted as they are: half precision could not tell distant ones apart
    distances = query_positions[:, None, :, None] - key_positions[:, None, None, :]
    distances = distances.clamp(min=0) if causal else distances.abs()
    factors = slopes(heads).to(device=distances.device, dtype=torch.promote_types(dtype, torch.float32))
    return (-factors[:, None, None] * distances).to(dtype)
