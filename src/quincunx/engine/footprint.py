"""How many parameters a model has and about how much memory its training takes, found without running it.

The forward pass of the largest chunk is traced on fake tensors that have shapes but no memory, while every tensor that
autograd would keep for the backward pass is counted once. What an optimizer keeps is seen of a step over small tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.optim import Optimizer

from quincunx.config.plan import Plan
from quincunx.data.batch import Batch
from quincunx.engine.addressing import attach_dropout
from quincunx.engine.experiment import Parts
from quincunx.engine.objective import Represented, Summed
from quincunx.tuners.trainable import adapter_parameters

SIDES = (3, 5, 2, 4, 7)
"""Of the small tensors over which an optimizer is tried."""
STATES = 2
"""What an unknown optimizer keeps of each parameter: as many as Adam, the usual one."""


def count_parameters(parts: Parts) -> dict[str, int]:
    """Return the numbers of `trainable` and of all (`total`) parameters, shared ones once."""
    return {
        "trainable": sum(p.numel() for p in _parameters(parts) if p.requires_grad),
        "total": sum(p.numel() for p in _parameters(parts)),
    }


@dataclass(frozen=True)
class Counted:
    """The numbers of a model's parameters, shared ones once."""

    trainable: int
    total: int
    groups: dict[str, tuple[int, int]]
    """Trainable and total by group: adapters, and else the parts of the model by the first words of their names."""

    @property
    def percent(self) -> float:
        """The trainable share of the total, in percent."""
        return 100 * self.trainable / max(self.total, 1)


def count_groups(parts: Parts) -> Counted:
    """Return the numbers of parameters by group."""
    groups: dict[str, list[int]] = {}
    seen: set[int] = set()
    for owner, module in (("", parts.model), ("objective", parts.objective)):
        adapters = adapter_parameters(module)
        for name, parameter in module.named_parameters():
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            group = groups.setdefault("adapters" if name in adapters else _group(name, owner), [0, 0])
            group[0] += parameter.numel() if parameter.requires_grad else 0
            group[1] += parameter.numel()
    trainable, total = (sum(group[place] for group in groups.values()) for place in (0, 1))
    return Counted(trainable, total, {name: (group[0], group[1]) for name, group in groups.items()})


def _group(name: str, owner: str) -> str:
    words = [word for word in name.split(".") if word != "base_layer"]
    if owner:
        return owner
    deep = next((place for place, word in enumerate(words) if word.isdigit()), len(words) - 1)
    return ".".join(words[: max(1, min(deep, 3))])


def optimizer_memory(optimizer: Optimizer) -> int:
    """Return the bytes that an optimizer keeps of its parameters once it has stepped.

    It is tried over small tensors in the places of its parameters, which are not touched and need no memory for what
    would be kept of them. Only what is as large as its parameter counts: not a counter of steps, nor the sums over
    rows and columns that a factored optimizer keeps.

    Args:
        optimizer: Given back as it was. Of one that keeps something already, this is counted.
    """
    own: list[list[nn.Parameter]] = [group["params"] for group in optimizer.param_groups]
    if optimizer.state:
        return sum(_kept(optimizer, parameter, parameter) for parameters in own for parameter in parameters)
    small = [[_small(parameter) for parameter in parameters] for parameters in own]
    try:
        for group, parameters in zip(optimizer.param_groups, small, strict=True):
            group["params"] = parameters
        optimizer.step()
        pairs = zip(chain.from_iterable(own), chain.from_iterable(small), strict=True)
        return sum(_kept(optimizer, stand_in, parameter) for parameter, stand_in in pairs)
    finally:
        optimizer.state.clear()
        for group, parameters in zip(optimizer.param_groups, own, strict=True):
            group["params"] = parameters


def _kept(optimizer: Optimizer, of: nn.Parameter, size: nn.Parameter) -> int:
    """Return the bytes that are kept of a parameter, were it as large as another."""
    # a counter has the shape of a parameter that is a single number
    named: dict[str, object] = optimizer.state.get(of, {})
    kept = [found for name, found in named.items() if isinstance(found, Tensor) and name != "step"]
    return sum(size.numel() * found.element_size() for found in kept if found.shape == of.shape)


