"""The batch itself: it is moved whole and never cut."""

from __future__ import annotations

import pytest
import torch

from quincunx.data.batch import Batch
from quincunx.recipes.retrieval.data.batch import RetrievalBatch
from retrieval_sets import collection, source

MADE = collection(["a", "bcd"], ["e", "fgh", "i"], [(0, 0, 1), (1, 1, 1)], [(0, 2)])


def made() -> RetrievalBatch:
    return source(MADE, negatives=1).collate([0, 1], [0, 1], [4, 7], 5)


def test_its_rows_are_the_anchors_places():
    batch = made()
    assert isinstance(batch, Batch)
    assert (len(batch), batch.rows.tolist(), len(batch.sides["document"])) == (2, [4, 7], 3)


def test_a_part_is_refused_and_the_reason_given():
    with pytest.raises(TypeError, match="every row is a negative of the other anchors"):
        made().select([0])


def test_a_side_is_cut_and_trimmed_as_any_batch():
    chunk = made().sides["document"].select([2, 0])
    assert chunk["tokens"].tolist() == [[1, ord("i"), 2], [1, ord("e"), 2]]
    assert chunk.rows.tolist() == [2, 0]
    assert chunk.ids == ["d2", "d0"]


def test_everything_moves():
    batch = made()
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    assert isinstance(moved, RetrievalBatch)
    tensors = [moved.rows, *moved.links.values()]
    for side in moved.sides.values():
        tensors += [side.rows, *side.tensors.values()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.links.keys() == batch.links.keys()
    assert [moved.sides[name].ids for name in moved.sides] == [batch.sides[name].ids for name in batch.sides]
    lengths = moved.sides["document"].lengths
    assert lengths is not None
    assert lengths.device.type == "cpu", "chunks are cut there"
