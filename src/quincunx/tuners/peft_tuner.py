"""The parts of this package's methods in a model, as the library peft puts, names, saves and takes away parts.

What is used of peft beside its documented calls is used here and in `peft_plugin.py` alone, and
`tests/tuners/test_peft_compatibility.py` says when it no longer holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.nn.routing import TaskContext, TaskRouted, attach_tasks
from quincunx.tuners.adapter import Placement, SiteAdapter, StandIn, name_in, wrapped_name
from quincunx.tuners.method import Method
from quincunx.tuners.sites import plain

PREFIX = "quincunx_"
"""What attributes with trained parts begin with, on peft's layers and tuners."""
BEFORE = "base_model.model."
"""What names of a model's own weights begin with inside a `PeftModel`, and in peft's files."""


class PeftSite(StandIn, BaseTunerLayer):
    """A module with the parts of one or more adapters round it."""

    adapter_layer_names = ("quincunx_tuned",)

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.quincunx_tuned = nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self._disable_adapters = False

    def put(self, name: str, adapter: SiteAdapter) -> None:
        """Add an adapter's part."""
        self.quincunx_tuned[name] = adapter

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the active adapters' parts give, the first one innermost."""
        call = self.base_layer
        if not self.disable_adapters:
            for name in self.active_adapters:
                if name in self.quincunx_tuned and name not in self.merged_adapters:
                    call = partial(self.quincunx_tuned[name], call)
        elif self.merged:
            self.unmerge()
        return call(*args, **kwargs)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the changes of adapters to the module's weight and bias.

        Raises:
            UsageError: One of them is no change of a weight, or `safe_merge` found a number that is none.
        """
        names = [name for name in adapter_names or self.active_adapters if name in self.quincunx_tuned]
        for name in names:
            if name in self.merged_adapters:
                continue
            weight, bias = self.changes(name)
            if safe_merge and not all(bool(change.isfinite().all()) for change in (weight, bias) if change is not None):
                raise UsageError(f"adapter {name} holds numbers that are none: it was left unmerged")
            self._add(weight, bias, 1)
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Take the changes out again."""
        while self.merged_adapters:
            self._add(*self.changes(self.merged_adapters.pop()), -1)

    def changes(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Return what an adapter adds to the weight and to the bias; UsageError where it is no such change."""
        adapter = self.quincunx_tuned[name]
        assert isinstance(adapter, SiteAdapter)
        with torch.no_grad():
            return adapter.weight_change(), adapter.bias_change()

    def _add(self, weight: Tensor, bias: Tensor | None, sign: int) -> None:
        base: Any = self.get_base_layer()
        with torch.no_grad():
            base.weight.add_(weight.to(base.weight.dtype), alpha=sign)
            if bias is not None:
                if base.bias is None:
                    base.bias = nn.Parameter(torch.zeros_like(bias), requires_grad=False)
                base.bias.add_(bias.to(base.bias.dtype), alpha=sign)


class Tuner(BaseTuner):
    """Puts the parts of one of this package's methods into a model; one subclass a method."""

    prefix = PREFIX
    tuner_layer_cls = PeftSite
    method: ClassVar[Method]

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Put an adapter's parts into the model; raises UsageError where the method does not suit it."""
        config: Any = self.peft_config[adapter_name]
        _check_tasks(model, config, adapter_name)
        placement = self._place(model, config)
        if not hasattr(self, "quincunx_shared"):
            self._placements: dict[str, Placement] = {}
            self.quincunx_shared = nn.ModuleDict()
        self._placements[adapter_name], self._placing = placement, adapter_name
        self.notes = placement.notes
        if len(placement.shared):
            self.quincunx_shared[adapter_name] = placement.shared
        config.trained = [plain(name) for name in placement.trained]
        inside = self._put_inside(model, config, adapter_name)
        wanted = config.target_modules
        if len(inside) == len(placement.adapters):  # nothing is left for peft, which would take that for a mistake
            config.target_modules = DUMMY_TARGET_MODULES
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        config.target_modules = wanted
        self._route(model, config)

    def _place(self, model: nn.Module, config: Any) -> Placement:
        return self.method.place(model, config)

    def _put_inside(self, model: nn.Module, config: PeftConfig, adapter_name: str) -> list[str]:
        """Put parts into modules that have parts round them already, where peft does not look; return their paths."""
        sites = [plain(path) for path, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
        adapters = self._placements[adapter_name].adapters
        inside = [path for path in adapters if any(path.startswith(f"{site}.") for site in sites)]
        for path in inside:
            parent, target, name = _modules_at(model, path)
            self._create_and_replace(config, adapter_name, target, name, parent, current_key=path)
        return inside

    def _unload_and_optionally_merge(
        self,
        merge: bool = True,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
    ) -> Any:
        if merge:
            self._check_merge_allowed(adapter_names)
        sites = [path for path, module in self.model.named_modules() if isinstance(module, PeftSite)]
        for path in reversed(sites):  # those inside others, which peft passes over, innermost first
            if any(path.startswith(f"{site}.") for site in sites):
                parent, target, name = _modules_at(self.model, path)
                if merge:
                    target.merge(safe_merge=safe_merge, adapter_names=adapter_names)
                self._replace_module(parent, name, target.get_base_layer(), target)
        return super()._unload_and_optionally_merge(merge, progressbar, safe_merge, adapter_names)

    def _check_merge_allowed(self, adapter_names: list[str] | None = None) -> None:
        """Raise UsageError where a part is no change of a weight, before any is merged."""
        super()._check_merge_allowed()
        for module in self.model.modules():
            if isinstance(module, PeftSite):
                for name in adapter_names or module.active_adapters:
                    if name in module.quincunx_tuned and name not in module.merged_adapters:
                        module.changes(name)

    def _prepare_adapter_config(self, peft_config: PeftConfig, model_config: dict[str, Any]) -> PeftConfig:
        return peft_config

    def _check_target_module_exists(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, peft_config: PeftConfig, key: str
    ) -> bool:
        return key in self._placements[self._placing].adapters

    def _create_and_replace(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
    ) -> None:
        adapter = self._placements[adapter_name].adapters[current_key]
        adapter.requires_grad_(adapter_name in self.active_adapters)
        if isinstance(target, PeftSite):
            target.put(adapter_name, adapter)
            return
        site = PeftSite(target)
        site.put(adapter_name, adapter)
        site.train(target.training)
        self._replace_module(parent, target_name, site, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        if isinstance(child, PeftSite) and new_module is child.get_base_layer():
            setattr(parent, child_name, new_module)  # itself again; peft would look for a weight that a block has not
            return
        super()._replace_module(parent, child_name, new_module, child)

    def _route(self, model: nn.Module, config: Any) -> None:
        context = attach_tasks(model, self.quincunx_shared)
        if context is None:
            return
        context.names = tuple(getattr(config, "tasks", ())) or context.names
        if not any(isinstance(hook, _TakesTasks) for hook in model._forward_pre_hooks.values()):
            model.register_forward_pre_hook(_TakesTasks(context), with_kwargs=True)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        # peft's own place for arguments that a model does not take; they stay set, for what is computed again later
        context = attach_tasks(self.model) if "tasks" in kwargs else None
        if context is not None:
            context.set(kwargs["tasks"])
        yield

    def _mark_only_adapters_as_trainable(self, model: nn.Module) -> None:
        super()._mark_only_adapters_as_trainable(model)
        self._mark_own_as_trainable(model)

    def _mark_own_as_trainable(self, model: nn.Module) -> None:
        for name in self.active_adapters:
            config: Any = self.peft_config[name]
            if not config.inference_mode:
                for parameter in config.trained:
                    model.get_parameter(name_in(model, parameter)).requires_grad_(True)

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Make an adapter the active one; of the model itself what it trains is trained, what others train is not."""
        super().set_adapter(adapter_name, inference_mode)
        configs: dict[str, Any] = dict(self.peft_config)
        for parameter in {name for config in configs.values() for name in config.trained}:
            active = any(parameter in configs[name].trained for name in self.active_adapters if name in configs)
            self.model.get_parameter(name_in(self.model, parameter)).requires_grad_(active and not inference_mode)

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter, with what its parts share; where none is active then, the first of the others is."""
        config: Any = self.peft_config.get(adapter_name)
        super().delete_adapter(adapter_name)
        for parameter in config.trained:
            self.model.get_parameter(name_in(self.model, parameter)).requires_grad_(False)
        if self.peft_config and not self.active_adapters:
            self.set_adapter(next(iter(self.peft_config)))
        self._mark_own_as_trainable(self.model)
        self._placements.pop(adapter_name, None)
        if adapter_name in self.quincunx_shared:
            del self.quincunx_shared[adapter_name]

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: PeftConfig,
        adapter_name: str,
        state_dict: dict[str, Tensor],
        unwanted_adapter_names: list[str],
    ) -> dict[str, Tensor]:
        found = super()._get_adapter_state_dict(model, config, adapter_name, state_dict, unwanted_adapter_names)
        own: Any = config
        kept = {*own.trained, *(plain(name) for name in batch_statistics(model))}
        sites = sites_of(model, adapter_name)
        return {
            alone(key, sites): value
            for key, value in state_dict.items()
            if (key in found and PREFIX in key) or plain(key.removeprefix(BEFORE)) in kept
        }

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        # parts are modules of modules: the name stands right behind the attribute, however deep the rest goes
        for attribute in ("quincunx_tuned", "quincunx_shared"):
            key = key.replace(f"{attribute}.{adapter_name}.", f"{attribute}.", 1)
        return key

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: PeftConfig, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        # other adapters of the model may stand where those that the file was written beside did not
        there = {
            alone(cls._remove_adapter_name_from_key(key, adapter_name), ()).removeprefix(BEFORE): key
            for key in model.state_dict()
        }
        return {there.get(alone(key, ()).removeprefix(BEFORE), key): value for key, value in state_dict.items()}


def sites_of(model: nn.Module, adapter_name: str) -> set[str]:
    """Return the paths of the modules that parts of an adapter stand round, as they were without any parts."""
    return {
        plain(path)
        for path, module in model.named_modules()
        if isinstance(module, PeftSite) and adapter_name in module.quincunx_tuned
    }


def alone(key: str, sites: Collection[str]) -> str:
    """Return the name of a weight in a model where parts stand round these modules alone."""
    head, attribute, rest = key.partition(".quincunx_tuned.")
    return f"{wrapped_name(plain(head), sites)}{attribute}{rest}"


def _check_tasks(model: nn.Module, config: Any, adapter_name: str) -> None:
    """Raise UsageError where an adapter's tasks are others than those that the model's adapters have."""
    names = tuple(getattr(config, "tasks", ()))
    routed = (module for module in model.modules() if isinstance(module, TaskRouted))
    there = next((module.context.names for module in routed if module.context and module.context.names), ())
    if names and there and there != names:
        raise UsageError(
            f"adapter {adapter_name} has the tasks {', '.join(names)}, those there are have {', '.join(there)}: "
            "give all of them the same tasks in the same order"
        )


def _modules_at(model: nn.Module, path: str) -> tuple[nn.Module, Any, str]:
    """Return the module that a path is in, what stands in the place that it names, and its name there."""
    parent, _, name = name_in(model, path).rpartition(".")
    return model.get_submodule(parent), model.get_submodule(parent)._modules[name], name


class _TakesTasks:
    """Takes the argument `tasks` out of a model's call, and sets it."""

    def __init__(self, context: TaskContext) -> None:
        self.context = context

    def __call__(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        if "tasks" not in kwargs:
            return None
        self.context.set(kwargs["tasks"])
        return args, {name: value for name, value in kwargs.items() if name != "tasks"}


def batch_statistics(model: nn.Module) -> list[str]:
    """Return the names of the running statistics of a model's batch norms, adapters' own left out."""
    found: list[str] = []
    for path, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and PREFIX not in path:
            own = path.removeprefix("base_model.model.")
            found += [f"{own}.{name}" for name, _ in module.named_buffers(recurse=False)]
    return found
