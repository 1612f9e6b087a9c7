"""From the config's optimizer and the trained modules to a torch optimizer.

Biases, the weights of norms and everything else with at most one dimension are kept out of weight decay, each shared
parameter is counted once, and the groups carry names so that a checkpoint tells which is which. A part of the model
may have a rate, a decay and a kind of optimizer of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from quincunx.config.schema import Target
from quincunx.config.sections.training import AdamW, Apart, Update
from quincunx.config.sections.training import Optimizer as OptimizerConfig
from quincunx.config.target import TargetError, TargetProblem, build, resolve, step_requirement
from quincunx.engine.joined import Joined
from quincunx.errors import UsageError

NamedParameters = list[tuple[str, nn.Parameter]]

NORMS = (nn.LayerNorm, nn.RMSNorm)
"""Norms whose weights may have several dimensions; those of the others have one, which is enough to tell."""
MATRICES = (nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Their weights decay, even in a class with `Norm` in its name or shared with one."""


@dataclass(frozen=True)
class Kind:
    """A class of optimizers, and which of our settings it takes besides rate and decay."""

    make: Callable[..., Optimizer]
    moments: bool = True
    eps: bool = True
    fuses: bool = False
    """Whether torch has it in one pass over the memory, on CPUs too."""


KINDS: Mapping[str, Kind] = {
    "adamw": Kind(torch.optim.AdamW, fuses=True),
    "adam": Kind(torch.optim.Adam, fuses=True),
    "adamax": Kind(torch.optim.Adamax),
    "sgd": Kind(torch.optim.SGD, moments=False, eps=False),
    "rms": Kind(torch.optim.RMSprop, moments=False),
}
"""By the word of `optimizer.kind`. Weight decay is decoupled in `adamw` and part of the gradient in the others; `sgd`
has no momentum."""


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

    `update.no_decay` unset means two groups, `decay` and `no_decay`, for our own, and the plain list of parameters
    for a `_target_`. `_partial_` is accepted and changes nothing, since the parameters are all that it could wait for.
    `allowed` are the paths that `--allow-target` names. A part of the model with settings of its own has groups of its
    own, `<part>_decay` and `<part>_no_decay`, after the others; where its kind is another, one optimizer holds both.

    Raises:
        TargetError: The `_target_` is none of an optimizer that can be used.
        UsageError: Nothing is trainable, or the model has no part of a name that has settings of its own.
    """
    if isinstance(config, Target):
        return _from_target(config, update.no_decay or False, modules, allowed)
    return _ours(config, update.no_decay is not False, modules)


def _ours(config: AdamW, no_decay: bool, modules: Sequence[nn.Module]) -> tuple[Optimizer, list[str]]:
    decay, spared = split_by_decay(modules) if no_decay else (trainable(modules), [])
    apart = config.apart
    notes = _notes_on_parts(apart, modules, decay + spared)
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for part, own in (("", None), *apart.items()):
        groups = _groups(_of_part(decay, part, apart), _of_part(spared, part, apart), part, own)
        if groups:
            by_kind.setdefault(own.kind if own else config.kind, []).extend(groups)
    optimizers = [_of_kind(kind, config, groups) for kind, groups in by_kind.items()]
    return optimizers[0] if len(optimizers) == 1 else Joined(optimizers), notes


def _of_kind(word: str, config: AdamW, groups: list[dict[str, Any]]) -> Optimizer:
    kind = KINDS[word]
    options: dict[str, Any] = {}
    if kind.moments:
        options["betas"] = config.moments
    if kind.eps:
        options["eps"] = config.eps
    if kind.fuses and can_fuse([parameter for group in groups for parameter in group["params"]]):
        options["fused"] = True
    return kind.make(groups, lr=config.learning_rate, weight_decay=config.weight_decay, **options)


def _is_of(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def _of_part(found: NamedParameters, part: str, apart: Mapping[str, Apart]) -> NamedParameters:
    """Return the parameters of a part, without those of parts of it; those of no part for the empty name."""

    def closest(name: str) -> str:
        return max((other for other in apart if _is_of(name, other)), key=len, default="")

    return [pair for pair in found if closest(pair[0]) == part]


def _notes_on_parts(parts: Iterable[str], modules: Sequence[nn.Module], trained: NamedParameters) -> list[str]:
    """Return notes on parts whose settings do nothing; raises UsageError for one that the model does not have."""
    names = dict.fromkeys(name for module in modules for name, _ in module.named_parameters())
    notes: list[str] = []
    for part in parts:
        if not any(_is_of(name, part) for name in names):
            there = ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
            raise UsageError(
                f"the optimizer has a rate and a decay of their own for the parameters of {part}, and the model has "
                f"none of that name (it has {there}): leave them out, or choose a model with {part}"
            )
        if not any(_is_of(name, part) for name, _ in trained):
            notes.append(f"optimizer: nothing of {part} is trained, so that its own rate and decay do nothing")
    return notes


def can_fuse(parameters: Sequence[nn.Parameter]) -> bool:
    """Tell whether torch's fused Adam (one pass over the memory, several times faster) is right for these parameters.

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
    parameters = _groups(*split_by_decay(modules)) if no_decay else [parameter for _, parameter in trainable(modules)]
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


def _groups(
    decay: NamedParameters, no_decay: NamedParameters, part: str = "", own: Apart | None = None
) -> list[dict[str, Any]]:
    begin = f"{part}_" if part else ""
    settings = {"lr": own.learning_rate, "weight_decay": own.weight_decay} if own else {}
    groups: list[dict[str, Any]] = [
        {"name": f"{begin}decay", "params": [parameter for _, parameter in decay], **settings},
        {
            "name": f"{begin}no_decay",
            "params": [parameter for _, parameter in no_decay],
            **settings,
            "weight_decay": 0.0,
        },
    ]
    return [group for group in groups if group["params"]]


def _refusal(message: str, remedy: str = "choose another optimizer") -> TargetError:
    return TargetError([TargetProblem(("_target_",), message, remedy)])
