"""Which task each example belongs to, shared by every module that keeps weights of its own for each task.

The engine sets it for each chunk, and again when it walks that chunk back; it then stays until it is set anew, so that
a layer that is computed a second time in the backward pass (gradient checkpointing) finds the tasks of the first time.
B examples, C rows of a chunk, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from quincunx.errors import UsageError


class TaskContext:
    """The tasks of the examples at hand; one object shared by all task-routed modules of a model."""

    def __init__(self) -> None:
        self._tasks: Tensor | None = None
        self._runs: tuple[tuple[int, int], ...] | None = None
        self.names: tuple[str, ...] = ()
        """What tasks are called, by number; empty where they have numbers only."""

    @property
    def tasks(self) -> Tensor | None:
        """The task of each example `[C]`; None: nothing is known."""
        return self._tasks

    @tasks.setter
    def tasks(self, tasks: Tensor | None) -> None:
        self._tasks, self._runs = tasks, None

    def runs(self, batch: int) -> tuple[tuple[int, int], ...]:
        """Return how many of `batch` rows in a row are of which task: (rows, task), in their order.

        Looked at once for tasks that were set, since that waits for their device.

        Raises:
            UsageError: As `current`.
        """
        tasks = self.current(batch, torch.device("cpu") if self.tasks is None else self.tasks.device)
        assert self.tasks is not None
        if self._runs is None:
            found: list[list[int]] = []
            for task in self.tasks.tolist():
                if found and found[-1][1] == task:
                    found[-1][0] += 1
                else:
                    found.append([1, task])
            self._runs = tuple((rows, task) for rows, task in found)
        times = len(tasks) // len(self.tasks)
        return self._runs if times == 1 else tuple((rows * times, task) for rows, task in self._runs)

    def set(self, tasks: Tensor | Sequence[int | str] | None) -> None:
        """Say which task each example of the next passes belongs to: `[C]`, numbers or names; None: nothing is known.

        Raises:
            UsageError: A name or a number that there is not.
        """
        if tasks is None or isinstance(tasks, Tensor):
            self.tasks = tasks
            return
        self.tasks = torch.tensor([self._number(task) for task in tasks], dtype=torch.int64)

    def current(self, batch: int, device: torch.device) -> Tensor:
        """Return the task of each of `batch` rows, int64 on a device.

        Where there are several times as many rows as examples (the beams of a search), each example's rows follow one
        another, as transformers has them.

        Raises:
            UsageError: No tasks were set, or not for these rows.
        """
        if self.tasks is None:
            raise UsageError(
                "a module has weights for each task, and nobody said which task an example belongs to: call the model "
                "with tasks=[...], or use quincunx.nn.routing.routed(model, tasks)"
            )
        count = len(self.tasks)
        if count == 0 or batch % count:
            raise UsageError(f"tasks were set for {count} examples, a module got {batch} rows: set them anew")
        if self.tasks.device != device:
            self._tasks = self.tasks.to(device)  # the same, so that what is known of them stays
        return self.tasks if batch == count else self.tasks.repeat_interleave(batch // count)

    def _number(self, task: int | str) -> int:
        if isinstance(task, str):
            if task not in self.names:
                raise UsageError(f"there is no task {task!r}; there are {', '.join(self.names) or 'numbers only'}")
            return self.names.index(task)
        if task < 0 or (self.names and task >= len(self.names)):
            raise UsageError(f"there is no task {task}; there are {len(self.names)}, counted from 0")
        return task


class TaskRouted(nn.Module):
    """Base of modules that have weights for each task; `attach_tasks` gives all of a model one context."""

    context: TaskContext | None = None

    def tasks(self, x: Tensor) -> Tensor:
        """Return the task of each row of `x [B, ...]`; UsageError where they are not known."""
        if self.context is None:
            raise UsageError("this module has weights for each task: call attach_tasks(model) once before it is used")
        return self.context.current(len(x), x.device)

    def runs(self, x: Tensor, most: int) -> tuple[tuple[int, int], ...] | None:
        """Return how many rows of `x [B, ...]` in a row are of which task, (rows, task) in their order.

        None where there are more than `most` such runs, or the tasks' values are not to be looked at.
        """
        context = self.context
        if context is None or context.tasks is None or torch.compiler.is_compiling():
            return None
        if isinstance(context.tasks, FakeTensor) or isinstance(x, FakeTensor):
            return None
        found = context.runs(len(x))
        return found if len(found) <= most else None


def attach_tasks(*models: nn.Module, names: Sequence[str] = ()) -> TaskContext | None:
    """Give every task-routed module in the models one context; None where no module is task-routed.

    A context that some of them share already is kept, with its names where none are given.
    """
    found = [module for model in models for module in model.modules() if isinstance(module, TaskRouted)]
    context = next((module.context for module in found if module.context is not None), None) or TaskContext()
    if names:
        context.names = tuple(names)
    for module in found:
        module.context = context
    return context if found else None


@contextmanager
def routed(model: nn.Module, tasks: Tensor | Sequence[int | str] | None) -> Iterator[None]:
    """Say for a while which task each example belongs to, for evaluation and generation.

    A backward pass belongs inside where layers are computed again in it (gradient checkpointing).
    """
    context = attach_tasks(model)
    before = context.tasks if context is not None else None
    if context is not None:
        context.set(tasks)
    try:
        yield
    finally:
        if context is not None:
            context.tasks = before
