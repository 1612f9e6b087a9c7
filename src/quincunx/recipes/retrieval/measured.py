"""What evaluations measure: the measures asked for, of which the first chooses among checkpoints. Torch-free."""

from __future__ import annotations

from typing import Any

from quincunx.config.schema import Metrics


def metrics_of(config: Any) -> Metrics:
    """Return what the evaluations of a config measure."""
    from quincunx.metrics.ranking.measures import parse_measures

    names = tuple(one.name for one in parse_measures(config.evaluate.measures))
    return Metrics(f"dev/{names[0]}", "max", names)
