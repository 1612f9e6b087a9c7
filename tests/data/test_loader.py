"""Loading: the same batches in this process and in workers, from any update on, for any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from quincunx.data.batch import Batch
from quincunx.data.loader import Updates, updates
from quincunx.data.order import Order


class Squares:
    lengths = None

    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> int:
        return index * index


def collate(examples: Sequence[int], ids: Sequence[int], rows: Sequence[int], seed: int) -> Batch:
    return Batch(
        {"value": torch.tensor(examples), "seed": torch.full((len(ids),), seed)}, torch.tensor(list(rows)), ids
    )


def data(shard: tuple[int, int] = (0, 1), batch_size: int = 4) -> Updates:
    return Updates(Squares(), collate, Order(23, batch_size, 9, accumulation=2), seed=9, shard=shard)


def plain(batches: list[Batch | None]) -> list[object]:
    return [b and (b["value"].tolist(), b["seed"].tolist(), b.rows.tolist(), list(b.ids)) for b in batches]


@pytest.mark.parametrize("workers", [0, 2])
def test_beginning_anywhere_gives_the_same_batches(workers):
    wanted = [plain(batches) for batches in updates(data(), 0, 9)]
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    assert [plain(batches) for batches in updates(data(), 4, 9, workers)] == wanted[4:]
    assert torch.equal(torch.random.get_rng_state(), before), "loading must not draw from the global generator"


def test_ranks_share_each_batch_out():
    whole = data()[1]
    shares = [data((rank, 3))[1] for rank in range(3)]
    for number, batch in enumerate(whole):
        assert batch is not None
        rows = {int(row): share[number]["value"][i] for share in shares for i, row in enumerate(share[number].rows)}
        assert [int(rows[row]) for row in range(len(batch))] == batch["value"].tolist()


def test_a_rank_without_rows_sits_a_batch_out():
    batches = data((3, 4), batch_size=3)[0]
    assert [batch is None for batch in batches] == [True, True]


def test_select_trims_to_the_longest_and_keeps_rows():
    tokens = torch.tensor([[1, 2, 3, 4], [5, 0, 0, 0], [6, 7, 0, 0]])
    lengths = torch.tensor([4, 1, 2])
    batch = Batch({"tokens": tokens, "labels": torch.arange(3)}, torch.arange(3), "abc", lengths, frozenset({"tokens"}))
    chosen = batch.select(np.array([2, 1]))
    assert chosen["tokens"].tolist() == [[6, 7], [5, 0]]
    assert (chosen["labels"].tolist(), chosen.rows.tolist(), list(chosen.ids)) == ([2, 1], [2, 1], ["c", "b"])


class Counting:
    """A collate that changes with the updates: it tells which one it is of."""

    def __init__(self, update: int = -1) -> None:
        self.update = update

    def at(self, update: int) -> Counting:
        return Counting(update)

    def __call__(self, examples: Sequence[int], ids: Sequence[int], rows: Sequence[int], seed: int) -> Batch:
        return Batch({"update": torch.full((len(ids),), self.update)}, torch.tensor(list(rows)), ids)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_collate_that_changes_is_that_of_the_update(workers):
    timed = Updates(Squares(), Counting(), Order(23, 4, 9, accumulation=2), seed=9)
    found = [
        {int(value) for batch in batches if batch for value in batch["update"]}
        for batches in updates(timed, 2, 5, workers)
    ]
    assert found == [{2}, {3}, {4}]


def test_select_trims_tensors_of_their_own_lengths():
    batch = Batch(
        {"a": torch.tensor([[1, 2, 3], [4, 0, 0]]), "b": torch.tensor([[5, 0], [6, 7]]), "whole": torch.ones(2, 9)},
        torch.arange(2),
        [0, 1],
        torch.tensor([4, 3]),
        extents={"a": torch.tensor([3, 1]), "b": torch.tensor([1, 2])},
    )
    first, second = batch.select([0]), batch.select([1])
    assert (first["a"].tolist(), first["b"].tolist()) == ([[1, 2, 3]], [[5]])
    assert (second["a"].tolist(), second["b"].tolist()) == ([[4]], [[6, 7]])
    assert second["whole"].shape == (1, 9)
    assert second.extents["a"].tolist() == [1]
