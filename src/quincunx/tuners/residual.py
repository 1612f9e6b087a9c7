"""The adapter that bottleneck, low-rank adapter and Compacter have in common; they differ in their linear maps.

h = base(x), then gate * (h + scale * norm_after(up(act(down(norm_before(h)))))): N. Houlsby et al. (ICML 2019), as
VL-Adapter (Sung et al., CVPR 2022) places it: after a map's output, before dropout and residual. Parallel: J. He et al.
(ICLR 2022); the gates: `quincunx.tuners.gates`.
B examples, S positions, D width, R width of the bottleneck, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.errors import UsageError
from quincunx.tuners.adapter import Call, Chain, Placement, SiteAdapter
from quincunx.tuners.gates import GRANULARITIES, Granularity, make_gate
from quincunx.tuners.method import TunerConfig, check_dropout, check_tasks
from quincunx.tuners.parts import check_rows, sees_its_past_alone
from quincunx.tuners.regulariser import Kept
from quincunx.tuners.sites import (
    ATTENTION,
    CROSS,
    FEEDFORWARD,
    HEAD,
    KEY,
    QUERY,
    VALUE,
    Found,
    describe,
    find_sites,
    input_width_of,
    width_of,
)  # fmt: skip

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "identity": lambda x: x,
}

OWN_INPUT = (QUERY, KEY, VALUE, HEAD)
"""Modules that are a sub-layer by themselves: what they get is what the sub-layer gets."""

Linear = Callable[[int, int, int | None, bool], nn.Module]
"""Makes a linear map: input width, output width, number of tasks (None: one map for all), whether its bias and weights
are to begin at zero."""


@dataclass
class ResidualConfig(TunerConfig):
    """Options of adapters with a bottleneck."""

    reduction_factor: float = 16.0
    """The bottleneck is the width divided by this, rounded down."""
    reduction_factors: dict[str, float] = field(default_factory=dict[str, float])
    """Others, by a layer's number (as text) or a pattern of full paths; where several fit, the last one counts."""
    activation: Literal["gelu", "gelu_new", "relu", "silu", "tanh", "identity"] = "gelu_new"
    """Between the two maps."""
    norm_before: bool = False
    """A layer norm before the first map."""
    norm_after: bool = False
    """A layer norm after the second; its weight begins at zero, so that the adapter does."""
    parallel: bool = False
    """The adapter is fed what the sub-layer (attention, feedforward) gets, not what it gives; beside query, key, value
    and head: what the map gets."""
    scale: float = 1.0
    """Factor of what is added."""
    learned_scale: bool = False
    """The factor is trained, from `scale` on."""
    gate: Granularity = "none"
    """A gate over the output, trained from 1 on: small (a number for an example), middle_x (for a position), middle_y
    (for a feature), large (for each feature of each position). VL-PET has them in encoders, over attention and
    feedforward, with parallel adapters at the value maps of the decoder's cross-attention."""
    gate_of: Literal["sum", "change"] = "sum"
    """What the gate multiplies: the module's output with the adapter's part, as published, or that part alone."""
    gate_width: int | None = None
    """Width inside the gate `large`; unset: the adapter's bottleneck."""
    dropout: float = 0.0
    """Probability of dropout on what the bottleneck holds."""
    tasks: list[str] = field(default_factory=list[str])
    """Names of tasks that have adapters of their own; none: one adapter for everything."""
    share_down: bool = False
    """The first map is one for all tasks."""
    share_up: bool = False
    """The second map is one for all tasks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, found {self.activation!r}")
        for value in (self.reduction_factor, *self.reduction_factors.values()):
            if not value > 0:
                raise ValueError(f"a reduction factor must be above 0, found {value}")
        if (self.share_down or self.share_up) and len(self.tasks) < 2:
            raise ValueError("share_down and share_up tie what tasks have of their own: name at least two tasks")
        check_tasks(self.tasks)
        check_dropout(self.dropout)
        self._check_gate()

    def _check_gate(self) -> None:
        if self.gate not in GRANULARITIES:
            raise ValueError(f"gate must be one of {', '.join(GRANULARITIES)}, found {self.gate!r}")
        if self.gate_of not in ("sum", "change"):
            raise ValueError(f"gate_of must be sum or change, found {self.gate_of!r}")
        if self.gate == "none" and self.gate_of != "sum":
            raise ValueError("gate_of says what a gate multiplies, and there is none: set gate, or leave gate_of out")
        if self.gate_width is not None and (self.gate != "large" or self.gate_width < 1):
            raise ValueError(
                f"gate_width is that of the gate large, at least 1; found {self.gate_width}, gate {self.gate}"
            )

    @property
    def needs_input(self) -> bool:
        """Whether adapters look at what their sub-layer gets."""
        return self.parallel or self.gate in ("small", "middle_x", "large")

    @property
    def packs(self) -> bool:
        """Whether several texts may be laid behind one another in one row: not where a gate is a mean over a row."""
        return super().packs and self.gate != "small"


class Source:
    """Where an adapter finds what its sub-layer got: left there by a `Tap` beside it, taken once."""

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def take(self) -> Tensor:
        """Return what is there, and forget it.

        Raises:
            UsageError: There is nothing.
        """
        value, self.value = self.value, None
        if value is None:
            raise UsageError("the sub-layer of a parallel or gated adapter was not called through its first map")
        return value

    def __reduce__(self) -> tuple[type[Source], tuple[()]]:
        return Source, ()  # a copy of the model begins without what this one's last pass may have left


class Tap(SiteAdapter):
    """Stands round the first map of a sub-layer and notes what it gets."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source

    def forward(self, base: Call, *args: Any, **kwargs: Any) -> Any:
        """Return what the map gives."""
        self.source.value = args[0]
        return base(*args, **kwargs)


