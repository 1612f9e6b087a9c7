"""Where the parts of a composite tuner go; those of peft are put in by `tuner.py`, inside of these."""

from __future__ import annotations

from torch import nn

from quincunx.errors import UsageError
from quincunx.tuners.adapter import Chain, Placement, SiteAdapter
from quincunx.tuners.composite.config import CompositeConfig
from quincunx.tuners.single import SINGLE
from quincunx.tuners.trainable import select


def place(model: nn.Module, config: CompositeConfig) -> Placement:
    """Return what all parts put into the model, and what of it is trained besides.

    Raises:
        UsageError: A part does not suit the model, or is a method of peft, which peft alone can put in.
    """
    if config.theirs():
        methods = ", ".join(part.method for part in config.theirs())
        raise UsageError(f"parts of peft ({methods}) go in by peft: use its get_peft_model, or quincunx.tuners.attach")
    return place_own(model, config)


def place_own(model: nn.Module, config: CompositeConfig) -> Placement:
    """Return what the parts of this package put into the model, and what of it is trained besides.

    Raises:
        UsageError: A part does not suit the model.
    """
    found: dict[str, dict[str, SiteAdapter]] = {}
    shared, trained, notes = nn.ModuleDict(), list[str](), list[str]()
    for number, method, options in config.configs():
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
    adapters: dict[str, SiteAdapter] = {path: Chain(parts) for path, parts in found.items()}
    return Placement(adapters, shared, tuple(dict.fromkeys(trained)), tuple(notes))
