"""From examples to a batch as the model takes it: what is left out, what each token is to predict, where each stands.

All that is random is addressed by the batch's seed and the row, so that chunks, processes and resumed runs see the same
texts. B batch, C context, K slots of a segment, N segments, L branch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from quincunx.data.batch import Batch, pad
from quincunx.nn.positions import sampling
from quincunx.recipes.compression import blotch
from quincunx.recipes.compression.blotching import Blotching, Texts
from quincunx.recipes.compression.model.layout import BRANCHES, number
from quincunx.seeds import address

Sample = Literal["none", "integer", "float"]
Style = Literal["continue", "uniform", "restart"]


class Item(NamedTuple):
    """One example, whatever it was made from."""

    context: Tensor
    """Token ids [C] int64; none where nothing is compressed."""
    text: Tensor
    """Token ids [L] of what comes after the context."""
    given: int = 0
    """Tokens of the text, its first ones, that are shown and not predicted."""
    answers: Tensor | None = None
    """[L]: what each place of the text is to say itself, UNTRAINED where nothing; None: each predicts the next."""


@dataclass(frozen=True)
class Numbering:
    """Which numbers tell tokens their places."""

    sample: Sample = "none"
    size: int = 0
    """Numbers there are, where they are sampled."""
    mode: Literal["random", "even", "prefix"] = "random"

    def numbers(self, totals: Tensor, keys: Callable[[], Tensor]) -> Tensor | None:
        """Return the numbers of sequences of so many tokens `[B]` each, `[B, most]`; None where they are counted."""
        if self.sample == "none":
            return None
        most, real = int(totals.max()), self.sample == "float"
        if self.mode == "random":
            return sampling.sample(totals, most, self.size, keys=keys(), continuous=real)
        spread = sampling.even if self.mode == "even" else sampling.prefix
        return spread(totals, most, self.size, continuous=real)


@dataclass(frozen=True)
class Shaping:
    """A `Collate`: items in, tensors for the model out."""

    branches: Sequence[str]
    """Texts that are predicted; see `model.layout.BRANCHES`."""
    slots: Sequence[int] = ()
    """Numbers of compressed tokens; of several each batch draws one."""
    segments: int = 1
    separator: bool = False
    style: Style = "continue"
    numbering: Numbering = field(default_factory=Numbering)
    context_blotching: Blotching | None = None
    text_blotching: Blotching | None = None
    restored: bool = False
    """A blotched context is reconstructed whole."""

    def at(self, update: int) -> Shaping:
        """Return the shaping of an update (from 0): a share that rises is that of the update."""
        context, text = self.context_blotching, self.text_blotching
        return replace(
            self,
            context_blotching=None if context is None else context.at(update),
            text_blotching=None if text is None else text.at(update),
        )

    def __call__(self, examples: Sequence[Item], ids: Sequence[int], rows: Sequence[int], seed: int) -> Batch:
        """Return examples as a batch; see `quincunx.recipes.compression.model.compressor` for its tensors."""
        items = examples

        def keys(purpose: str) -> Tensor:
            return torch.tensor([address(seed, purpose, row) for row in rows], dtype=torch.int64)

        made = _Made()
        contexts = whole = Texts.of([item.context for item in items])
        texts = Texts.of([item.text for item in items], [item.given for item in items])
        first = full = torch.zeros(len(items), dtype=torch.int64)
        if set(self.branches) - {"plain"}:
            if self.context_blotching is not None:
                contexts = self.context_blotching(contexts, keys("blotched context"))
            first, full = self._trunk(made, contexts, self._slots(seed))
        elif contexts.tokens.shape[1]:
            joined = [torch.cat([item.context, item.text[item.given :]]) for item in items]
            texts = Texts.of(joined)
        if self.text_blotching is not None:
            texts = self.text_blotching(texts, keys("blotched text"))
        for name in self.branches:
            if name == "reconstruction":
                made.branch(name, whole if self.restored else contexts, first)
            elif name == "plain" and len(self.branches) > 1:
                joined = [torch.cat([item.context, item.text[item.given :]]) for item in items]
                made.branch(name, Texts.of(joined), first * 0)
            else:
                made.branch(name, texts, full if BRANCHES[name].sees == "context" else first)
        if items and items[0].answers is not None:
            made.tensors["plain_targets"] = pad([item.answers for item in items], blotch.UNTRAINED)  # pyright: ignore[reportArgumentType]
        made.number(self.numbering, lambda: keys("positions"))
        return Batch(
            made.tensors, torch.tensor(rows, dtype=torch.int64), list(ids), made.lengths(), extents=made.extents
        )

    def _slots(self, seed: int) -> int:
        return self.slots[address(seed, "slots") % len(self.slots)]

    def _trunk(self, made: _Made, contexts: Texts, slots: int) -> tuple[Tensor, Tensor]:
        """Put the trunk into a batch and return where branches go on that see it compressed, and whole, `[B]` each."""
        left = contexts.left
        most = max(1, int(left.max()))
        segment = None
        if self.segments > 1:
            places = torch.arange(most)
            segment = (places * self.segments // left.clamp(min=1)[:, None]).clamp(max=self.segments - 1)
        trunk = number(
            left,
            slots,
            longest=most,
            separator=self.separator,
            segment=segment,
            segments=self.segments,
            style=self.style,
        )
        # of tokens that are left out too: nobody sees them, but they have to stand somewhere
        survivor = blotch.ranks(contexts.keep)
        made.put("context", contexts.tokens, contexts.lengths)
        made.put("context_seen", contexts.keep, contexts.lengths)
        made.rank("context_positions", trunk.context.gather(1, survivor), contexts.lengths)
        made.rank("slot_positions", trunk.slots)
        if self.separator:
            made.rank("separator_positions", trunk.separators)
        if self.style == "restart":
            made.rank("memory_positions", trunk.memory)
        if segment is not None:
            made.put("context_segment", segment.gather(1, survivor), contexts.lengths)
        return trunk.branch, trunk.full


@dataclass
class _Made:
    """A batch that is being put together."""

    tensors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    extents: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    ranks: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Places in the count over trunk and branch, by the name of the positions that they become."""

    def put(self, name: str, tensor: Tensor, extent: Tensor | None = None) -> None:
        self.tensors[name] = tensor
        if extent is not None:
            self.extents[name] = extent

    def rank(self, name: str, ranks: Tensor, extent: Tensor | None = None) -> None:
        self.ranks[name] = ranks
        if extent is not None:
            self.extents[name] = extent

    def branch(self, name: str, texts: Texts, first: Tensor) -> None:
        """Put a branch in that begins at the rank `first [B]`."""
        start = BRANCHES[name].start is not None
        self.put(f"{name}_tokens", texts.tokens, texts.lengths)
        self.put(f"{name}_seen", texts.keep, texts.lengths)
        self.put(f"{name}_targets", texts.targets(start), texts.lengths + start)
        ranks = blotch.ranks(texts.keep)
        if start:
            # a text without any token left begins after its start all the same
            ranks = torch.cat([torch.zeros_like(ranks[:, :1]) if ranks.shape[1] else first[:, None] * 0, ranks + 1], 1)
        self.rank(f"{name}_positions", ranks + first[:, None], texts.lengths + start)

    def number(self, numbering: Numbering, keys: Callable[[], Tensor]) -> None:
        """Turn ranks into positions: one draw for all tokens of an example."""
        tables = [ranks for ranks in self.ranks.values() if ranks.shape[1]]
        totals = torch.stack([ranks.amax(1) for ranks in tables]).amax(0) + 1
        drawn = numbering.numbers(totals, keys)
        for name, ranks in self.ranks.items():
            self.tensors[name] = ranks if drawn is None else sampling.lookup(drawn, ranks)

    def lengths(self) -> Tensor:
        """Return the tokens of each example, trunk and branches together, `[B]`."""
        columns = [
            self.extents.get(name, torch.full((len(ranks),), ranks.shape[1])) for name, ranks in self.ranks.items()
        ]
        return torch.stack(columns).sum(0)
