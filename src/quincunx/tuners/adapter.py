"""Putting trained parts round the modules of a frozen model, without the library peft.

A part is called in a module's place with that module to call: it may look at arguments and output, and change either.
`peft_tuner.py` does the same inside peft's own classes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from quincunx.errors import UsageError

Call = Callable[..., Any]


class SiteAdapter(nn.Module):
    """A trained part round one module. Subclasses define `forward(base, *args, **kwargs)`, which calls `base`."""

    def forward(self, base: Call, *args: Any, **kwargs: Any) -> Any:
        """Return what takes the place of `base(*args, **kwargs)`."""
        raise TypeError(f"{type(self).__name__} must define forward(base, *args, **kwargs)")

    def weight_change(self) -> Tensor:
        """Return what is to be added to the module's weight so that this part can be left out.

        Raises:
            UsageError: The part is no change of a weight.
        """
        raise UsageError(
            f"{type(self).__name__} is no change of the weight that it stands round (its output is not linear in the "
            "input, or depends on more than it), so it cannot be merged: keep the adapter beside the model"
        )

    def bias_change(self) -> Tensor | None:
        """Return what is to be added to the module's bias, None for nothing; only where there is a `weight_change`."""
        return None


class Chain(SiteAdapter):
    """Several parts round one module, the first one innermost."""

    def __init__(self, parts: Mapping[str, SiteAdapter]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    def forward(self, base: Call, *args: Any, **kwargs: Any) -> Any:
        """Return what the outermost part gives."""
        call = base
        for part in self.parts.values():
            call = partial(part, call)
        return call(*args, **kwargs)

    def weight_change(self) -> Tensor:
        """Return the sum of the parts' changes."""
        changes = [part.weight_change() for part in self._adapters()]
        return sum(changes[1:], changes[0])

    def bias_change(self) -> Tensor | None:
        """Return the sum of the parts' changes."""
        changes = [change for part in self._adapters() if (change := part.bias_change()) is not None]
        return sum(changes[1:], changes[0]) if changes else None

    def _adapters(self) -> list[SiteAdapter]:
        return [part for part in self.parts.values() if isinstance(part, SiteAdapter)]


@dataclass
class Placement:
    """What a method puts into a model."""

    adapters: dict[str, SiteAdapter] = field(default_factory=dict[str, SiteAdapter])
    """By the path of the module that each stands round."""
    shared: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    """What several of them use (each holds it in a tuple, so that it is saved once)."""
    trained: tuple[str, ...] = ()
    """Parameters of the model itself that are trained, by name."""
    notes: tuple[str, ...] = ()
    """What to say about it, in sentences."""


class StandIn(nn.Module):
    """What stands in a module's place, that module as its `base_layer`; attributes of the module are found on it."""

    base_layer: nn.Module

    def __setattr__(self, name: str, value: Any) -> None:
        """Give the module itself the weights that it is given from outside, as when they are tied anew."""
        inner = self.__dict__.get("_modules", {}).get("base_layer")
        own = name == "base_layer" or name.startswith("quincunx_")
        if isinstance(inner, nn.Module) and not own:
            while isinstance(below := inner._modules.get("base_layer"), nn.Module):
                inner = below
            if isinstance(value, nn.Parameter) or name in inner._modules:
                setattr(inner, name, value)
                return
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        """Look up what is not there in the module itself, as transformers asks Linear maps for their weights."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(super().__getattr__("base_layer"), name)


class Site(StandIn):
    """A module with the part round it."""

    def __init__(self, base_layer: nn.Module, adapter: SiteAdapter) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.quincunx_tuned = adapter

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the part gives."""
        return self.quincunx_tuned(self.base_layer, *args, **kwargs)


def inject(model: nn.Module, placement: Placement) -> nn.ModuleDict:
    """Put the parts of a placement into a model in place, freeze the rest, and return what the parts share.

    Raises:
        UsageError: The model has no module of such a name.
    """
    model.requires_grad_(False)
    for path, adapter in placement.adapters.items():
        parent_path, _, name = path.rpartition(".")
        try:
            parent, module = model.get_submodule(parent_path), model.get_submodule(path)
        except AttributeError as error:
            raise UsageError(f"{type(model).__name__} has no module {path}") from error
        while isinstance(parent, Site):
            parent = parent.base_layer
        setattr(
            parent,
            name,
            Site(module, adapter).train(module.training),
        )
    for name in placement.trained:
        model.get_parameter(name_in(model, name)).requires_grad_(True)
    return placement.shared


def wrapped_name(name: str, paths: Collection[str]) -> str:
    """Return what a parameter is called once parts stand round modules: these keep their own below `base_layer`.

    Args:
        name: Of a parameter, or the path of a module, as in the model without parts.
        paths: Of the modules that have parts round them, as in the model without parts.
    """
    words = name.split(".")
    found: list[str] = []
    for place, word in enumerate(words):
        found.append(word)
        if place < len(words) - 1 and ".".join(words[: place + 1]) in paths:
            found.append("base_layer")
    return ".".join(found)


def name_in(model: nn.Module, name: str) -> str:
    """Return what a parameter (or module) is called in a model as it stands, whoever put parts round its modules.

    Args:
        model: The model.
        name: The parameter's name with parts or without; of a module that has parts round it, what stands in its place
            is meant.
    """
    found: list[str] = []
    module: nn.Module | None = model
    for word in _plain(name).split("."):
        while module is not None and isinstance(inner := module._modules.get("base_layer"), nn.Module):
            found.append("base_layer")
            module = inner
        found.append(word)
        module = module._modules.get(word) if module is not None else None
    return ".".join(found)


def fit_adapters(model: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights of a model without adapters under the names that they have in one with adapters.

    Args:
        model: A model, with adapters or without.
        tensors: Weights of one like it, by name.

    Returns:
        The weights, the adapters' own as they are in `model`; and what to say about it. Weights that fit by their names
        already, and those of a model without adapters, are left as they are.
    """
    own = model.state_dict()
    every = model.named_modules(remove_duplicate=False)  # a shared encoder has weights under two names
    wrapped = [path for path, module in every if "base_layer" in module._modules]
    if not wrapped or any("base_layer" in name.split(".") for name in tensors):
        return dict(tensors), []
    found = dict(tensors)
    fresh = 0
    for name, value in own.items():
        plain = _plain(name)
        if plain != name and plain in found:
            found[name] = found.pop(plain)
        elif name not in found and _is_adapter(name, wrapped):
            found[name] = value
            fresh += 1
    return found, [f"{fresh} tensors of adapters begin anew"] if fresh else []


def _plain(name: str) -> str:
    return ".".join(word for word in name.split(".") if word != "base_layer")


def _is_adapter(name: str, wrapped: Sequence[str]) -> bool:
    """Return whether a tensor stands beside a wrapped module's own, or among what adapters share."""
    if name.startswith("quincunx_shared.") or ".quincunx_shared." in name:
        return True
    inside = [path for path in wrapped if name.startswith(f"{path}.")]
    return bool(inside) and not name[len(max(inside, key=len)) + 1 :].startswith("base_layer.")
