"""A linear map whose weights are one for all tasks, or each task's own, chosen for each example of a batch.

B examples, S positions, I input width, O output width, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.nn.routing import TaskRouted


def task_linear(x: Tensor, weight: Tensor, bias: Tensor | None, tasks: Tensor) -> Tensor:
    """Return x W_t + b_t with each example's own task.

    Args:
        x: `[B, ..., I]`.
        weight: `[T, O, I]`.
        bias: `[T, O]`, or None.
        tasks: `[B]` int64.

    Returns:
        `[B, ..., O]`.
    """
    flat = x.reshape(len(x), -1, x.shape[-1])
    own = weight[tasks].transpose(1, 2)
    found = torch.bmm(flat, own) if bias is None else torch.baddbmm(bias[tasks].unsqueeze(1).to(flat.dtype), flat, own)
    return found.view(*x.shape[:-1], weight.shape[1])


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor | None, runs: Sequence[tuple[int, int]]) -> Tensor:
    """Return the same where the rows of a task stand together, each run of them by one product.

    No task's weights are copied for its rows, and their gradients are not added up row by row.

    Args:
        x: `[B, ..., I]`.
        weight: `[T, O, I]`.
        bias: `[T, O]`, or None.
        runs: (rows, task), one after another.

    Returns:
        `[B, ..., O]`.
    """
    weights = weight.unbind()
    biases = [None] * len(weights) if bias is None else bias.unbind()
    parts = x.split([rows for rows, _ in runs])
    found = [functional.linear(part, weights[task], biases[task]) for part, (_, task) in zip(parts, runs, strict=True)]
    return found[0] if len(found) == 1 else torch.cat(found)


class TaskLinear(TaskRouted):
    """A linear map of all tasks, or of each.

    Args:
        in_features: Input width I.
        out_features: Output width O.
        tasks: Number of tasks T with weights of their own; None: one map for all.
        bias: Whether there is one.
        std: Standard deviation of the normal starting values; 0: zeros.
    """

    def __init__(
        self, in_features: int, out_features: int, *, tasks: int | None = None, bias: bool = True, std: float = 0.02
    ) -> None:
        super().__init__()
        many = () if tasks is None else (tasks,)
        self.weight = nn.Parameter(torch.zeros(*many, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(*many, out_features)) if bias else None
        if std > 0:
            nn.init.normal_(self.weight, std=std)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, ..., O]` for `x [B, ..., I]`."""
        if self.weight.ndim == 2:
            return functional.linear(x, self.weight, self.bias)
        runs = self.runs(x, len(self.weight))
        if runs:
            return grouped_linear(x, self.weight, self.bias, runs)
        return task_linear(x, self.weight, self.bias, self.tasks(x))
