"""Blotching as a config describes it, done to the texts of a batch.

B batch, S sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from quincunx.data.batch import pad
from quincunx.recipes.compression import blotch


@dataclass(frozen=True)
class Texts:
    """Padded texts, and what is left of them."""

    tokens: Tensor
    """`[B, S]` int64."""
    lengths: Tensor
    """`[B]` int64: tokens of each, those left out included."""
    keep: Tensor
    """`[B, S]` bool: what is seen; False for padding."""
    wanted: Tensor
    """`[B, S]` bool: which tokens are to be predicted."""

    @classmethod
    def of(cls, texts: Sequence[Tensor], given: Sequence[int] | None = None) -> Texts:
        """Return texts as they are; `given` says how many of the first tokens of each are not to be predicted."""
        lengths = torch.tensor([len(text) for text in texts], dtype=torch.int64)
        tokens = pad(texts)
        places = torch.arange(tokens.shape[1])
        keep = places < lengths[:, None]
        wanted = keep if given is None else keep & (places >= torch.tensor(given, dtype=torch.int64)[:, None])
        return cls(tokens, lengths, keep, wanted)

    @property
    def left(self) -> Tensor:
        """`[B]`: tokens of each that are seen."""
        return self.keep.sum(1)

    def targets(self, start: bool) -> Tensor:
        """Return what each token is to predict: the next one that is seen, where that is wanted, `[B, start + S]`."""
        following = blotch.targets(self.tokens, self.keep, self.lengths, start=start)
        wanted = blotch.targets(self.wanted.long(), self.keep, self.lengths, start=start) == 1
        return following.masked_fill(~wanted, blotch.UNTRAINED)

    def excised(self) -> Texts:
        """Return the texts without what is not seen."""
        cut = blotch.excise(self.keep)
        return Texts(cut.take(self.tokens), cut.lengths, cut.inside, cut.take(self.wanted, fill=False))

    def led_by(self, first: Tensor) -> Texts:
        """Return the texts with a token `[B]` before each, which is shown and not predicted."""
        shown = torch.ones(len(first), 1, dtype=torch.bool)
        return Texts(
            torch.cat([first[:, None], self.tokens], 1),
            self.lengths + 1,
            torch.cat([shown, self.keep], 1),
            torch.cat([~shown, self.wanted], 1),
        )


@dataclass(frozen=True)
class Curriculum:
    """A share that rises; see `blotch.curriculum`."""

    updates: int
    initial: float = 0.0
    begin: int = 0
    stages: int | None = None


@dataclass(frozen=True)
class Blotching:
    """What is left out, how much, and how."""

    p: float = 0.0
    levels: Sequence[float] = ()
    """Shares of which each text draws its own, in place of `p`."""
    level_tokens: Sequence[int] = ()
    """Token ids that tell the level drawn, put before the text; none: it is not told."""
    separators: Sequence[int] = ()
    """Token ids that end a step."""
    spans: Literal["none", "fixed", "geometric"] = "none"
    span_length: float = 16
    spacing: Literal["random", "equal", "geometric"] = "random"
    mean_run: float = 3.0
    contiguous: bool = True
    step: int | None = None
    token_p: float = 0.0
    form: Literal["mask", "excise"] = "mask"
    curriculum: Curriculum | None = None

    def at(self, update: int) -> Blotching:
        """Return the blotching of an update (from 0)."""
        rises = self.curriculum
        if rises is None:
            return self
        share = blotch.curriculum(
            update, p=self.p, updates=rises.updates, initial=rises.initial, begin=rises.begin, stages=rises.stages
        )
        return replace(self, p=share, curriculum=None)

    def cut(self, texts: Texts, keys: Tensor) -> blotch.Units:
        """Return the steps of texts; keys as in a call."""
        units = blotch.units(texts.tokens, texts.lengths, list(self.separators))
        if self.spans == "none":
            return units
        random = keys if self.spans == "geometric" else None
        width = texts.tokens.shape[1]
        return blotch.either(units, blotch.spans(texts.lengths, width, self.span_length, keys=random))

    def draw(self, keys: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the level that each text draws `[B]`, None without levels, and how much of it is left out `[B]`."""
        if not self.levels:
            return None, torch.full((len(keys),), self.p, dtype=torch.float64)
        drawn = blotch.draw_levels(keys, len(self.levels))
        return drawn, blotch.shares(drawn, self.levels)

    def __call__(self, texts: Texts, keys: Tensor) -> Texts:
        """Return the texts with what is left out; keys `[B]` int64, one a row."""
        units = self.cut(texts, keys)
        drawn, shares = self.draw(keys)
        keep = blotch.choose(
            units,
            shares,
            keys=keys,
            spacing=self.spacing,
            contiguous=self.contiguous,
            mean_run=self.mean_run,
            step=self.step,
            token_p=self.token_p,
        )
        found = replace(texts, keep=keep & texts.keep)
        if self.form == "excise":
            found = found.excised()
        if drawn is not None and self.level_tokens:
            found = found.led_by(torch.tensor(self.level_tokens, dtype=torch.int64)[drawn])
        return found
