"""What stands in the places of a model's modules: taken out for a while or for good, or left as it was on failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

Wanted = Callable[[nn.Module], bool]


def is_layer(module: nn.Module) -> bool:
    """Whether a module stands in another one's place: a layer of peft, or of this package in peft."""
    return isinstance(module, BaseTunerLayer)


def holds(layer: nn.Module, adapter_name: str) -> bool:
    """Whether a layer of peft holds something of an adapter."""
    names = getattr(layer, "adapter_layer_names", ())
    return any(adapter_name in getattr(layer, name) for name in names)


@contextmanager
def taken_out(model: nn.Module, wanted: Wanted) -> Iterator[None]:
    """Take layers out of a model for a while, from the outermost at a module inwards; what is put in stays, inside."""
    found: list[tuple[nn.Module, str, list[nn.Module]]] = []
    for parent in model.modules():
        if not (is_layer(parent) and wanted(parent)):
            found += [
                (parent, name, chain) for name, child in parent._modules.items() if (chain := _chain(child, wanted))
            ]
    for parent, name, chain in found:
        parent._modules[name] = chain[-1]._modules["base_layer"]
    try:
        yield
    finally:
        for parent, name, chain in found:
            chain[-1]._modules["base_layer"] = parent._modules[name]
            parent._modules[name] = chain[0]


def _chain(child: nn.Module | None, wanted: Wanted) -> list[nn.Module]:
    """Return the layers one inside the other, from this one on, that are wanted."""
    found: list[nn.Module] = []
    while child is not None and is_layer(child) and wanted(child):
        found.append(child)
        child = child._modules["base_layer"]
    return found


def take_away(model: nn.Module, wanted: Wanted) -> None:
    """Take layers out of a model for good: what they stood round stands there again."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            below = child
            while below is not None and is_layer(below) and wanted(below):
                below = below._modules["base_layer"]
            if below is not child:
                parent._modules[name] = below


@contextmanager
def undone(model: nn.Module, adapter_name: str) -> Iterator[None]:
    """Leave a model as it was where putting an adapter of this name into it fails; its weights are not looked at."""
    modules = list(model.modules())
    children = [dict(module._modules) for module in modules]
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    layers = [(module, module._active_adapter) for module in modules if isinstance(module, BaseTunerLayer)]
    try:
        yield
    except BaseException:
        for layer, active in layers:
            layer._active_adapter = active  # else deleting makes another one active
            layer.delete_adapter(adapter_name)
        for module, before in zip(modules, children, strict=True):
            module._modules.clear()
            module._modules.update(before)
        for parameter, flag in trained:
            parameter.requires_grad_(flag)
        raise
