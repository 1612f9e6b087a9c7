"""Counts of texts and negatives, against batches in which no text occurs twice; arithmetic that needs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from quincunx.recipes.retrieval.objective.counts import (
    DIRECTIONS,
    Negatives,
    effective_negatives,
    smallest_size,
    texts_in_batch,
)
from quincunx.recipes.retrieval.objective.masks import Pool
from retrieval_toys import make


def distinct(anchors: int, positives: int, negatives: int, anchor: str):
    """A batch of distinct texts."""
    others = anchors * (positives + negatives)
    near = [(a, a * positives + k) for a in range(anchors) for k in range(positives)]
    far = [(a, anchors * positives + a * negatives + k) for a in range(anchors) for k in range(negatives)]
    if anchor == "query":
        return make(list(range(anchors)), list(range(others)), near, far)
    return make(list(range(others)), list(range(anchors)), [p[::-1] for p in near], [p[::-1] for p in far])


@pytest.mark.parametrize("anchor", ["query", "document"])
@pytest.mark.parametrize("shape", [(4, 1, 0), (4, 1, 2), (3, 2, 0), (3, 2, 3), (1, 1, 0)], ids=str)
def test_counts_are_those_of_a_batch(shape, anchor):
    batch = distinct(*shape, anchor)
    for side in ("query", "document"):
        assert texts_in_batch(side, *shape, anchor=anchor) == len(batch.sides[side])
        assert smallest_size(*shape, anchor=anchor, side=side) == len(batch.sides[side])
    for direction in DIRECTIONS:
        counted = effective_negatives(*shape, anchor=anchor, direction=direction, memory=100)
        found = Pool.of(batch.links).candidates(direction).negatives.sum(1).tolist()
        assert found == [counted.explicit + counted.in_batch] * len(found)
        assert counted.total == found[0] + 100
    own = f"{anchor}_to_{'document' if anchor == 'query' else 'query'}"
    alone = effective_negatives(*shape, anchor=anchor, direction=own, in_batch=False, memory=100)
    assert alone == Negatives(shape[2], 0, 0)
    found = Pool.of(batch.links).candidates(own, in_batch=False).negatives.sum(1).tolist()
    assert found == [shape[2]] * len(found)


def test_rules_can_count_without_torch():
    module = "quincunx.recipes.retrieval.objective"
    code = f"import sys; import {module}.counts, {module}.options; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
