"""From the config's optimizer and the trained modules to a torch optimizer.

Biases, the weights of norms and everything else with at most one dimension are kept out of weight decay, each shared
parameter is counted once, and the groups carry names so that a checkpoint tells which is which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from quincunx.config.schema import Target
from quincunx.config.sections.training import AdamW, Update
from quincunx.config.sections.training import Optimizer as OptimizerConfig
from quincunx.config.target import TargetError, TargetProblem, build, resolve, step_requirement
from quincunx.errors import UsageError

NamedParameters = list[tuple[str, nn.Parameter]]

NORMS = (nn.LayerNorm, nn.RMSNorm)
"""Norms whose weights may have several dimensions; those of the others have one, which is enough to tell."""
MATRICES = (nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Their weights decay, even in a class with `Norm` in its name or shared with one."""


def trainable(modules: Sequence[nn.Module]) -> NamedParameters:
    """Return the trainable parameters of several modules in order, each once however often it is shared.

    Raises UsageError when there is none.
    """
    found: dict[int, tuple[str, nn.Parameter]] = {}
    frozen = 0
    for module in modules:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                found.setdefault(id(parameter), (name, parameter))
            else:
                frozen += 1
    if not found:
        reason = f"all {frozen} parameter tensors are frozen" if frozen else "the model has no parameters"
        raise UsageError(f"there is nothing to train: {reason}")
    return list(found.values())


def split_by_decay(modules: Sequence[nn.Module]) -> tuple[NamedParameters, NamedParameters]:
    """Return the trainable parameters that weight decay may shrink, and those that it should not.

    The second are the parameters of norms (torch's, and any class with `Norm` in its name that is not a linear map,
    convolution or embedding), those whose own name ends in `bias`, and those with at most one dimension (scales, a
    learned temperature).
    """
    norms: set[int] = set()
    matrices: set[int] = set()
    for module in (inner for outer in modules for inner in outer.modules()):
        if isinstance(module, MATRICES):
            matrices.add(id(module.weight))
        elif isinstance(module, NORMS) or "Norm" in type(module).__name__:
            norms.update(id(parameter) for parameter in module.parameters(recurse=False))
    decay: NamedParameters = []
    no_decay: NamedParameters = []
    for name, parameter in trainable(modules):
        of_norm = id(parameter) in norms and id(parameter) not in matrices
        spared = parameter.dim() <= 1 or name.endswith("bias") or of_norm
        (no_decay if spared else decay).append((name, parameter))
    return decay, no_decay


def build_optimizer(
    config: OptimizerConfig, update: Update, modules: Sequence[nn.Module], allowed: Sequence[str] = ()
) -> tuple[Optimizer, list[str]]:
    """Return the optimizer over the trainable parameters of these modules (model, objective), and notes on it.

    `update.no_decay` unset means two groups, `decay` and `no_decay`, for our AdamW, and the plain list of parameters
    for a `_target_`. `_partial_` is accepted and changes nothing, since the parameters are all that it could wait for.
    `allowed` are the paths that `--allow-target` names. Raises TargetError, and UsageError when nothing is trainable.
    """
    if isinstance(config, Target):
        return _from_target(config, update.no_decay or False, modules, allowed)
    return _adamw(config, update.no_decay is not False, modules), []


def _adamw(config: AdamW, no_decay: bool, modules: Sequence[nn.Module]) -> Optimizer:
    parameters = [parameter for _, parameter in trainable(modules)]
    options: dict[str, Any] = {"fused": True} if can_fuse(parameters) else {}
    groups = _groups(modules) if no_decay else [{"name": "decay", "params": parameters}]
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.betas[0], config.betas[1]),
        eps=config.eps,
        weight_decay=config.weight_decay,
        **options,
    )


def can_fuse(parameters: Sequence[nn.Parameter]) -> bool:
    """Tell whether torch's fused AdamW (one pass over the memory, several times faster) is right for these parameters.

    On a CPU it reads parameter and gradient as flat memory: where their layouts differ it computes nonsense without a
    word (torch 2.13), so parameters that are not contiguous go to the plain one.
    """
    return all(
        parameter.is_floating_point() and parameter.is_contiguous() and parameter.device.type in ("cpu", "cuda")
        for parameter in parameters
    )


def _from_target(
    config: Target, no_decay: bool, modules: Sequence[nn.Module], allowed: Sequence[str]
) -> tuple[Optimizer, list[str]]:
    node = config.model_copy(update={"partial": False})
    resolved = resolve(node, "optimizer", allowed)
    parameters = _groups(modules) if no_decay else [parameter for _, parameter in trainable(modules)]
    optimizer = build(node, "optimizer", parameters, allowed=allowed)
    if not isinstance(optimizer, Optimizer):
        raise _refusal(f"{resolved.path} gives {type(optimizer).__name__}, not a torch.optim.Optimizer")
    if needed := step_requirement(type(optimizer)):
        raise _refusal(f"{resolved.path} gives an optimizer that needs {needed} at every step")
    if no_decay and "weight_decay" not in optimizer.defaults:
        raise _refusal(
            f"{resolved.path} has no weight_decay, so update.no_decay has nothing to act on",
            "leave update.no_decay out, or choose an optimizer with weight_decay",
        )
    return optimizer, list(resolved.notes)


def _groups(modules: Sequence[nn.Module]) -> list[dict[str, Any]]:
    decay, no_decay = split_by_decay(modules)
    groups: list[dict[str, Any]] = [
        {"name": "decay", "params": [parameter for _, parameter in decay]},
        {"name": "no_decay", "params": [parameter for _, parameter in no_decay], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _refusal(message: str, remedy: str = "choose another optimizer") -> TargetError:
    return TargetError([TargetProblem(("_target_",), message, remedy)])
