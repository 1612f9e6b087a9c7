"""The composite tuner in peft: parts of this package, with layers of peft's own methods inside of them.

At a module peft's layers stand round the map itself, in one order of methods for all adapters, and this package's parts
round them: names, merging and a second adapter do not depend on which adapter came first.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn

from quincunx.errors import DataError, UsageError
from quincunx.tuners.adapter import Placement
from quincunx.tuners.composite.model import place_own
from quincunx.tuners.composite.standing import holds, is_layer, take_away, taken_out, undone
from quincunx.tuners.composite.theirs import LASTING, UNMERGED, TheirPart
from quincunx.tuners.peft_tuner import PeftSite, Tuner, alone, sites_of
from quincunx.tuners.sites import plain

REFUSALS = (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, AssertionError)
"""How peft says that a method does not suit a model."""


@dataclass
class PutIn:
    """A part of peft in a model."""

    part: TheirPart
    config: Any
    tuner: BaseTuner
    """peft's own of the method, made for this part alone."""
    layers: list[nn.Module]
    """Those that hold something of it; other adapters may have parts of the method in the same."""


class CompositeTuner(Tuner):
    """Puts parts of several methods into a model as one adapter."""

    tuner_layer_cls = BaseTunerLayer  # pyright: ignore[reportAssignmentType]

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Put an adapter's parts into the model, or leave it as it was.

        Raises:
            UsageError: A part does not suit the model, or what is in it already.
        """
        if not hasattr(self, "_put_in"):
            self._put_in: dict[str, list[PutIn]] = {}
            self._order: tuple[str, ...] = ()
        config: Any = self.peft_config[adapter_name]
        order, self._put_in[adapter_name] = self._order, []
        try:
            with undone(model, adapter_name):
                self._order = _merged_order(order, [part.method for part in config.theirs()])
                for part in config.theirs():
                    self._put(model, part, adapter_name, bool(kwargs.get("low_cpu_mem_usage", False)))
                super().inject_adapter(model, adapter_name, *args, **kwargs)
        except BaseException:
            self._order = order
            self._forget(adapter_name)
            raise
        for each in self._put_in[adapter_name]:
            self.targeted_module_names += [
                n for n in each.tuner.targeted_module_names if n not in self.targeted_module_names
            ]
        self._mark_own_as_trainable(model)  # peft keeps what it finds frozen, by its own layers here

    def _place(self, model: nn.Module, config: Any) -> Placement:
        with taken_out(model, lambda layer: not isinstance(layer, PeftSite)):
            placement = place_own(model, config)
        said = [
            f"{each.part.method}: {len(each.tuner.targeted_module_names)} modules"
            for each in self._put_in[self._name_of(config)]
        ]
        return Placement(placement.adapters, placement.shared, placement.trained, (*placement.notes, *said))

    def _put(self, model: nn.Module, part: TheirPart, adapter_name: str, empty: bool) -> None:
        """Put a part of peft into a model, inside of what comes after it in the order."""
        methods = {id(layer): each.part.method for each in self._all() for layer in each.layers}
        later = self._order[self._order.index(part.method) + 1 :]
        before = {id(layer) for layer in model.modules() if is_layer(layer) and holds(layer, adapter_name)}
        given: Any = self.peft_config[adapter_name]
        config = part.config(task_type=given.task_type, inference_mode=given.inference_mode)
        # peft would take the model for one with adapters of its own
        kept = model.__dict__.pop("peft_config", None)
        make: Any = PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type]
        try:
            with (
                taken_out(model, lambda layer: isinstance(layer, PeftSite) or methods.get(id(layer)) in later),
                _without_misses(part),
            ):
                tuner: BaseTuner = make(model, {adapter_name: config}, adapter_name, low_cpu_mem_usage=empty)
        except REFUSALS as error:
            raise UsageError(f"{part.here}: peft cannot put {part.method} into {_refused(model, error)}") from error
        finally:
            model.__dict__.pop("peft_config", None)
            if kept is not None:
                model.__dict__["peft_config"] = kept
        _check_names(part, tuner.targeted_module_names)
        for other in self._put_in[adapter_name]:
            twice = [name for name in tuner.targeted_module_names if name in other.tuner.targeted_module_names]
            if other.part.method == part.method and twice:
                raise UsageError(
                    f"{part.here}: {part.method} stands at {twice[0]} already, by {other.part.here}: name other "
                    "modules in its target_modules, or make one part of the two"
                )
        layers = [layer for layer in model.modules() if is_layer(layer) and holds(layer, adapter_name)]
        layers = [layer for layer in layers if id(layer) not in before]
        for layer in layers:
            inner: Any = layer
            layer.train(inner.get_base_layer().training)
        self._put_in[adapter_name].append(PutIn(part, config, tuner, layers))

    def _all(self) -> Iterator[PutIn]:
        for each in self._put_in.values():
            yield from each

    def _name_of(self, config: Any) -> str:
        return next(name for name, each in self.peft_config.items() if each is config)

    def _forget(self, adapter_name: str) -> None:
        self._put_in.pop(adapter_name, None)
        if hasattr(self, "_placements"):
            self._placements.pop(adapter_name, None)
            if adapter_name in self.quincunx_shared:
                del self.quincunx_shared[adapter_name]

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter, and the layers of peft that hold no other one's."""
        super().delete_adapter(adapter_name)
        self._forget(adapter_name)
        there = {id(layer) for each in self._all() for layer in each.layers}
        take_away(self.model, lambda layer: not isinstance(layer, PeftSite) and id(layer) not in there)
        methods = {each.part.method for each in self._all()}
        self._order = tuple(method for method in self._order if method in methods)

    def merge_adapter(self, adapter_names: list[str] | None = None, safe_merge: bool = False) -> None:
        """Add what adapters change to the weights, from the innermost layer outwards.

        Raises:
            UsageError: A part is no change of a weight, or could not be taken out again; nothing was merged.
        """
        for name in adapter_names or self.active_adapters:
            for each in self._put_in.get(name, ()):
                if reason := LASTING.get(each.part.method):
                    raise UsageError(
                        f"{each.part.here}: {each.part.method} is merged for good alone: {reason}; call "
                        "merge_and_unload, or keep the adapter beside the model"
                    )
        self._merge(adapter_names, safe_merge)

    def _merge(self, adapter_names: list[str] | None, safe_merge: bool) -> None:
        self._check_merge_allowed(adapter_names)
        for layer in reversed([module for module in self.model.modules() if isinstance(module, BaseTunerLayer)]):
            layer.merge(safe_merge=safe_merge, adapter_names=adapter_names)

    def _check_merge_allowed(self, adapter_names: list[str] | None = None) -> None:
        super()._check_merge_allowed(adapter_names)
        for name in adapter_names or self.active_adapters:
            for each in self._put_in.get(name, ()):
                if reason := UNMERGED.get(each.part.method):
                    raise UsageError(
                        f"{each.part.here}: {each.part.method} cannot be merged: {reason}; keep the adapter beside the "
                        "model"
                    )
                each.tuner._check_merge_allowed()

    def _unload_and_optionally_merge(
        self,
        merge: bool = True,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
    ) -> Any:
        if merge:
            self._merge(adapter_names, safe_merge)
        take_away(self.model, lambda layer: True)
        return super()._unload_and_optionally_merge(merge, progressbar, safe_merge, adapter_names)

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype)
        for each in self._put_in.get(adapter_name, ()):
            if type(each.tuner)._cast_adapter_dtype is not BaseTuner._cast_adapter_dtype:  # copies of the model's own
                for layer in each.layers:
                    own: Any = layer
                    for name in own.adapter_layer_names:
                        getattr(own, name)[adapter_name].to(own.get_base_layer().weight.dtype)

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
        sites = sites_of(model, adapter_name)
        for each in _tuner_in(model)._put_in[adapter_name]:
            places, theirs = _places(model, each.layers), type(each.tuner)
            own = {key: value for key, value in state_dict.items() if _split(key, places) is not None}
            given = theirs._get_adapter_state_dict(model, each.config, adapter_name, own, unwanted_adapter_names)
            for key, value in given.items():
                if _split(key, places) is not None:  # a method may look at all of its layers
                    found[alone(theirs._remove_adapter_name_from_key(key, adapter_name), sites)] = value
        return found

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: PeftConfig, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        ours, found = {alone(key, ()): (key, value) for key, value in state_dict.items()}, dict[str, Tensor]()
        for each in _tuner_in(model)._put_in[adapter_name]:
            places, theirs = _places(model, each.layers), type(each.tuner)
            alike = {plain(path): place for path, place in places.items()}
            own = {name: ours.pop(key)[1] for key in list(ours) if (name := _split(key, alike)) is not None}
            mapped = theirs._remap_adapter_state_dict_for_load(model, each.config, adapter_name, own)
            kept = {key for key in model.state_dict() if _split(key, places) is not None}
            wanted = {key for key in kept if theirs._remove_adapter_name_from_key(key, adapter_name) != key}
            if missing := sorted(wanted - mapped.keys()):
                raise DataError(
                    f"{each.part.here}: the file lacks {len(missing)} tensors of {each.part.method}, {missing[0]} "
                    "say: it is damaged, or was written with other parts"
                )
            found |= mapped
        rest = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, dict(ours.values()))
        return {**rest, **found}


