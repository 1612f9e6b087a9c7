"""A low-rank change of a linear map's weight: y = base(x) + scale B_t A_t x, t the example's task.

E. Hu et al., ICLR 2022. B examples, S positions, I input width, O output width, K rank, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.tuners.adapter import Call, SiteAdapter
from quincunx.tuners.task_linear import TaskLinear


class TaskLora(SiteAdapter):
    """Adds a low-rank map of what a linear map gets to what it gives.

    Args:
        in_features: Input width I.
        out_features: Output width O.
        rank: The rank K.
        scale: Factor of what is added.
        dropout: Probability of dropout on the input.
        tasks: Names of the tasks with matrices of their own; none: one pair for all.
        transposed: Whether the map keeps its weight as `[I, O]`, as GPT-2's do.
        tied: What else uses the map's weight, so that it may not be merged; empty: nothing.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        rank: int,
        scale: float,
        dropout: float = 0.0,
        tasks: Sequence[str] = (),
        transposed: bool = False,
        tied: str = "",
    ) -> None:
        super().__init__()
        self.names = tuple(tasks)
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        many = len(tasks) or None
        self.down = TaskLinear(in_features, rank, tasks=many, bias=False)
        self.up = TaskLinear(rank, out_features, tasks=many, bias=False, std=0.0)
        nn.init.uniform_(self.down.weight, -(in_features**-0.5), in_features**-0.5)  # as torch's own Linear begins
        self._transposed, self._tied = transposed, tied

    def forward(self, base: Call, *args: Any, **kwargs: Any) -> Tensor:
        """Return the map's output `[B, S, O]` with the change's."""
        return base(*args, **kwargs) + self.up(self.down(self.dropout(args[0]))) * self.scale

    def weight_change(self, task: str | int | None = None) -> Tensor:
        """Return what to add to the map's weight `[O, I]` (`[I, O]` for GPT-2's) so that one task's change is in it.

        Args:
            task: Its name or number; may be left out where all tasks have one pair.

        Raises:
            UsageError: There is no such task, none is named where each has its own, or the weight is used elsewhere.
        """
        if self._tied:
            raise UsageError(f"this part cannot be merged: the weight that it changes is also that of {self._tied}")
        down, up = self.down.weight, self.up.weight
        if down.ndim == 3:
            number = self._number(task)
            down, up = down[number], up[number]
        elif task is not None and task not in (*self.names, 0):
            raise UsageError(f"there is no task {task!r}: all tasks have one pair of matrices here")
        change = up @ down * self.scale
        return change.T if self._transposed else change

    def _number(self, task: str | int | None) -> int:
        if task is None:
            raise UsageError(
                f"each of the tasks {', '.join(self.names)} changes this weight in its own way, so they cannot be "
                "merged into one: add the weight_change(task) of one of them to it, or keep the part beside the model"
            )
        if isinstance(task, str) and task in self.names:
            return self.names.index(task)
        if isinstance(task, int) and 0 <= task < len(self.names):
            return task
        raise UsageError(f"there is no task {task!r}; there are {', '.join(self.names)}")
