"""A linear map of low rank, y = (x U) V + b; the product U V is never made.

B examples, S positions, I input width, O output width, K rank, T tasks.
"""

from __future__ import annotations

from torch import Tensor, nn

from quincunx.tuners.task_linear import TaskLinear


class LowRankLinear(nn.Module):
    """A linear map of a low rank, of all tasks or of each.

    Args:
        in_features: Input width I.
        out_features: Output width O.
        rank: The rank K.
        tasks: Number of tasks T with maps of their own; None: one map for all.
        zero: Whether V begins at zero (U never does, so that V has a gradient).
    """

    def __init__(self, in_features: int, out_features: int, *, rank: int, tasks: int | None, zero: bool) -> None:
        super().__init__()
        # so that entries of the product begin with the standard deviation of a dense map's weights, 0.02
        std = (0.02 / rank**0.5) ** 0.5
        self.project = TaskLinear(in_features, rank, tasks=tasks, bias=False, std=std)
        self.expand = TaskLinear(rank, out_features, tasks=tasks, std=0.0 if zero else std)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, S, O]` for `x [B, S, I]`."""
        return self.expand(self.project(x))
