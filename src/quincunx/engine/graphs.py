"""Which chunks' graphs are kept between the loss of a whole batch and its backward pass, and which are replayed.

A kept graph costs memory, a replayed one a second forward pass; the gradient is the same, bit by bit. Under `auto`
graphs are kept while they fit: what autograd holds on to is counted as each chunk is computed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Literal

import psutil
import torch
from torch import Tensor, nn

from quincunx.config.plan import Plan

SHARE = 0.5
"""Of the memory that is free at the start: the rest is for the loss, the gradients and the optimizer."""


class Budget:
    """What graphs of one logical batch may hold together."""

    def __init__(self, choice: Literal["auto", "keep", "replay"], limit: int, modules: Iterable[nn.Module]) -> None:
        """`limit` is in bytes and only meant for `auto`; what `modules` own is in memory anyway and not counted."""
        self.choice = choice
        self.left = limit
        self.own = {tensor.untyped_storage()._cdata for module in modules for tensor in module.parameters()}

    @property
    def open(self) -> bool:
        """Whether the next chunk's graph should be tried."""
        return self.choice == "keep" or (self.choice == "auto" and self.left > 0)

    @contextmanager
    def counting(self) -> Generator[None]:
        """Take from the budget what autograd keeps of the operations within; below 0 it does not fit."""
        if self.choice != "auto":
            yield
            return
        seen: dict[int, torch.UntypedStorage] = {}  # a storage's identity is only good while the storage lives

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in self.own and storage._cdata not in seen:
                seen[storage._cdata] = storage
                self.left -= storage.nbytes()
            # not the tensor itself: an operation that saves what it gave would hold itself up, and a graph that is
            # dropped without a walk would never go
            return tensor.detach()

        with torch.autograd.graph.saved_tensors_hooks(keep, _as_it_is):
            yield


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def graph_limit(plan: Plan, device: torch.device, processes: int) -> int:
    """Return the bytes that graphs may hold under `auto`: what the plan says, else half of what is free now.

    `processes` share a machine's main memory.
    """
    if plan.graph_memory is not None:
        return plan.graph_memory * 2**20
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(SHARE * free)
    return int(SHARE * psutil.virtual_memory().available / processes)
