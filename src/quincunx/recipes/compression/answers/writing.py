"""Texts that follow contexts and prompts, batch by batch, as a run was trained to write them.

B rows, P tokens of a prompt, T tokens that are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from quincunx.data.batch import pad
from quincunx.errors import UsageError
from quincunx.recipes.compression.answers.contexts import SEED, Contexts
from quincunx.recipes.compression.answers.generate import Generated, Sampling, generate
from quincunx.recipes.compression.answers.vocabulary import Vocabulary
from quincunx.recipes.compression.kinds import lengths, slots
from quincunx.recipes.compression.model.compressed import Compressed
from quincunx.recipes.compression.model.layout import BRANCHES
from quincunx.recipes.compression.shapes import evaluation_shaping
from quincunx.recipes.compression.shaping import Item, Numbering
from quincunx.seeds import address

ROWS = 32
"""Texts that are written at once."""


class Written(NamedTuple):
    """A text, and how it came out."""

    text: str
    tokens: list[int]
    """Its ids, that of the end left out."""
    ended: bool
    """Whether it ended by itself."""


@dataclass(frozen=True)
class Writer:
    """A model that writes."""

    contexts: Contexts
    vocabulary: Vocabulary

    def write(
        self,
        name: str,
        compressed: Compressed | None,
        prompts: Sequence[Tensor] | None,
        most: int,
        sampling: Sampling,
        seed: int,
    ) -> list[Written]:
        """Return what follows each context and prompt.

        Args:
            name: The branch that is written.
            compressed: What it sees; None: its prompt alone.
            prompts: Token ids `[P]` of each; None: there are none.
            most: T.
            sampling: How tokens are chosen.
            seed: Of chance.

        Raises:
            UsageError: As many prompts as there are not contexts, or positions do not reach.
        """
        lead = self.vocabulary.before_texts if name != "reconstruction" else self.vocabulary.before_texts[:0]
        rows = len(compressed) if compressed is not None else len(prompts or ())
        if prompts is not None and len(prompts) != rows:
            raise UsageError(f"there are {rows} contexts and {len(prompts)} prompts: give one for all, or one for each")
        begun = [torch.cat([lead, prompt]) for prompt in prompts or [lead[:0]] * rows]
        found: list[Written] = []
        for start in range(0, rows, ROWS):
            some = range(start, min(start + ROWS, rows))
            keys = torch.tensor([address(seed, "write", row) for row in some])
            part = None if compressed is None else compressed.select(some)
            made = self._some(name, part, begun[some.start : some.stop], most, sampling, keys, self.vocabulary.end)
            for tokens, length, ended in zip(
                made.tokens.cpu(), made.lengths.tolist(), made.ended.tolist(), strict=True
            ):
                ids: list[int] = tokens[:length].tolist()
                found.append(Written(self.vocabulary.text(ids), ids, ended))
        return found

    def retell(self, compressed: Compressed, sizes: Sequence[int]) -> list[Tensor]:
        """Return the likeliest tokens of each context told again, as many as it had; none ends before."""
        found: list[Tensor] = []
        for start in range(0, len(sizes), ROWS):
            some = range(start, min(start + ROWS, len(sizes)))
            own = sizes[some.start : some.stop]
            empty = [torch.zeros(0, dtype=torch.int64)] * len(own)
            made = self._some("reconstruction", compressed.select(some), empty, max(own), Sampling(), None, None)
            found += [tokens[:size] for tokens, size in zip(made.tokens.cpu(), own, strict=True)]
        return found

    def _some(
        self,
        name: str,
        compressed: Compressed | None,
        prompts: Sequence[Tensor],
        most: int,
        sampling: Sampling,
        keys: Tensor | None,
        end: int | None,
    ) -> Generated:
        model, runtime = self.contexts.model, self.contexts.runtime
        sizes = torch.tensor([len(prompt) for prompt in prompts])
        count = int(BRANCHES[name].start is not None) + int(sizes.max()) + most
        self._check(compressed, count)
        positions = None if compressed is not None else self._positions(name, prompts, most, count)
        words = pad(prompts)
        with torch.no_grad(), runtime.autocast():
            return generate(
                model,
                compressed,
                most=most,
                branch=name,
                prompt=words.to(runtime.device),
                prompt_seen=(torch.arange(words.shape[1]) < sizes[:, None]).to(runtime.device),
                positions=positions,
                sampling=sampling,
                keys=keys,
                end=end,
                padding=self.vocabulary.padding,
            )

    def _check(self, compressed: Compressed | None, count: int) -> None:
        """Refuse what positions do not reach to."""
        if compressed is None:
            return
        known, room = compressed.following.shape[1], self.contexts.room
        if known == 1 and room is not None:
            known = room - int(compressed.following.max())
        elif known == 1:
            return
        if count > known:
            drawn = "; compress with more ahead" if self.contexts.drawn else ""
            raise UsageError(
                f"after these contexts there are positions for {known:,} tokens, and prompt and text take {count:,} "
                f"with the start: ask for fewer{drawn}"
            )

    def _positions(self, name: str, prompts: Sequence[Tensor], most: int, count: int) -> Tensor:
        """Return where texts without any context stand, `[B, count]`: where those of training do."""
        config = self.contexts.config
        shaping = evaluation_shaping(config, max(slots(config), default=0), (name,))
        # a text that sees nothing is numbered as one that follows a context
        context = torch.zeros(0 if name == "plain" else lengths(config)[0], dtype=torch.int64)
        filler = torch.zeros(most, dtype=torch.int64)
        items = [Item(context, torch.cat([prompt, filler])) for prompt in prompts]
        rows = [address(SEED, "prompt", prompt.numpy().tobytes().hex()) for prompt in prompts]
        if (room := self.contexts.room) is not None:
            ranks = replace(shaping, numbering=Numbering())(items, rows, rows, SEED)[f"{name}_positions"]
            if (over := int(ranks.max()) + 1 - room) > 0:
                raise UsageError(
                    f"the model has {room:,} positions, {over:,} fewer than the prompt and {most:,} tokens take: ask "
                    "for fewer, or shorten the prompt"
                )
        places = shaping(items, rows, rows, SEED)[f"{name}_positions"]
        lacking = count - places.shape[1]
        return places if lacking <= 0 else torch.cat([places, places[:, -1:].expand(-1, lacking)], 1)
