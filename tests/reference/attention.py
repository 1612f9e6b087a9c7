"""Attention kinds one row, head and query at a time, over the valid tokens alone: slow and plain."""

from __future__ import annotations

import torch
from torch import Tensor


def softmax(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
    """Softmax attention `[B, H, S, E]`; zeros where a row has no valid token."""
    output = torch.zeros_like(v)
    for b in range(q.shape[0]):
        chosen = slice(None) if valid is None else valid[b].nonzero()[:, 0]
        for h in range(q.shape[1]):
            keys, values = k[b, h][chosen], v[b, h][chosen]
            if len(keys) == 0:
                continue
            for t in range(q.shape[2]):
                scores = torch.einsum("e,se->s", q[b, h, t], keys) / q.shape[3] ** 0.5
                chances = (scores - scores.max()).exp()
                output[b, h, t] = torch.einsum("s,se->e", chances / chances.sum(), values)
    return output
