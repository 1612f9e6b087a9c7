"""The adapter that bottleneck, low-rank adapter and Compacter have in common; they differ in their linear maps.

y = base(x), then y + scale * norm_after(up(act(down(norm_before(y))))): N. Houlsby et al. (ICML 2019), as VL-Adapter
(Sung et al., CVPR 2022) places it: after a map's output, before dropout and residual.
Parallel: J. He et al. (ICLR 2022).
B examples, S positions, D width, R width of the bottleneck, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.errors import UsageError
from quincunx.tuners.adapter import Call, Placement, SiteAdapter
from quincunx.tuners.method import TunerConfig
from quincunx.tuners.sites import ATTENTION, CROSS, FEEDFORWARD, Found, describe, find_sites, input_width_of, width_of

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "identity": lambda x: x,
}

Linear = Callable[[int, int, int | None, bool], nn.Module]
"""Makes a linear map: input width, output width, number of tasks (None: one map for all), whether its bias and weights
are to begin at zero."""


@dataclass
class ResidualConfig(TunerConfig):
    """Options of adapters with a bottleneck."""

    reduction_factor: float = 16.0
    """The bottleneck is the width divided by this, rounded down."""
    reduction_factors: dict[str, float] = field(default_factory=dict[str, float])
    """Others, by a layer's number (as text) or a pattern of full paths."""
    activation: Literal["gelu", "gelu_new", "relu", "silu", "tanh", "identity"] = "gelu_new"
    """Between the two maps."""
    norm_before: bool = False
    """A layer norm before the first map."""
    norm_after: bool = False
    """A layer norm after the second; its weight begins at zero, so that the adapter does."""
    parallel: bool = False
    """The adapter is fed what the sub-layer (attention, feedforward) gets, not what it gives."""
    scale: float = 1.0
    """Factor of what is added."""
    learned_scale: bool = False
    """The factor is trained, from `scale` on."""
    gate: bool = False
    """What is added is multiplied by 2 sigmoid(w y + b) of each token, trained from 1 on."""
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
        if len({*self.tasks}) < len(self.tasks):
            raise ValueError(f"tasks names one twice: {', '.join(self.tasks)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, found {self.dropout}")


class Source:
    """Where a parallel adapter finds what its sub-layer got: left there by a `Tap` beside it, taken once."""

    def __init__(self) -> None:
        self.value: Tensor | None = None


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
        source: Where a parallel adapter finds its input `[B, S, input_width]`.
        input_width: Of that input; unset: D.
    """

    def __init__(
        self,
        width: int,
        bottleneck: int,
        linear: Linear,
        config: ResidualConfig,
        source: Source | None = None,
        input_width: int | None = None,
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
        self.gate = nn.Linear(width, 1) if config.gate else None
        if self.gate is not None:
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)
        self.scale = nn.Parameter(torch.tensor(config.scale)) if config.learned_scale else config.scale
        self.source = source
        self._activation = ACTIVATIONS[config.activation]
        self.seen: Tensor | None = None
        """What the bottleneck held in the last pass `[B, S, R]`, where somebody asked for it by `keeps`."""
        self.keeps = False

    def forward(self, base: Call, *args: Any, **kwargs: Any) -> Tensor:
        """Return the map's output `[B, S, D]` with the adapter's part."""
        output = base(*args, **kwargs)
        return output + self.part(output if self.source is None else self._entry(), output)

    def part(self, x: Tensor, output: Tensor) -> Tensor:
        """Return what is added `[B, S, D]`, for the adapter's input and the map's output."""
        hidden = x if self.norm_before is None else self.norm_before(x)
        hidden = self.dropout(self._activation(self.down(hidden)))
        if self.keeps:
            self.seen = hidden
        added = self.up(hidden)
        if self.norm_after is not None:
            added = self.norm_after(added)
        if self.gate is not None:
            added = added * (2 * torch.sigmoid(self.gate(output)))
        return (
            added
            if self.scale is None or (not isinstance(self.scale, Tensor) and self.scale == 1)
            else (added * self.scale)
        )

    def _entry(self) -> Tensor:
        assert self.source is not None
        value, self.source.value = self.source.value, None
        if value is None:
            raise UsageError("a parallel adapter's sub-layer was not called through its first map")
        return value


def place_residual(model: nn.Module, config: ResidualConfig, linear: Linear) -> Placement:
    """Return the placement of adapters with a bottleneck, their linear maps made by a function."""
    found = find_sites(
        model, config.sites or (ATTENTION, CROSS, FEEDFORWARD), patterns=config.target_modules,
        leave_out=config.leave_out,
    )  # fmt: skip
    placement = Placement(notes=(describe(found),))
    for site in found:
        module = model.get_submodule(site.path)
        width, source, entry = width_of(module), None, None
        if config.parallel:
            if site.entry is None:
                raise UsageError(
                    f"{site.path} is in no sub-layer whose input is known: leave parallel out, or adapt attention, "
                    "cross_attention or feedforward"
                )
            source = Source()
            entry = input_width_of(model.get_submodule(site.entry))
            placement.adapters[site.entry] = Tap(source)
        bottleneck = bottleneck_of(width, site, config)
        placement.adapters[site.path] = ResidualAdapter(width, bottleneck, linear, config, source, entry)
    return placement


def bottleneck_of(width: int, site: Found, config: ResidualConfig) -> int:
    """Return the width of the bottleneck at a site; UsageError where nothing of it is left."""
    from fnmatch import fnmatchcase

    factor = config.reduction_factor
    for key, value in config.reduction_factors.items():
        if key == str(site.layer) or fnmatchcase(site.path, key):
            factor = value
    bottleneck = int(width / factor)
    if bottleneck < 1:
        raise UsageError(f"{site.path} is {width} wide: a reduction factor of {factor:g} leaves nothing of it")
    return bottleneck
