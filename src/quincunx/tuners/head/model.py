"""Where a head adapter goes."""

from __future__ import annotations

from torch import nn

from quincunx.errors import UsageError
from quincunx.tuners.adapter import Placement
from quincunx.tuners.head.config import HeadConfig
from quincunx.tuners.head.layer import vocabulary
from quincunx.tuners.parts import output_map
from quincunx.tuners.residual import ResidualAdapter, bottleneck_of
from quincunx.tuners.sites import HEAD, Found, describe, find_sites, input_width_of, plain, width_of


def place(model: nn.Module, config: HeadConfig) -> Placement:
    """Return an adapter for the head; what it shares with the embeddings stays shared.

    Raises:
        UsageError: The model has no head, or `target_modules` names several modules.
    """
    found = _heads(model, config)
    if len(found) > 1:
        raise UsageError(
            f"{type(model).__name__} has {len(found)} such modules ({', '.join(site.path for site in found)}): name "
            "its one head by its full path in target_modules"
        )
    head = model.get_submodule(found[0].path)
    entry, words = input_width_of(head), width_of(head)
    bottleneck = bottleneck_of(entry, found[0], config)
    adapter = ResidualAdapter(words, bottleneck, vocabulary, config, None, entry)
    return Placement(adapters={found[0].path: adapter}, notes=(describe(found),))


def _heads(model: nn.Module, config: HeadConfig) -> list[Found]:
    """Return the head by the model's own word if it has one, whatever it is called, or by the name it mostly has."""
    head = output_map(model) if config.target_modules is None else None
    if head is not None:
        path = next((path for path, module in model.named_modules() if module is head), None)
        if path is not None:
            return [Found(plain(path), HEAD, "", 0, None)]
    return find_sites(model, (HEAD,), patterns=config.target_modules)
