"""Contexts of any length as a trained model compresses them, each read as it would be alone.

One that is longer than the contexts of training is cut into segments of about equal length, none longer than one of
training, each with the slots of one. They hang together as `compress.join` says; where training had one segment, each
is compressed by itself and texts see the slots of all, as `concatenate` has it. B contexts, C tokens, N segments, K
slots of a segment, F positions of what follows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from quincunx.data.batch import Batch, pad
from quincunx.engine.runtime import Runtime
from quincunx.errors import DataError
from quincunx.nn.pretrained.facts import position_limit
from quincunx.recipes.compression.assemble import needs_numbers
from quincunx.recipes.compression.config import CompressionConfig
from quincunx.recipes.compression.config_positions import samples
from quincunx.recipes.compression.kinds import generated, lengths
from quincunx.recipes.compression.model.compressed import Compressed
from quincunx.recipes.compression.model.compressor import Compressor
from quincunx.recipes.compression.shapes import evaluation_shaping
from quincunx.recipes.compression.shaping import Item
from quincunx.seeds import address

SEED = 0
"""Of positions that are drawn: those of a text follow from its words alone."""
AT_ONCE = 8192
"""Tokens of contexts in a pass, at most."""


@dataclass(frozen=True)
class Contexts:
    """A model that compresses contexts, and reads them whole."""

    config: CompressionConfig
    model: Compressor
    runtime: Runtime

    @property
    def drawn(self) -> bool:
        """Whether positions are drawn, so that those of what follows have to be known beforehand."""
        return self.config.positions.kind != "none" and samples(self.config) != "none"

    @property
    def room(self) -> int | None:
        """Places that a sequence may have; None where they have no end."""
        if needs_numbers(self.config):
            return self.config.positions.size
        return position_limit(self.model.backbone) if self.config.positions.kind == "model" else None

    @property
    def ahead(self) -> int:
        """Tokens that follow a context in training."""
        context, forward = lengths(self.config)
        return max(1, forward + self.config.data.overlap if forward else context)

    def segments(self, length: int) -> int:
        """Return into how many segments a context of so many tokens is cut."""
        trained = self.config.compress.segments
        if generated(self.config) is not None:  # problems are never cut
            return trained
        return max(trained, -(-length * trained // lengths(self.config)[0]))

    def places(self, length: int, slots: int, ahead: int) -> int:
        """Return how many positions a context of so many tokens takes, with its slots, a start and what follows."""
        chosen, segments = self.config.compress, self.segments(length)
        separator = chosen.separator and chosen.readout != "mean_pool"
        trunk = length + segments * (separator + (0 if chosen.positions == "uniform" else slots))
        if chosen.positions == "restart":
            return max(trunk, segments * slots + 1 + ahead)
        return trunk + 1 + ahead

    def check(self, length: int, slots: int, ahead: int, what: str) -> None:
        """Raise DataError, with the limit, for a context longer than positions reach."""
        if self.room is None or self.places(length, slots, ahead) <= self.room:
            return
        most = bisect_right(range(length), self.room, key=lambda size: self.places(size, slots, ahead)) - 1
        raise DataError(
            f"{what} has {length:,} tokens; with what it is compressed to and {ahead:,} tokens after it, that is more "
            f"than the {self.room:,} positions that the model has: at most {max(most, 0):,} can be read"
        )

    def compress(self, contexts: Sequence[Tensor], slots: int, ahead: Sequence[int]) -> Compressed:
        """Return contexts compressed, in their order.

        Args:
            contexts: Token ids `[C]` of each.
            slots: K.
            ahead: Tokens that may follow each, for which positions are drawn where they are.
        """
        return self._each(contexts, slots, ahead, "forward", self._compress)

    def read(self, contexts: Sequence[Tensor], slots: int, ahead: Sequence[int]) -> Compressed:
        """Return contexts uncompressed, in the same form and at the places that they would have with so many slots."""

        def whole(batch: Batch, segments: int, following: Tensor) -> Compressed:
            return self.model.read(batch, following=following)

        return self._each(contexts, slots, ahead, "full", whole)

    def _each(self, contexts: Sequence[Tensor], slots: int, ahead: Sequence[int], branch: str, do: _Do) -> Compressed:
        groups: dict[int, list[int]] = {}
        for number, context in enumerate(contexts):
            groups.setdefault(self.segments(len(context)), []).append(number)
        shaping = evaluation_shaping(self.config, slots, (branch,))
        done: list[Compressed] = []
        order: list[int] = []
        for segments, members in groups.items():
            members.sort(key=lambda number: len(contexts[number]))
            for some in _portions(members, [len(contexts[number]) for number in members]):
                items = [Item(contexts[number], torch.zeros(ahead[number], dtype=torch.int64)) for number in some]
                rows = [address(SEED, "context", context.numpy().tobytes().hex()) for context, *_ in items]
                batch = replace(shaping, segments=segments)(items, some, rows, SEED).to(self.runtime.device)
                following = batch[f"{branch}_positions"]
                lacking = 1 + max(ahead) - following.shape[1]
                following = torch.cat([following, following[:, -1:].expand(-1, lacking)], 1)
                with torch.no_grad(), self.runtime.autocast():
                    done.append(do(batch, segments, following if self.drawn else following[:, :1]))
                order += some
        back = torch.argsort(torch.tensor(order))
        return Compressed.concat(done).select(back)

    def _compress(self, batch: Batch, segments: int, following: Tensor) -> Compressed:
        chosen = self.config.compress
        apart = chosen.segments == 1 or chosen.join == "concatenate"
        if segments == chosen.segments or not apart:
            return self.model.compress(batch, following=following, segments=segments)
        # segments that do not see one another are rows of one pass
        rows = _apart(batch.tensors, segments)
        longest, count = rows["context"].shape[1], len(rows["context"])
        step = max(1, AT_ONCE // longest)
        made = [
            self.model.compress({name: tensor[start : start + step] for name, tensor in rows.items()}, segments=1)
            for start in range(0, count, step)
        ]
        whole, size = Compressed.concat(made), len(batch)
        parts = [whole.select(range(start, start + size)) for start in range(0, count, size)]
        return replace(Compressed.join(parts), following=following)


class _Do(Protocol):
    """(batch, segments, positions `[B, F]` of what follows) -> what is kept."""

    def __call__(self, batch: Batch, segments: int, following: Tensor, /) -> Compressed: ...


def _apart(tensors: Mapping[str, Tensor], segments: int) -> dict[str, Tensor]:
    """Return segments as rows `[N * B]`, those of the first segment first."""
    texts: dict[str, list[Tensor]] = {"context": [], "context_positions": []}
    for part in range(segments):
        own = tensors["context_seen"] & (tensors["context_segment"] == part)
        for name, pieces in texts.items():
            pieces += [tensor[mask] for tensor, mask in zip(tensors[name], own, strict=True)]
    rows = {name: pad(pieces) for name, pieces in texts.items()}
    sizes = torch.tensor([len(piece) for piece in texts["context"]], device=rows["context"].device)
    rows["context_seen"] = torch.arange(rows["context"].shape[1], device=sizes.device) < sizes[:, None]
    for name in ("slot_positions", "separator_positions", "memory_positions"):
        if name in tensors:
            rows[name] = torch.cat(tensors[name].chunk(segments, 1))
    return rows


def _portions(members: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Yield neighbours together, as many as have AT_ONCE tokens with their padding; sizes ascend."""
    some: list[int] = []
    for member, size in zip(members, sizes, strict=True):
        if some and size * (len(some) + 1) > AT_ONCE:
            yield some
            some = []
        some.append(member)
    yield some
