"""Where Compacter's adapters go, and the rule that they share."""

from __future__ import annotations

from torch import nn

from quincunx.tuners.adapter import Placement
from quincunx.tuners.compacter.config import CompacterConfig
from quincunx.tuners.compacter.layer import PhmLinear, Rule
from quincunx.tuners.residual import place_residual


def place(model: nn.Module, config: CompacterConfig) -> Placement:
    """Return an adapter for each site, and among what they share the model's one rule, if they share it.

    Raises:
        UsageError: The division does not divide the widths of a site.
    """
    shared = _rule(config, None) if config.phm_rule == "model" else None

    def linear(in_features: int, out_features: int, tasks: int | None, zero: bool) -> nn.Module:
        return PhmLinear(
            in_features,
            out_features,
            division=config.hypercomplex_division,
            rank=config.phm_rank if config.factorized_phm else None,
            rule=shared or _rule(config, tasks if config.phm_rule == "none" else None),
            own_rule=shared is None,
            tasks=tasks,
            zero=zero,
        )

    placement = place_residual(model, config, linear)
    if shared is not None:
        placement.shared["rule"] = shared
    return placement


def _rule(config: CompacterConfig, tasks: int | None) -> Rule:
    return Rule(
        config.hypercomplex_division, tasks=tasks, factorized=config.factorized_phm_rule, std=config.phm_init_range
    )
