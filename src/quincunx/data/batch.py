"""A logical batch, or a chunk of one: named tensors with one row an example.

It knows the rows' places in the global logical batch, because random masks are addressed by them, and the examples'
lengths, because chunks are cut by length and trimmed to their longest row. B examples, S positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Examples as tensors."""

    tensors: Mapping[str, Tensor]
    """Tensors by name, each `[B, ...]`."""
    rows: Tensor
    """`[B]` int64: the examples' places in the global logical batch."""
    ids: Sequence[int | str]
    """The examples' names in their source, for messages."""
    lengths: Tensor | None = None
    """`[B]` int64 on the CPU: tokens of each example; None where examples have one size."""
    padded: frozenset[str] = field(default_factory=frozenset)
    """Names of the tensors `[B, S, ...]` that are padded to the longest example."""
    extents: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Of tensors `[B, S, ...]` that are padded to a length of their own, by name: `[B]` int64 on the CPU, how many
    columns each row needs."""
    parts: Tensor | None = None
    """`[B, P]` int64 on the CPU: what lengths are made of, where an example has parts that are padded apart from one
    another; None: it is one sequence."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def select(self, indices: Sequence[int] | Tensor) -> Batch:
        """Return the examples at these positions, in this order, trimmed to the longest of them."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        lengths = self.lengths[index] if self.lengths is not None else None
        longest = int(lengths.max()) if lengths is not None and len(lengths) else None
        extents = {name: needed[index] for name, needed in self.extents.items()}
        tensors: dict[str, Tensor] = {}
        for name, tensor in self.tensors.items():
            chosen = tensor[index.to(tensor.device)]
            columns = int(extents[name].max()) if name in extents and len(index) else longest
            trimmed = name in extents or name in self.padded
            tensors[name] = chosen[:, :columns] if trimmed and columns is not None else chosen
        ids = [self.ids[i] for i in index.tolist()]
        parts = None if self.parts is None else self.parts[index]
        return Batch(tensors, self.rows[index.to(self.rows.device)], ids, lengths, self.padded, extents, parts)

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on a device; lengths stay on the CPU, where chunks are cut."""
        if self.rows.device == device:
            return self
        tensors = {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}
        rows = self.rows.to(device, non_blocking=True)
        return Batch(tensors, rows, self.ids, self.lengths, self.padded, self.extents, self.parts)


def pad(sequences: Sequence[Tensor], value: int | float = 0) -> Tensor:
    """Return sequences of lengths s_i as one tensor `[B, max s_i, ...]`, filled up with `value`."""
    return torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True, padding_value=value)
