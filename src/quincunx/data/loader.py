"""From example numbers to the logical batches of one update after another, in this process or in workers.

The loader is told where to begin and how far to go; it keeps no position of its own, so there is nothing to restore
after an interruption.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from quincunx.data.batch import Batch
from quincunx.data.order import Order
from quincunx.seeds import address


class Source(Protocol):
    """Examples by number."""

    @property
    def lengths(self) -> NDArray[np.integer] | None:
        """Tokens of each example, for bucketing; None where examples have one size."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class Collate(Protocol):
    """Turns examples into a batch; all random masking of data happens here, addressed by `seed` and row."""

    def __call__(self, examples: Sequence[Any], ids: Sequence[int], rows: Sequence[int], seed: int) -> Batch: ...


@runtime_checkable
class Timed(Protocol):
    """A `Collate` that changes as training goes on."""

    def at(self, update: int) -> Collate:
        """Return the collate of one update (from 0)."""
        ...


class Updates(Dataset[list[Batch | None]]):
    """The logical batches of each update, as a data set numbered by updates."""

    def __init__(
        self, source: Source, collate: Collate, order: Order, seed: int, shard: tuple[int, int] = (0, 1)
    ) -> None:
        """`shard` is (rank, world): the rows rank, rank + world, ... of each logical batch are loaded."""
        self.source = source
        self.collate = collate
        self.order = order
        self.seed = seed
        self.shard = shard

    def __getitem__(self, update: int) -> list[Batch | None]:
        rank, world = self.shard
        collate = self.collate.at(update) if isinstance(self.collate, Timed) else self.collate
        batches: list[Batch | None] = []
        for number, indices in enumerate(self.order.update(update)):
            rows = range(rank, len(indices), world)
            ids = indices.tolist() if world == 1 else indices[rank::world].tolist()
            if not ids:  # fewer examples than processes: this one sits the batch out
                batches.append(None)
                continue
            examples = [self.source[i] for i in ids]
            batches.append(collate(examples, ids, rows, address(self.seed, "collate", update, number)))
        return batches


def updates(data: Updates, start: int, stop: int, workers: int = 0) -> Iterator[list[Batch | None]]:
    """Yield the logical batches of the updates `start .. stop-1`, loaded by so many worker processes."""
    if workers == 0:
        return (data[update] for update in range(start, stop))
    loader: DataLoader[list[Batch | None]] = DataLoader(
        data,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        worker_init_fn=partial(_start_worker, data.seed),
        # the loader would otherwise draw a seed from the global generator, which training uses
        generator=torch.Generator().manual_seed(0),
    )
    return iter(loader)


def _start_worker(seed: int, worker: int) -> None:
    torch.set_num_threads(1)
    # a terminal and a cluster send these to every process of a run: they are for the one that trains, and without its
    # workers it could not go on to save
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    # sources should draw from the seed that collate gets; one that draws from the global generators all the same must
    # at least not draw alike in every worker
    own = address(seed, "worker", worker)
    random.seed(own)
    np.random.seed(own % 2**32)
    torch.default_generator.manual_seed(own)
