"""What an evaluation may change and training must find as it was: random states and modes of modules."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def states_kept(device: torch.device) -> Generator[None]:
    """Put the random states of python, numpy and torch (the CPU's and the device's) back on leaving."""
    python, arrays, processor = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        torch.set_rng_state(processor)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)
        if mps is not None:
            torch.mps.set_rng_state(mps)


@contextmanager
def modes_kept(model: nn.Module) -> Generator[None]:
    """Put every module's mode, training or evaluation, back on leaving."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
