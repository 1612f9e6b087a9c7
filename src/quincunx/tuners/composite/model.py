"""Where the parts of a composite tuner go."""

from __future__ import annotations

from torch import nn

from quincunx.tuners.adapter import Placement, SiteAdapter
from quincunx.tuners.composite.config import CompositeConfig
from quincunx.tuners.composite.layer import joined
from quincunx.tuners.single import SINGLE
from quincunx.tuners.trainable import select


def place(model: nn.Module, config: CompositeConfig) -> Placement:
    """Return what all parts put into the model, and what of it is trained besides."""
    found: dict[str, dict[str, SiteAdapter]] = {}
    shared, trained, notes = nn.ModuleDict(), list[str](), list[str]()
    for number, (method, options) in enumerate(config.configs()):
        name, part = f"{number}_{method}", SINGLE[method].place(model, options)
        for path, adapter in part.adapters.items():
            found.setdefault(path, {})[name] = adapter
        if len(part.shared):
            shared[name] = part.shared
        trained += part.trained
        notes += [f"{method}: {note}" for note in part.notes]
    if config.train:
        selection = select(model, config.train)
        trained += selection.names
        notes += selection.notes
    adapters = {path: joined(parts) for path, parts in found.items()}
    return Placement(adapters, shared, tuple(dict.fromkeys(trained)), tuple(notes))
