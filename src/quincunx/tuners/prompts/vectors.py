"""Trained vectors that stand before others: of all tasks or of each, straight or through two maps.

The two maps with tanh between them are the reparametrisation of X. L. Li & P. Liang (ACL 2021). Everything is worked
out once for each task and then chosen for each example, so that the work does not grow with the batch.
B examples, P vectors, W width, I input and O output width of a map, M width between two maps, T tasks (1 for all).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.nn.routing import TaskRouted
from quincunx.tuners.task_linear import TaskLinear

TANH_SPREAD = 0.628
"""Standard deviation of tanh of a standard normal number."""


def every_task(linear: TaskLinear, x: Tensor) -> Tensor:
    """Return what a map makes of each task's own vectors `[T, P, I]`: `[T, P, O]`."""
    if linear.weight.ndim == 2:
        return functional.linear(x, linear.weight, linear.bias)
    found = torch.bmm(x, linear.weight.transpose(1, 2))
    return found if linear.bias is None else found + linear.bias.unsqueeze(1)


class Trunk(nn.Module):
    """Vectors and the first of the two maps, tanh included; several second maps may start from it.

    Args:
        length: Number of vectors P.
        width: Width of the vectors themselves.
        mid: Width M of what comes out.
        tasks: Number of tasks with vectors and maps of their own; None: one set for all.
    """

    def __init__(self, length: int, width: int, mid: int, tasks: int | None) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(tasks or 1, length, width))
        self.down = TaskLinear(width, mid, tasks=tasks, std=width**-0.5)
        self.mid = mid

    def forward(self) -> Tensor:
        """Return `[T, P, M]`."""
        return torch.tanh(every_task(self.down, self.vectors))


class SoftVectors(TaskRouted):
    """Trained vectors for each example of a batch.

    Args:
        length: Number of vectors P.
        width: Their width W.
        tasks: Number of tasks with vectors of their own; None: one set for all.
        std: Standard deviation of their numbers at the start.
        trunk: What they are mapped from; None: they are trained themselves. Its owner saves it.
    """

    def __init__(
        self, length: int, width: int, *, tasks: int | None = None, std: float = 0.3, trunk: Trunk | None = None
    ) -> None:
        super().__init__()
        self._trunk = (trunk,)
        self._by_task = tasks is not None
        if trunk is None:
            self.vectors = nn.Parameter(std * torch.randn(tasks or 1, length, width))
        else:
            self.up = TaskLinear(trunk.mid, width, tasks=tasks, std=std / (TANH_SPREAD * math.sqrt(trunk.mid)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the vectors `[B, P, W]` of each row of `x [B, ...]`; UsageError where tasks are not known."""
        trunk = self._trunk[0]
        every = self.vectors if trunk is None else every_task(self.up, trunk())
        return every[self.tasks(x)] if self._by_task else every.expand(len(x), -1, -1)
