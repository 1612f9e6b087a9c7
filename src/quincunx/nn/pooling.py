"""One vector for a sequence of states: the mean over its valid tokens, its first or last state, or what a learned
query takes from it by attention.

Padding changes nothing, and a row without a valid token gives zeros. B batch, S sequence, M queries, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quincunx.nn.attention.parts import without_autocast


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


def cls_pool(states: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the state of the first token, `[B, D]` of `[B, S, D]`: it was prepended to gather the sequence.

    With `valid [B, S]`, zeros for a row without a valid token.
    """
    return states[:, 0] if valid is None else states[:, 0].masked_fill(~valid[:, :1], 0)


def last_pool(states: Tensor, valid: Tensor | None) -> Tensor:
    """Return the state of each row's last valid token: in a causal model it is the only one to have seen them all.

    Args:
        states: `[B, S, D]`.
        valid: `[B, S]` bool, False where a token is padding; None when all are valid.

    Returns:
        `[B, D]`. Zeros for a row without a valid token.
    """
    if valid is None:
        return states[:, -1]
    places = torch.arange(1, states.shape[1] + 1, device=states.device)
    last = (valid * places).amax(dim=1)  # counted from 1; 0 where no token is valid
    index = (last - 1).clamp(min=0)[:, None, None].expand(-1, 1, states.shape[2])
    return states.gather(1, index).squeeze(1).masked_fill(last[:, None] == 0, 0)


def attend(queries: Tensor, states: Tensor, valid: Tensor | None, scale: float = 1.0) -> Tensor:
    """Return what queries take from the states: the states' means, weighted by softmax(scale * query · state).

    Args:
        queries: `[M, D]`, the same for each row.
        states: `[B, S, D]`.
        valid: `[B, S]` bool, False where a token is padding; None when all are valid.
        scale: Factor of the products.

    Returns:
        `[B, M, D]`, of the states' dtype; half precision is computed in float32. Zeros for a row without a valid token.
    """
    dtype = torch.promote_types(states.dtype, torch.float32)
    with without_autocast(states):
        wide = states.to(dtype)
        weights = masked_softmax(scale * (queries.to(dtype) @ wide.transpose(1, 2)), valid_keys(valid))
        return (weights @ wide).to(states.dtype)


def masked_softmax(logits: Tensor, valid: Tensor | None) -> Tensor:
    """Return the softmax over the last dimension of those elements that `valid` (which broadcasts) marks True.

    The others get 0; where none is marked all are 0, and their gradient is 0 too, not NaN.
    """
    if valid is None:
        return logits.softmax(dim=-1)
    lowest = torch.finfo(logits.dtype).min
    return logits.masked_fill(~valid, lowest).softmax(dim=-1).masked_fill(~valid, 0)


def valid_keys(valid: Tensor | None) -> Tensor | None:
    """Return `valid [B, S]` as `[B, 1, S]`, to be broadcast over queries."""
    return None if valid is None else valid[:, None, :]


class AttentionPool(nn.Module):
    """One learned query attends over the states: the sum of states weighted by softmax(query · state).

    The query starts as in `initial_codes`.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(initial_codes(1, width)[0])

    def forward(self, states: Tensor, valid: Tensor | None) -> Tensor:
        """Return `[B, D]` of states `[B, S, D]`; zeros for a row without a valid token."""
        return attend(self.query[None], states, valid).squeeze(1)


def initial_codes(count: int, width: int) -> Tensor:
    """Return learned queries `[count, width]` to start with, N(0, 1 / width).

    Their product with a state of unit variance then has unit variance, so that attention starts spread out. Drawn from
    N(0, 1) it has variance `width`: one token takes nearly all the weight and nothing is learned about the others.
    """
    return torch.randn(count, width) / width**0.5
