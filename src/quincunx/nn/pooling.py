"""One vector for a sequence of states: their mean over the valid tokens, or the state of a `cls` token.

B batch, S sequence, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def mean_pool(states: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean over each row's valid tokens: the sum divided by their number, never by the padded length.

    Args:
        states: `[B, S, D]`.
        valid: `[B, S]` bool, False where a token is padding; None when all are valid.

    Returns:
        `[B, D]`, of the states' dtype; half precision is summed in float32. Zeros for a row without a valid token.
    """
    dtype = torch.promote_types(states.dtype, torch.float32)
    if valid is None:
        return states.mean(dim=1, dtype=dtype).to(states.dtype)
    weights = valid.to(dtype)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
    return (states * weights[:, :, None]).sum(dim=1).to(states.dtype)


def cls_pool(states: Tensor) -> Tensor:
    """Return the state of the first token, `[B, D]` of `[B, S, D]`: it was prepended to gather the sequence."""
    return states[:, 0]