class ResidualAdapter(SiteAdapter):
    """Adds what a bottleneck makes of a map's output (or of its sub-layer's input) to that output.

    Args:
        width: Of the map's output D.
        bottleneck: Width R between the two maps.
        linear: Makes the two maps.
        config: The options.
        source: Where a parallel or gated adapter finds its sub-layer's input `[B, S, E]`; unset: it is the map's own.
        input_width: Of the adapter's input; unset: D.
        outer_width: Of the sub-layer's input E; unset: as the adapter's.

    Raises:
        UsageError: The widths do not suit the options.
    """

    def __init__(
        self,
        width: int,
        bottleneck: int,
        linear: Linear,
        config: ResidualConfig,
        source: Source | None = None,
        input_width: int | None = None,
        outer_width: int | None = None,
    ) -> None:
        super().__init__()
        tasks = len(config.tasks) or None
        entry = input_width or width
        self.norm_before = nn.LayerNorm(entry) if config.norm_before else None
        self.down = linear(entry, bottleneck, None if config.share_down else tasks, False)
        self.dropout = nn.Dropout(config.dropout)
        self.up = linear(bottleneck, width, None if config.share_up else tasks, not config.norm_after)
        self.norm_after = nn.LayerNorm(width) if config.norm_after else None
        if self.norm_after is not None:
            nn.init.zeros_(self.norm_after.weight)
        self.gate = make_gate(config.gate, outer_width or entry, width, config.gate_width or bottleneck)
        self.scale = nn.Parameter(torch.tensor(config.scale)) if config.learned_scale else config.scale
        self.source = source
        self.parallel, self.needs_input, self.gates_sum = config.parallel, config.needs_input, config.gate_of == "sum"
        self._activation = ACTIVATIONS[config.activation]
        self.z = Kept()
        """What the bottleneck held, where `quincunx.tuners.regulariser.track` asked for it."""

    def forward(self, base: Call, *args: Any, **kwargs: Any) -> Tensor:
        """Return the map's output `[B, S, D]` with the adapter's part."""
        output = base(*args, **kwargs)
        x = output
        if self.needs_input:
            x = args[0] if self.source is None else self.source.take()
        added = self.part(x if self.parallel else output)
        if self.gate is None:
            return output + added
        gate = self.gate(x, output)
        return gate * (output + added) if self.gates_sum else output + gate * added

    def part(self, x: Tensor) -> Tensor:
        """Return what is added `[B, S, D]`, a gate left out, for the adapter's input."""
        hidden = x if self.norm_before is None else self.norm_before(x)
        hidden = self._activation(self.down(hidden))
        self.z.keep(hidden, self.training)
        added = self.up(self.dropout(hidden))
        if self.norm_after is not None:
            added = self.norm_after(added)
        return added * self.scale if isinstance(self.scale, Tensor) or self.scale != 1 else added


