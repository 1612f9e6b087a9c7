"""The dense maps of a bottleneck adapter; the adapter itself is `quincunx.tuners.residual.ResidualAdapter`."""

from __future__ import annotations

from quincunx.tuners.task_linear import TaskLinear


def dense(in_features: int, out_features: int, tasks: int | None, zero: bool) -> TaskLinear:
    """Return a dense map, of all tasks or of each; its weights begin at zero where that is asked for."""
    return TaskLinear(in_features, out_features, tasks=tasks, std=0.0 if zero else 0.02)
