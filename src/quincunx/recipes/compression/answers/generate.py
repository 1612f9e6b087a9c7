"""Text that goes on from a compressed context, or from a plain one, token by token.

Positions come from outside or are counted on, never from the cache, so a ragged batch has the right ones, and the same
tokens come out with and without the cache. Chance is addressed: token t of a row depends on the row's key and t alone.
B rows, P tokens of the prompt, T tokens generated, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from quincunx.errors import UsageError
from quincunx.nn.pretrained.cache import new_cache
from quincunx.nn.rows import scramble
from quincunx.recipes.compression.model import layout
from quincunx.recipes.compression.model.compressed import Compressed, memory_tokens
from quincunx.recipes.compression.model.compressor import Compressor, Piece
from quincunx.recipes.compression.model.layout import BRANCHES, Tokens


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen."""

    temperature: float = 0.0
    """Logits are divided by it; 0 takes the likeliest token."""
    top_k: int | None = None
    """Only the likeliest so many."""
    top_p: float | None = None
    """Only the fewest likeliest whose probabilities reach this sum, after top_k."""

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise UsageError(f"temperature must not lie below 0, found {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"top_k must be at least 1, found {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"top_p must lie in (0, 1], found {self.top_p}")


@dataclass(frozen=True)
class Generated:
    """What came out."""

    tokens: Tensor
    """`[B, T]` int64; after a row's end, the padding token."""
    lengths: Tensor
    """`[B]`: tokens of each row, its end token not counted."""
    ended: Tensor
    """`[B]` bool: whether it came to an end by itself."""


@torch.no_grad()
def generate(
    model: Compressor,
    compressed: Compressed | None = None,
    *,
    most: int,
    branch: str | None = None,
    prompt: Tensor | None = None,
    prompt_seen: Tensor | None = None,
    positions: Tensor | None = None,
    sampling: Sampling | None = None,
    keys: Tensor | None = None,
    end: int | None = None,
    padding: int = 0,
    cached: bool = True,
) -> Generated:
    """Return texts that follow contexts and prompts; the model is as it was afterwards.

    Args:
        model: The compressor.
        compressed: What the text sees, of `Compressor.compress` or `Compressor.read`; None: its prompt alone.
        most: Tokens to generate at most.
        branch: Its kind: `forward` or `reconstruction` after a context, `plain` or `without` after none. Unset: forward
            where there is a context, else plain.
        prompt: `[B, P]`: tokens that the text begins with; they are on the left of each row.
        prompt_seen: `[B, P]` bool: false for padding. Unset: all are tokens.
        positions: `[B, start + P + most]`: of a row's start, prompt and generated tokens, one after another whatever
            padding lies between. Unset: those that follow the context, or counted from 0.
        sampling: How tokens are chosen. Unset: the likeliest.
        keys: `[B]` int64: what chance depends on; needed with a temperature.
        end: Token at which a text ends; None: none does.
        padding: Token that fills up rows that have ended.
        cached: Keep keys and values of tokens that were read; false reads everything again for each token.

    Raises:
        UsageError: A branch that does not suit, a plain text without a prompt or of a model that reads both ways, no
            keys for chance, or too few positions.
    """
    sampling = sampling or Sampling()
    name = branch or ("plain" if compressed is None else "forward")
    _check(model, compressed, name, prompt, prompt_seen, most)
    if sampling.temperature > 0 and keys is None:
        raise UsageError("sampling with a temperature needs keys: one number for each row, from the seed")
    rows = next(len(each) for each in (compressed, prompt, keys, [None]) if each is not None)
    device = model.device
    words = torch.zeros(rows, 0, dtype=torch.int64) if prompt is None else prompt
    seen = torch.ones_like(words, dtype=torch.bool) if prompt_seen is None else prompt_seen
    text = _Text(model, compressed, name, cached)
    places = _places(compressed, positions, rows, text.start + words.shape[1] + most)
    text.begin(words.to(device), seen.to(device), places.to(device))
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        return _go_on(text, most, sampling, None if keys is None else keys.to(device), end, padding)
    finally:
        for module, training in modes:
            module.training = training


def choose(logits: Tensor, sampling: Sampling, chance: Tensor | None) -> Tensor:
    """Return the next token `[B]` for logits `[B, V]`, by a uniform number in [0, 1) for each row `[B]`."""
    if sampling.temperature == 0 or chance is None:
        return logits.argmax(-1)
    ordered, tokens = torch.sort(logits.double(), dim=-1, descending=True, stable=True)
    shares = (ordered / sampling.temperature).softmax(-1)
    if sampling.top_k is not None:
        shares[:, sampling.top_k :] = 0
    if sampling.top_p is not None:
        shares = shares / shares.sum(-1, keepdim=True)
        shares = shares.masked_fill(shares.cumsum(-1) - shares >= sampling.top_p, 0)
    heights = shares.cumsum(-1)
    place = (heights <= chance[:, None] * heights[:, -1:]).sum(-1, keepdim=True)
    last = (shares > 0).sum(-1, keepdim=True) - 1  # rounding must not lead past the last that may be
    return tokens.gather(1, place.minimum(last))[:, 0]


def chances(keys: Tensor, number: int) -> Tensor:
    """Return a uniform number `[B]`, float64 in [0, 1), for token `number` of rows with these keys `[B]`."""
    words = scramble(scramble(keys) ^ (number + 1))
    return ((words >> 11) & ((1 << 53) - 1)).double() / (1 << 53)


class _Text:
    """Rows that grow by a token at a time, and what the model keeps of them. W columns so far."""

    def __init__(self, model: Compressor, compressed: Compressed | None, name: str, cached: bool) -> None:
        self.model, self.compressed, self.name, self.cached = model, compressed, name, cached
        self.start = int(BRANCHES[name].start is not None)
        self.cache: Any = None
        """Keys and values of all columns but the last, once they were read."""

    def begin(self, words: Tensor, seen: Tensor, places: Tensor) -> None:
        """Set prompts `[B, P]`, and the positions `[B, start + P + T]` of all that is to come."""
        self.words, self.seen, self.places = words, seen, places
        self.prompt, self.lengths = words.shape[1], seen.sum(1)

    def append(self, tokens: Tensor) -> None:
        """Put a token `[B]` behind each row."""
        self.words = torch.cat([self.words, tokens[:, None]], 1)
        self.seen = torch.cat([self.seen, self.seen.new_ones(len(self.seen), 1)], 1)

    def logits(self) -> Tensor:
        """Return `[B, V]`: of what follows each row."""
        text = layout.branch(self.name, 0, self.seen, self._positions(), causal=True)
        states = self._step(text) if self.cache is not None else self._whole(text)
        if self.words.shape[1] > self.prompt:
            return self.model.logits(states[:, -1])
        # a prompt's last token stands where its row's text ends
        return self.model.logits(states[torch.arange(len(states)), self.lengths + self.start - 1])

    def _whole(self, text: Tokens) -> Tensor:
        """Read everything: states `[B, start + W, D]`."""
        embedded, _ = self.model.branch(self.name, self.words, self.seen, text.positions)
        cache, before, pieces = self._context()
        if self.cached:
            self.cache = cache = cache or new_cache()
        states = self.model.run([*pieces, (embedded, text)], cache=cache, before=before).last_hidden_state
        return states[:, states.shape[1] - len(text) :]

    def _step(self, text: Tokens) -> Tensor:
        """Read the last column alone: states `[B, 1, D]`."""
        span = text.spans[0]
        context = None if self.compressed is None else memory_tokens(self.compressed)
        read = layout.picked(text, [replace(span, stop=span.stop - 1)])
        last = layout.picked(text, [replace(span, start=span.stop - 1)])
        before = read if context is None else layout.joined([context, read])
        embedded = self.model.embed(self.words[:, -1:])
        return self.model.run([(embedded, last)], cache=self.cache, before=before).last_hidden_state

    def _context(self) -> tuple[Any, Tokens | None, list[Piece]]:
        if self.compressed is None:
            return None, None, []
        cache, tokens, pieces = self.model.memory(self.compressed)
        return cache, None if cache is None else tokens, pieces

    def _positions(self) -> Tensor:
        """Return where the columns stand, `[B, start + W]`: generated tokens follow a row's own text."""
        ahead = torch.arange(self.start + self.prompt, device=self.words.device).expand(len(self.words), -1)
        grown = torch.arange(self.words.shape[1] - self.prompt, device=self.words.device)
        return self.places.gather(1, torch.cat([ahead, self.start + self.lengths[:, None] + grown], 1))


def _go_on(text: _Text, most: int, sampling: Sampling, keys: Tensor | None, end: int | None, padding: int) -> Generated:
    rows, device = len(text.words), text.words.device
    ended = torch.zeros(rows, dtype=torch.bool, device=device)
    lengths = torch.zeros(rows, dtype=torch.int64, device=device)
    for number in range(most):
        token = choose(text.logits(), sampling, None if keys is None else chances(keys, number))
        if end is not None:
            ended = ended | (token == end)
        token = token.masked_fill(ended, padding)
        lengths += ~ended
        text.append(token)
        if bool(ended.all()):
            break
    return Generated(text.words[:, text.prompt :], lengths, ended)


def _check(
    model: Compressor, compressed: Compressed | None, name: str, prompt: Tensor | None, seen: Tensor | None, most: int
) -> None:
    if name not in BRANCHES:
        raise UsageError(f"unknown branch {name!r}: there are {', '.join(BRANCHES)}")
    if most < 1:
        raise UsageError(f"at least one token is to be generated, found {most}")
    if (BRANCHES[name].sees == "nothing") != (compressed is None):
        raise UsageError(f"the branch {name} {'needs no' if compressed is not None else 'needs a'} context")
    empty = prompt is None or prompt.shape[1] == 0 or (seen is not None and not bool(seen.any(1).all()))
    if BRANCHES[name].start is None:
        if empty:
            raise UsageError("a plain text has no start token: give every row a prompt of one token at least")
        if not model.causal:
            raise UsageError("model.causal is false: plain texts are read both ways, so none can be gone on with")
    if compressed is not None and prompt is not None and len(prompt) != len(compressed):
        raise UsageError(f"there are {len(compressed)} contexts and {len(prompt)} prompts: give one for each")
    if seen is not None and bool((seen[:, 1:] & ~seen[:, :-1]).any()):
        raise UsageError("prompts must stand on the left of their rows, with padding behind them")


def _places(compressed: Compressed | None, positions: Tensor | None, rows: int, count: int) -> Tensor:
    if positions is not None:
        if positions.shape[1] < count:
            raise UsageError(f"{count} positions are needed (start, prompt, generated), found {positions.shape[1]}")
        return positions[:, :count]
    if compressed is not None:
        return compressed.following_positions(count)
    return torch.arange(count).expand(rows, -1)