def _small(parameter: nn.Parameter) -> nn.Parameter:
    """Return a parameter of as many dimensions, at least one, with a gradient."""
    shape = SIDES[: max(1, parameter.dim())]
    found = nn.Parameter(torch.ones(shape, dtype=parameter.dtype))
    found.grad = torch.ones_like(found)
    return found


def estimate_memory(
    parts: Parts, plan: Plan, dtype: torch.dtype, optimizer: Optimizer | None = None
) -> dict[str, int] | None:
    """Return estimated bytes by purpose and their `total` for the largest chunk, or None where no sample is to be had.

    Weights, gradients and what the optimizer keeps are exact; activations are what autograd keeps, without the
    temporary buffers of kernels. Recomputed attention (gradient checkpointing) counts as kept.

    Args:
        parts: Model and objective.
        plan: Of the run.
        dtype: That the forward pass is computed in.
        optimizer: Over their parameters, before its first step; None counts what Adam keeps.
    """
    if parts.sample is None:
        return None
    weights = sum(map(_size, _tensors(parts).values()))
    gradients = sum(_size(p) for p in _parameters(parts) if p.requires_grad)
    length = plan.sizes.longest
    rows = min(plan.batch_size, plan.chunk_samples or plan.batch_size)
    if plan.chunk_tokens is not None:
        one = parts.sample(1, length).lengths
        rows = max(1, min(rows, plan.chunk_tokens // int(one.max()))) if one is not None else rows
    try:
        activations = _activations(parts, parts.sample(rows, length), dtype)
    except (
        DataDependentOutputException,
        DynamicOutputShapeException,
    ):  # what the model does depends on values, which fake tensors do not have
        return None
    found = {
        "weights": weights,
        "gradients": gradients,
        "optimizer": gradients * STATES if optimizer is None else optimizer_memory(optimizer),
        "activations": activations,
    }
    return {**found, "total": sum(found.values())}


def _parameters(parts: Parts) -> list[nn.Parameter]:
    return list(dict.fromkeys(p for module in (parts.model, parts.objective) for p in module.parameters()))


def _activations(parts: Parts, batch: Batch, dtype: torch.dtype) -> int:
    kept: dict[int, int] = {}
    held: list[torch.UntypedStorage] = []  # a storage's identity is only good while the storage lives

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
            held.append(storage)
        return tensor.detach()  # an operation that saves what it gave would hold itself up, and the weights with it

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    weights = [mode.from_tensor(tensor) for tensor in _tensors(parts).values()]  # known again in the trace
    own = {tensor.untyped_storage()._cdata for tensor in weights}
    context = attach_dropout(parts.model, parts.objective)
    if context is not None:
        context.set(0, batch.rows)
    training = parts.model.training
    parts.model.train()
    half = torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32)
    objective = parts.objective
    # which rows are encoded is read off the values; what is computed of them is not
    rows = objective.parts(batch) if isinstance(objective, Represented) else ()
    try:
        with mode, half, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            if isinstance(objective, Summed):
                objective.loss(parts.model, _fake(mode, batch))
            elif isinstance(objective, Represented):
                for part in rows:
                    if context is not None:
                        context.set(0, part.batch.rows)
                    objective.represent(parts.model, replace(part, batch=_fake(mode, part.batch)))
    finally:
        parts.model.train(training)
    return sum(kept.values())


def _fake(mode: FakeTensorMode, batch: Batch) -> Batch:
    return replace(batch, tensors={name: mode.from_tensor(tensor) for name, tensor in batch.tensors.items()})


def _tensors(parts: Parts) -> dict[int, Tensor]:
    """Return all parameters and buffers, shared ones once."""
    return {
        id(tensor): tensor
        for module in (parts.model, parts.objective)
        for tensor in chain(module.parameters(), module.buffers())
    }


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
