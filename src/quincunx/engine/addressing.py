"""What modules are told before a pass: which rows and examples it works on, whose task, and all randomness."""

from __future__ import annotations

import torch
from torch import nn

from quincunx.data.batch import Batch
from quincunx.engine.runtime import Runtime, seed_torch
from quincunx.nn.examples import attach_examples
from quincunx.nn.foreign import adopt
from quincunx.nn.routing import attach_tasks
from quincunx.nn.rows import RowContext, attach_rows
from quincunx.seeds import address

TASKS = "tasks"
"""Name of the tensor of a batch that says which task each example belongs to, `[B]` int64."""


def attach_dropout(*models: nn.Module) -> RowContext | None:
    """Make all dropout of models ours, by row, whoever's modules they are; return what tells them the rows, None where
    nothing is dropped."""
    adopt(*models)
    return attach_rows(*models)


class Addressing:
    """Tells the modules of models about the chunk at hand.

    Args:
        runtime: Its device is where the modules are.
        seed: Of the run.
        models: Whose modules are told.
    """

    def __init__(self, runtime: Runtime, seed: int, *models: nn.Module) -> None:
        self.runtime = runtime
        self.seed = seed
        self._rows = attach_dropout(*models)
        self._tasks = attach_tasks(*models)
        self._examples = attach_examples(*models)

    def set(self, update: int, number: int, chunk: int, rows: Batch, role: int = 0) -> None:
        """Say what the next forward pass (or walk back) works on.

        Dropout goes by row; what else modules draw from torch's generator, by chunk and rank.

        Args:
            update: From 0.
            number: Of the logical batch in the update.
            chunk: Of the chunk in the logical batch; -1: the whole of it.
            rows: The chunk.
            role: Of the rows, where a batch has several.
        """
        device = self.runtime.device
        if self._rows is not None:
            self._rows.set(address(self.seed, "mask", update, number, role), rows.rows.to(device))
        if self._tasks is not None:
            tasks = rows.tensors.get(TASKS)
            self._tasks.set(None if tasks is None else tasks.to(device=device, dtype=torch.int64))
        if self._examples is not None:
            self._examples.set([f"{role}:{each}" for each in rows.ids])
        seed_torch(address(self.seed, "torch", update, number, role, chunk, self.runtime.rank), device)

    def clear(self) -> None:
        """Forget tasks and examples: what is computed next, an evaluation say, is of others."""
        if self._tasks is not None:
            self._tasks.set(None)
        if self._examples is not None:
            self._examples.set(None)