def place_residual(model: nn.Module, config: ResidualConfig, linear: Linear) -> Placement:
    """Return the placement of adapters with a bottleneck, their linear maps made by a function.

    Raises:
        UsageError: An option names nothing that is adapted, or does not suit a module.
    """
    found = find_sites(
        model, config.sites or (ATTENTION, CROSS, FEEDFORWARD), patterns=config.target_modules,
        leave_out=config.leave_out,
    )  # fmt: skip
    _check_factors(found, config)
    check_rows(model, (site.path for site in found), config.tasks)
    placement = Placement(notes=(describe(found),))
    for site in found:
        module = model.get_submodule(site.path)
        width, source, outer = width_of(module), None, None
        if config.gate == "small" and _is_causal(model, site):
            raise UsageError(
                f"{site.path}: the gate small is a mean over all positions, and this layer may not see those to come: "
                "leave the decoder out by leave_out or target_modules (in a vision-language model leave_out: "
                "[language_model]), or take another gate"
            )
        if config.needs_input and site.word in OWN_INPUT:
            outer = input_width_of(module)
        elif config.needs_input:
            if site.entry is None:
                raise UsageError(
                    f"{site.path} is in no sub-layer whose input is known: leave parallel and gate out, or adapt "
                    "attention, cross_attention, feedforward, query, key or value"
                )
            source = Source()
            outer = input_width_of(model.get_submodule(site.entry))
            _put(placement, site.entry, "tap", Tap(source))
        bottleneck = bottleneck_of(width, site, config)
        entry = outer if config.parallel else None
        try:
            adapter = ResidualAdapter(width, bottleneck, linear, config, source, entry, outer)
        except UsageError as error:
            raise UsageError(f"{site.path}: {error}") from error
        _put(placement, site.path, "adapter", adapter)
    return placement


def _put(placement: Placement, path: str, name: str, part: SiteAdapter) -> None:
    """Put a part round a module, outside of what is there: a map may be adapted and begin an adapted sub-layer."""
    there = placement.adapters.get(path)
    if there is None:
        placement.adapters[path] = part
    elif isinstance(there, Chain):
        there.parts[f"{name}{len(there.parts)}"] = part
    else:
        placement.adapters[path] = Chain({"first": there, name: part})


def _is_causal(model: nn.Module, site: Found) -> bool:
    if site.decodes or sees_its_past_alone(model, site.path):
        return True
    stack = model.get_submodule(site.stack)
    return any(
        getattr(module, name, False) is True
        for module in stack.modules()
        for name in ("is_causal", "is_decoder", "causal")
    )


def bottleneck_of(width: int, site: Found, config: ResidualConfig) -> int:
    """Return the width of the bottleneck at a site; UsageError where nothing of it is left."""
    factor = config.reduction_factor
    for key, value in config.reduction_factors.items():
        if _names(key, site):
            factor = value
    bottleneck = int(width / factor)
    if bottleneck < 1:
        raise UsageError(f"{site.path} is {width} wide: a reduction factor of {factor:g} leaves nothing of it")
    return bottleneck


def _names(key: str, site: Found) -> bool:
    """Return whether a key of `reduction_factors` means a site."""
    return key == str(site.layer) or fnmatchcase(site.path, key)


def _check_factors(found: Sequence[Found], config: ResidualConfig) -> None:
    for key in config.reduction_factors:
        if not any(_names(key, site) for site in found):
            layers = ", ".join(str(layer) for layer in sorted({site.layer for site in found}))
            raise UsageError(
                f"reduction_factors names {key!r}, and no adapter goes there: their layers are {layers}, their modules "
                f"such as {found[0].path} (* for anything)"
            )
