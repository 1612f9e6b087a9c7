"""The map to the vocabulary where each task has its own; the rest is `quincunx.tuners.residual.ResidualAdapter`.

B examples, S positions, R width of the bottleneck, V words, T tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.nn.routing import TaskRouted
from quincunx.tuners.task_linear import TaskLinear


class TaskVocabulary(TaskRouted):
    """A linear map to many more words than come in, each task's own.

    A map of that size cannot be had once for each example (V R numbers each, gigabytes for a batch). Instead an
    example's numbers go to its own task's places in a row of all tasks', and one product serves everybody.

    Args:
        in_features: Input width R.
        out_features: Words V.
        tasks: Number of tasks T.
        std: Standard deviation of the normal starting values; 0: zeros.
    """

    def __init__(self, in_features: int, out_features: int, tasks: int, *, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(tasks, in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(tasks, out_features))
        if std > 0:
            nn.init.normal_(self.weight, std=std)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, ..., V]` for `x [B, ..., R]`."""
        tasks, count = self.tasks(x), len(self.weight)
        between = (1,) * (x.ndim - 2)
        mine = functional.one_hot(tasks, count).to(x.dtype).view(len(x), *between, count, 1)
        placed = (mine * x.unsqueeze(-2)).flatten(-2)
        return torch.matmul(placed, self.weight.flatten(0, 1)) + self.bias[tasks].view(len(x), *between, -1)


def vocabulary(in_features: int, out_features: int, tasks: int | None, zero: bool) -> nn.Module:
    """Return one of the two maps of a head adapter; its weights begin at zero where that is asked for."""
    std = 0.0 if zero else 0.02
    if tasks is None or out_features <= in_features:
        return TaskLinear(in_features, out_features, tasks=tasks, std=std)
    return TaskVocabulary(in_features, out_features, tasks, std=std)
