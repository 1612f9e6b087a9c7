"""Sums of Kronecker products and maps of low rank, matrix by matrix and example by example."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def kronecker(a: Tensor, w: Tensor) -> Tensor:
    """Return a (x) w, block by block (torch.kron refuses some matrices with one column)."""
    return torch.cat([torch.cat([entry * w for entry in row], 1) for row in a], 0)


def phm_matrix(rule: Tensor, weights: Tensor) -> Tensor:
    """Return H `[I, O]`, the sum of the Kronecker products of `rule [n, n, n]` and `weights [n, I/n, O/n]`."""
    products = [kronecker(a, w) for a, w in zip(rule, weights, strict=True)]
    return torch.stack(products).sum(0)


def by_example(x: Tensor, matrices: Sequence[Tensor], biases: Sequence[Tensor], tasks: Sequence[int]) -> Tensor:
    """Return x H + b for each row of `x [B, S, I]` with its own task's `[I, O]` and `[O]`."""
    return torch.stack([row @ matrices[task] + biases[task] for row, task in zip(x, tasks, strict=True)])
