"""The fifteen tasks by name."""

from __future__ import annotations

from quincunx.config.suggest import closest
from quincunx.errors import UsageError
from quincunx.recipes.compression.data.tasks import context_free, context_sensitive, regular
from quincunx.recipes.compression.data.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (*regular.TASKS, *context_free.TASKS, *context_sensitive.TASKS)}
"""Config word -> task, in the order of the Chomsky hierarchy."""


def task_named(name: str) -> Task:
    """Return the task of a name; UsageError for one that there is not."""
    if name not in TASKS:
        near = closest(name, TASKS)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise UsageError(f"there is no task {name!r}{hint} There are: {', '.join(TASKS)}")
    return TASKS[name]
