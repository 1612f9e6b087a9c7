"""Texts to vectors: encoded in batches of like length under a budget of tokens, returned in their own order.

N texts, D width, B texts of a batch, S tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quincunx.engine.chunks import cut
from quincunx.engine.runtime import Runtime

TOKENS = 8192
"""Tokens computed at once, padding counted; more is no faster on a CPU, where larger batches leave the caches."""
WINDOW = 2048
"""Texts tokenized and sorted together."""


class Limits(NamedTuple):
    """What is computed at once, at most."""

    tokens: int = TOKENS
    """Padding counted; a longer text is computed by itself."""
    texts: int | None = None
    """Texts, of a cross-encoder pairs; None: as many as the tokens allow."""

    @classmethod
    def of(cls, value: int | Limits) -> Limits:
        """Return limits as they are, and a number as one of tokens alone."""
        return value if isinstance(value, Limits) else cls(value)


Encode = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""`encode(tokens [B, S], lengths [B])` returns tensors `[B, ...]` whose further sizes are always the same."""


class Sequences(Protocol):
    """Token ids by number."""

    @property
    def lengths(self) -> NDArray[np.integer]:
        """Tokens of each text, exact or estimated."""
        ...

    def tokens(self, index: int) -> NDArray[np.int32]:
        """Return a text's token ids."""
        ...


def encode_texts(
    encode: Encode,
    texts: Sequences,
    runtime: Runtime,
    *,
    tokens: int | Limits = TOKENS,
    only: Sequence[int] | None = None,
) -> tuple[Tensor, ...]:
    """Return what `encode` gives for the texts, `[N, ...]` on the CPU, those numbered by `only` or all of them.

    Numbers come as float32, whatever the precision of the model. ValueError where there are no texts.
    """
    numbers = np.arange(len(texts.lengths)) if only is None else np.asarray(only, dtype=np.int64)
    result: tuple[Tensor, ...] = ()
    for places, batch, lengths in batches(texts, numbers, tokens):
        with torch.no_grad(), runtime.autocast():
            found = encode(batch.to(runtime.device), lengths.to(runtime.device))
        found = tuple((part.float() if part.is_floating_point() else part).cpu() for part in found)
        result = result or tuple(torch.empty((len(numbers), *part.shape[1:]), dtype=part.dtype) for part in found)
        for whole, part in zip(result, found, strict=True):
            whole[places] = part
    if not result:
        raise ValueError("there are no texts to encode")
    return result


def batches(
    texts: Sequences, numbers: NDArray[np.int64], limit: int | Limits
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (places in `numbers`, tokens `[B, S]`, lengths `[B]`), longest texts first.

    The longest come first so that what does not fit into memory shows at once. Lengths may be estimates: a window of
    texts is sorted again once it is tokenized.
    """
    most = Limits.of(limit)
    order = np.argsort(-texts.lengths[numbers], kind="stable")
    for start in range(0, len(order), WINDOW):
        window = order[start : start + WINDOW]
        found = [texts.tokens(int(number)) for number in numbers[window]]
        lengths = torch.tensor([len(sequence) for sequence in found])
        for chunk in reversed(cut(len(found), lengths, most.texts, most.tokens) or [torch.arange(len(found))]):
            picked = lengths[chunk]
            batch = np.zeros((len(chunk), max(1, int(picked.max()))), np.int64)
            for row, place in enumerate(chunk.tolist()):
                batch[row, : len(found[place])] = found[place]
            yield torch.from_numpy(window[chunk.numpy()]), torch.from_numpy(batch), picked
