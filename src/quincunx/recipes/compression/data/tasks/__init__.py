"""The fifteen tasks of Delétang et al. (2022) on which generalisation to longer sequences is measured. Numpy only.

>>> from quincunx.recipes.compression.data.tasks import TASKS
>>> TASKS["bucket_sort"].sample(key=2, length=10)
Sample(input='1023141302', output='0011122334')
"""

from __future__ import annotations

from quincunx.recipes.compression.data.tasks.export import generate
from quincunx.recipes.compression.data.tasks.load import IGNORED, TaskExample, TaskSource, TaskSplits, load, read
from quincunx.recipes.compression.data.tasks.manifest import FILE_NAMES, Manifest
from quincunx.recipes.compression.data.tasks.task import ANSWER, END, PAD, Sample, Task
from quincunx.recipes.compression.data.tasks.tasks import TASKS, task_named

__all__ = [
    "ANSWER",
    "END",
    "FILE_NAMES",
    "IGNORED",
    "PAD",
    "TASKS",
    "Manifest",
    "Sample",
    "Task",
    "TaskExample",
    "TaskSource",
    "TaskSplits",
    "generate",
    "load",
    "read",
    "task_named",
]
