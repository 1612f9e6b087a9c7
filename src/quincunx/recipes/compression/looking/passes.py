"""Who sees whom in the passes that a batch's row takes, drawn from the config and the row alone, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quincunx.recipes.compression.config import CompressionConfig
from quincunx.recipes.compression.kinds import compresses
from quincunx.recipes.compression.looking.gloss import Words, cut
from quincunx.recipes.compression.model import layout
from quincunx.recipes.compression.model.layout import BRANCHES, Tokens
from quincunx.recipes.compression.model.masks import Sight, picture

DRAWN = 44
"""Tokens of a pass that are drawn: more of them do not fit beside one another."""
LETTERS = 10
"""Of a word beside its row."""

Piece = tuple[Tokens, list[str]]
"""Tokens, and a word for each."""


@dataclass(frozen=True)
class Drawn:
    """The picture of a pass."""

    name: str
    """Which pass, where there are several."""
    picture: str
    notes: Sequence[str] = ()


def passes(config: CompressionConfig, tensors: Mapping[str, Tensor], names: Sequence[str], words: Words) -> list[Drawn]:
    """Return the pictures of the passes of one row, its sliding windows left aside.

    Args:
        config: A decided config.
        tensors: A batch's, of one row without padding.
        names: The branches that it has.
        words: The vocabulary.
    """
    row = _Row(config, tensors, words)
    sight = Sight()
    if compresses(config):
        sight = Sight(config.compress.mutual, config.compress.join, config.compress.segments)
    if not compresses(config) or config.compress.readout == "kv":
        return [_draw("", [*row.trunk(names), *row.branches(names)], sight, [_legend(names)])]
    pooled = config.compress.readout == "mean_pool"
    notes = ["each pooled window is the mean of its tokens' states"] if pooled else []
    found = [_draw(", first pass", row.trunk(("forward",), slots=not pooled), sight, notes)]
    for sees, name in (("compressed", ""), ("nothing", ", without a context"), ("context", ", with all of it")):
        some = [each for each in names if BRANCHES[each].sees == sees]
        if not some:
            continue
        before = [row.memory()] if sees == "compressed" else row.trunk(some)
        found.append(_draw(name or ", second pass", [*before, *row.branches(some)], sight, [_legend(some)]))
    return found


@dataclass(frozen=True)
class _Row:
    """One row's tokens in the parts that passes are made of."""

    config: CompressionConfig
    tensors: Mapping[str, Tensor]
    words: Words

    def trunk(self, names: Sequence[str], *, slots: bool = True) -> list[Piece]:
        """Return what branches of these names see, and what that is computed from."""
        sees = {BRANCHES[name].sees for name in names}
        chosen, found = self.config.compress, list[Piece]()
        if "compressed" in sees:
            found.append(self._context(whole=False))
            after, causal = len(found[0][0]), self.config.model.causal
            if slots and "separator_positions" in self.tensors:
                at = self.tensors["separator_positions"]
                found.append((layout.separators(at, after), _named("SEP", at)))
            if slots:
                at = self.tensors["slot_positions"]
                tokens = layout.slots(at, chosen.segments, after, causal=causal)
                found.append((tokens, _named("CMP", at)))
        if "context" in sees and not (found and chosen.segments == 1):
            found.append(self._context(whole=True))
        return found

    def memory(self) -> Piece:
        """Return what a second pass is given of the first."""
        at = self.tensors.get("memory_positions", self.tensors["slot_positions"])
        words, segments = _named("CMP", at), self.config.compress.segments
        if segments > 1 and self.config.compress.join == "recurrent":  # then texts see the last segment's alone
            first = at.shape[1] - at.shape[1] // segments
            at, words = at[:, first:], words[first:]
        return layout.memory(torch.ones_like(at, dtype=torch.bool), at), words

    def branches(self, names: Sequence[str]) -> list[Piece]:
        found: list[Piece] = []
        for number, name in enumerate(names):
            seen, positions = self.tensors[f"{name}_seen"], self.tensors[f"{name}_positions"]
            tokens = layout.branch(name, number, seen, positions, causal=self.config.model.causal)
            words = self._words(f"{name}_tokens")
            found.append((tokens, words if BRANCHES[name].start is None else ["START", *words]))
        return found

    def _context(self, *, whole: bool) -> Piece:
        segment = None if whole else self.tensors.get("context_segment")
        stream = layout.WHOLE if whole else layout.TRUNK
        seen, positions = self.tensors["context_seen"], self.tensors["context_positions"]
        tokens = layout.context(seen, positions, segment, causal=self.config.model.causal, stream=stream)
        return tokens, self._words("context")

    def _words(self, name: str) -> list[str]:
        return [cut(self.words.cell(number), LETTERS) for number in self.tensors[name][0].tolist()]


def _legend(names: Sequence[str]) -> str:
    """Say which letter stands for which branch; those of the trunk are plain from the words beside them."""
    told = ", ".join(f"{letter} {name}" for letter, name in zip("xyzuvw", names, strict=False))
    return f"rows see columns where # is, nobody sees columns of -; > a start, {told}"


def _named(word: str, positions: Tensor) -> list[str]:
    return [f"{word} {number + 1}" for number in range(positions.shape[1])]


def _draw(name: str, pieces: Sequence[Piece], sight: Sight, notes: Sequence[str] = ()) -> Drawn:
    """Return a picture of the first tokens of each part, as many as fit."""
    tokens = layout.joined([each for each, _ in pieces])
    words = [word for _, some in pieces for word in some]
    sizes = [len(span) for span in tokens.spans]
    most = max(sizes)
    while most > 1 and sum(min(size, most) for size in sizes) > DRAWN:
        most -= 1
    if most < max(sizes):
        parts = [replace(span, stop=min(span.stop, span.start + most)) for span in tokens.spans]
        words = [word for span in parts for word in words[span.start : span.stop]]
        tokens = layout.picked(tokens, parts)
        notes = [*notes, f"the first {most} tokens of each part, of {sum(sizes)} in all"]
    return Drawn(name, picture(tokens, sight, words=words), notes)