@contextmanager
def _without_misses(part: TheirPart) -> Iterator[None]:
    """Raise UsageError where peft only warns of what names nothing in the model; pass other warnings on."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    for each in said:
        text = " ".join(str(each.message).split())
        if issubclass(each.category, RuntimeWarning) or "no modules were excluded" in text:
            raise UsageError(f"{part.here}: {part.method}: {text.rstrip('.')}; leave it out, or name what is there")
        warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def _check_names(part: TheirPart, found: Sequence[str]) -> None:
    """Raise UsageError where one of the names in `target_modules` is none of a module that peft found."""
    given = part.options.get("target_modules")
    for name in given if isinstance(given, list | tuple | set) else ():
        if not any(path == name or path.endswith(f".{name}") for path in found):
            raise UsageError(
                f"{part.here}: {part.method} found no module {name} that it could stand at: leave it out of "
                "target_modules, or name what is there"
            )


def _merged_order(order: Sequence[str], wanted: Iterable[str]) -> tuple[str, ...]:
    """Return in which order methods of peft stand, innermost first, once an adapter's are among them."""
    methods = list(dict.fromkeys(wanted))
    before = [method for method in order if method in methods]
    if [method for method in methods if method in before] != before:
        raise UsageError(
            f"parts of another adapter stand in the order {', '.join(before)}, innermost first: give these parts in "
            "the same order"
        )
    found = list(order)
    place = len(found)
    for method in reversed(methods):
        if method in found:
            place = found.index(method)
        else:
            found.insert(place, method)
    return tuple(found)


