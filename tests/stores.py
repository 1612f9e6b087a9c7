"""Small stores of vectors, filled without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.index.filling import Filling, Part, Plan, begin
from quincunx.index.shards import Shard

MADE: dict[str, Any] = {
    "weights": "a",
    "tokenizer": "t",
    "side": "document",
    "prompt": "",
    "max_length": 8,
    "truncate": "right",
    "pooling": "mean",
    "similarity": "dot",
    "dimension": 0,
    "dtype": "float32",
    "precision": "float32",
    "backend": "torch",
    "mode": "bi-encoder",
}


def vectors(rows: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Return random vectors `[rows, width]`, the same for the same seed."""
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def part_of(rows: int) -> Part:
    """Return what a shard of so many rows is planned to be."""
    return Part(rows, "c", [])


def planned(rows: int, size: int, width: int, *, dtype: str = "float32", texts: bool = True, **made: Any) -> Plan:
    """Return the plan of a store."""
    parts = [part_of(min(size, rows - start)) for start in range(0, rows, size)]
    return Plan({**MADE, "dimension": width, "dtype": dtype, **made}, {"name": "made"}, size, texts, parts)


def maker(
    plan: Plan, *, ids: Sequence[str] | None = None, seed: int = 0, values: NDArray[np.float32] | None = None
) -> Callable[[int], Shard]:
    """Return what makes the shards of a plan: documents d0, d1 ... with random vectors, or the values given."""
    width, names = plan.made["dimension"], ids or [f"d{n}" for n in range(plan.rows)]
    whole = vectors(plan.rows, width, seed) if values is None else values

    def make(number: int) -> Shard:
        rows = slice(start := number * plan.shard_size, start + plan.parts[number].rows)
        texts = [f"text {n} é\n" for n in range(rows.start, rows.stop)] if plan.texts else None
        return Shard(names[rows], whole[rows].astype(plan.made["dtype"]), texts)

    return make


def begun(folder: Path, plan: Plan, made: Mapping[str, Any] | None = None) -> Filling | None:
    """Return a store to be filled by a plan."""
    return begin(folder, made or plan.made, lambda: plan, lambda found: found)


def fill(
    folder: Path, rows: int, size: int, width: int, *, ids: Sequence[str] | None = None, seed: int = 0, **options: Any
) -> Path:
    """Fill a store and return its folder."""
    plan = planned(rows, size, width, **options)
    filling = begun(folder, plan)
    assert filling is not None
    filling.fill(maker(plan, ids=ids, seed=seed))
    filling.close()
    return folder
