"""The rows of a batch's sides as the engine encodes them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from quincunx.data.batch import Batch


def joined(first: Batch, second: Batch) -> Batch:
    """Return the rows of one batch and then of another as one batch, `rows` counted on.

    Tensors are padded with zeros to the longer side; both sides have the same tensors.
    """
    tensors: dict[str, Tensor] = {}
    for name in first.tensors:
        both = [first[name], second[name]]
        if name in first.padded:
            width = max(side.shape[1] for side in both)
            both = [functional.pad(side, (0, width - side.shape[1])) for side in both]
        tensors[name] = torch.cat(both)
    assert first.lengths is not None
    assert second.lengths is not None
    rows = torch.arange(len(first) + len(second), device=first.rows.device)
    lengths = torch.cat([first.lengths, second.lengths])
    return Batch(tensors, rows, [*first.ids, *second.ids], lengths, first.padded)


def with_ruler(batch: Batch) -> Batch:
    """Add a tensor without content whose second dimension says, in each chunk, how wide the whole batch is."""
    tokens = batch["tokens"]
    ruler = tokens.new_empty(tokens.shape[0], tokens.shape[1], 0)
    return Batch({**batch.tensors, "ruler": ruler}, batch.rows, batch.ids, batch.lengths, batch.padded)


def valid_lengths(batch: Batch) -> Tensor:
    """Return the number of valid tokens of each row, on the CPU where no row is padded.

    An encoder can see there without waiting for the device that it needs no mask.
    """
    width = batch["tokens"].shape[1]
    # rows without a token count as one for cutting, so at width 1 those lengths do not tell
    full = batch.lengths is not None and width > 1 and bool((batch.lengths >= width).all())
    return batch.lengths if full and batch.lengths is not None else batch["lengths"]
