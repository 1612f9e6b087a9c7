"""Where the adapters of a hyperformer go, and which of them are made by the same generators."""

from __future__ import annotations

from torch import nn

from quincunx.tuners.adapter import Placement
from quincunx.tuners.hyperformer.config import HyperformerConfig
from quincunx.tuners.hyperformer.layer import (
    Handed,
    Hypernetwork,
    MadeDown,
    MadeUp,
    Place,
    Shape,
    TaskEmbeddings,
)
from quincunx.tuners.residual import ResidualAdapter, place_residual
from quincunx.tuners.sites import ATTENTION, CROSS, FEEDFORWARD, Found, find_sites


def place(model: nn.Module, config: HyperformerConfig) -> Placement:
    """Return an adapter for each site, what is learned of tasks, and a network for each stack of layers."""
    placement = place_residual(model, config, _Unmade)
    found = find_sites(
        model,
        config.sites or (ATTENTION, CROSS, FEEDFORWARD),
        patterns=config.target_modules,
        leave_out=config.leave_out,
    )
    tasks = TaskEmbeddings(len(config.tasks), config.task_embedding_dim)
    placement.shared["tasks"] = tasks
    for stack in dict.fromkeys(site.stack for site in found):
        adapters = {site: _adapter(placement, site) for site in found if site.stack == stack}
        layers = sorted({site.layer for site in adapters})
        kinds = list(dict.fromkeys(site.word for site in adapters))
        shapes = {site: _shape(adapter) for site, adapter in adapters.items()}
        names = {site: _generator(site, shape, config) for site, shape in shapes.items()}
        network = Hypernetwork(
            len(layers),
            len(kinds) if config.generators == "efficient" else 0,
            {names[site]: shape for site, shape in shapes.items()},
            config,
        )
        placement.shared[stack.replace(".", "_") or "model"] = network
        for site, adapter in adapters.items():
            handed = Handed()
            where = Place(layers.index(site.layer), kinds.index(site.word), names[site])
            adapter.norm_before = adapter.norm_after = None  # made with the maps
            adapter.down, adapter.up = MadeDown(tasks, network, where, handed), MadeUp(handed)
    return placement


class _Unmade(nn.Module):
    """Stands for a map that is to be made, and knows its widths."""

    def __init__(self, in_features: int, out_features: int, tasks: int | None, zero: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features


def _adapter(placement: Placement, site: Found) -> ResidualAdapter:
    parts = placement.adapters[site.path].modules()
    return next(part for part in parts if isinstance(part, ResidualAdapter))


def _shape(adapter: ResidualAdapter) -> Shape:
    down, up = adapter.down, adapter.up
    assert isinstance(down, _Unmade) and isinstance(up, _Unmade)
    return Shape(down.in_features, down.out_features, up.out_features)


def _generator(site: Found, shape: Shape, config: HyperformerConfig) -> str:
    """Return the name of a site's generators: those of its kind, or of all kinds; another shape needs others."""
    kind = site.word if config.generators == "unique" else "every"
    return f"{kind}_{shape.entry}_{shape.bottleneck}_{shape.width}"
