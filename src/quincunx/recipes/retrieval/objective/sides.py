"""The rows of a batch's sides as the engine encodes them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from quincunx.data.batch import Batch


def joined(query: Batch, document: Batch) -> Batch:
    """Return the rows of queries and then of documents as one batch, `rows` counted on.

    Tensors are padded with zeros to the longer side; both sides have the same tensors. Ids get their side's name before
    them: a query and a document of one id are two texts, to whatever keeps something of each.
    """
    tensors: dict[str, Tensor] = {}
    for name in query.tensors:
        both = [query[name], document[name]]
        if name in query.padded:
            width = max(side.shape[1] for side in both)
            both = [functional.pad(side, (0, width - side.shape[1])) for side in both]
        tensors[name] = torch.cat(both)
    assert query.lengths is not None
    assert document.lengths is not None
    rows = torch.arange(len(query) + len(document), device=query.rows.device)
    lengths = torch.cat([query.lengths, document.lengths])
    ids = [*(f"query:{each}" for each in query.ids), *(f"document:{each}" for each in document.ids)]
    return Batch(tensors, rows, ids, lengths, query.padded)


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