def _tuner_in(model: nn.Module) -> CompositeTuner:
    return next(module for module in model.modules() if isinstance(module, CompositeTuner))


def _places(model: nn.Module, layers: Sequence[nn.Module]) -> dict[str, tuple[str, nn.Module]]:
    """Return layers, with their paths, by their paths in a model as it stands."""
    wanted = {id(layer) for layer in layers}
    return {path: (path, module) for path, module in model.named_modules() if id(module) in wanted}


def _split(key: str, places: Mapping[str, tuple[str, nn.Module]]) -> str | None:
    """Return the name of a weight that is a layer's own, below that layer's path; None for what it stands round."""
    words = key.split(".")
    for end in range(len(words) - 1, 0, -1):
        path, layer = places.get(".".join(words[:end]), ("", None))
        if layer is not None and words[end] != "base_layer" and _has(layer, words[end]):
            return ".".join((path, *words[end:]))
    return None


def _has(layer: nn.Module, name: str) -> bool:
    """Whether a name is one of a layer's own attributes: a class's, and what it stands round, do not count."""
    return any(name in held for held in (layer._modules, layer._parameters, layer._buffers, layer.__dict__))


def _refused(model: nn.Module, error: Exception) -> str:
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    with taken_out(model, lambda layer: True):
        linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    ends = sorted({path.rpartition(".")[2] for path in linear})
    return (
        f"{type(model).__name__}: {said}. Its linear maps are named {', '.join(ends)}: name some, or others of "
        "its modules, in the part's target_modules"
    )
