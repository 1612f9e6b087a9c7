"""Several optimizers, each over parameters of its own, as one: for parts of a model that move in different ways.

Groups and state are shared with the optimizers inside, so whatever reads or sets them (schedules, loss scalers,
checkpoints) finds one optimizer, whose state has one form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer


class Joined(Optimizer):
    """Optimizers that step together.

    Its `param_groups` are theirs, in their order: the same dictionaries, and its `state` is the one that all of them
    read and write.

    Args:
        parts: Optimizers over disjoint parameters, at least one.

    Raises:
        ValueError: There is none, or two of them hold the same parameter.
    """

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self._parts: tuple[Optimizer, ...] = ()
        # without defaults: a setting of one kind has no place in the groups of another
        super().__init__([group for part in parts for group in part.param_groups], {})
        for part in parts:
            self.state.update(part.state)
        self._parts = tuple(parts)
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride] - as torch's own
        """Let each of them step, after the closure, if any, has been called once; return what it gave."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the groups' settings and the state of all; ValueError where the groups are others."""
        super().load_state_dict(state_dict)
        self._share()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take a group in while this is being made; TypeError later, as nothing says which of them should hold it."""
        if self._parts:
            raise TypeError("a group cannot be added to optimizers that are joined: add it to one of them before")
        super().add_param_group(param_group)

    def _share(self) -> None:
        """Make the optimizers' groups and state these: loading replaces both."""
        begin = 0
        for part in self._parts:
            end = begin + len(part.param_groups)
            part.__setstate__({"state": self.state, "param_groups": self.param_groups[begin:end]})
            begin = end
